#include <algorithm>

#include "io/base.h"
#include "kernels/dtype.h"
#include "kernels/matmul_cpu.h"
#include "kernels/ops_cpu.h"

namespace weir {
namespace {

constexpr uint32_t kTileRows = 16;

// A worker's rows: whole tiles, as equal as they come.
struct RowRange {
  uint32_t begin;
  uint32_t end;
};
RowRange RowsOf(uint32_t rows, uint32_t worker, uint32_t workers) {
  const uint64_t tiles = CeilDiv(rows, kTileRows);
  const uint64_t begin = tiles * worker / workers * kTileRows;
  const uint64_t end = tiles * (worker + 1) / workers * kTileRows;
  return {static_cast<uint32_t>(std::min<uint64_t>(begin, rows)),
          static_cast<uint32_t>(std::min<uint64_t>(end, rows))};
}

}  // namespace

bool UsesQuantizedActivations(DType dtype) { return GetDTypeInfo(dtype).block_elements > 1; }

void MatMulCpu(CpuStream& stream, const MatMulArgs& args) {
  WEIR_CHECK((args.input != nullptr) != (args.quantized != nullptr));
  WEIR_CHECK(args.columns % GetDTypeInfo(args.dtype).block_elements == 0);
  WEIR_CHECK(args.quantized == nullptr || UsesQuantizedActivations(args.dtype));
  WEIR_CHECK(args.output_stride >= args.rows || args.tokens <= 1);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream& cpu) {
    const RowRange rows = RowsOf(args.rows, worker, workers);
    if (rows.begin == rows.end) return;
    const auto multiply = args.quantized != nullptr ? &MultiplyQuantizedRows : &MultiplyFloatRows;
    multiply(args, rows.begin, rows.end, cpu.scratch(worker));
  });
}

}  // namespace weir
