#include <algorithm>

#include "io/base.h"
#include "kernels/dtype.h"
#include "kernels/matmul_cpu.h"
#include "kernels/ops_cpu.h"
#include "kernels/quantized_activations.h"
#include "kernels/work_ranges.h"

namespace weir {
namespace {

// With many tokens a portion takes long enough, and more tiles at once would only leave others
// waiting at the end; but a few of them share their reads of the activations.
WorkPortion TilesAtOnce(uint32_t tokens) {
  if (tokens < kManyTokens) return {};
  return {.least = 2, .most = 8};
}

}  // namespace

bool UsesQuantizedActivations(DType dtype) { return GetDTypeInfo(dtype).block_elements > 1; }

void MatMulCpu(CpuStream& stream, const MatMulArgs& args) {
  WEIR_CHECK((args.input != nullptr) != (args.quantized != nullptr));
  WEIR_CHECK(args.columns % GetDTypeInfo(args.dtype).block_elements == 0);
  WEIR_CHECK(args.quantized == nullptr || UsesQuantizedActivations(args.dtype));
  WEIR_CHECK(args.output_stride >= args.rows || args.tokens <= 1);
  stream.Launch([args](uint32_t worker, uint32_t, CpuStream& cpu) {
    const auto multiply = args.quantized != nullptr ? &MultiplyQuantizedRows : &MultiplyFloatRows;
    const WorkPortion portion = TilesAtOnce(args.tokens);
    WorkRanges& ranges = cpu.ranges();
    ranges.Begin(worker, static_cast<uint32_t>(CeilDiv(args.rows, kTileRows)));
    WorkRange tiles;
    while (ranges.Take(worker, portion, &tiles)) {
      multiply(args, tiles.begin * kTileRows, std::min(args.rows, tiles.end * kTileRows),
               cpu.scratch(worker));
    }
  });
}

}  // namespace weir
