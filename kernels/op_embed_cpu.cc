#include "io/base.h"
#include "kernels/dequantize.h"
#include "kernels/ops_cpu.h"

namespace weir {
namespace {

constexpr uint64_t kLeastElements = 8192;

}  // namespace

void EmbedRowsCpu(CpuStream& stream, const EmbedRowsArgs& args) {
  WEIR_CHECK(args.columns % GetDTypeInfo(args.dtype).block_elements == 0);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    // A row is the smallest piece: one token is one worker's.
    const WorkShare share = ShareWork(args.tokens, args.columns, kLeastElements, worker, workers);
    for (uint64_t token = share.begin; token < share.end; ++token) {
      float* const output = args.output + token * args.columns;
      DequantizeRow(args.dtype, args.rows[token], args.columns, output);
      if (args.scale == 1.0f) continue;
      for (uint32_t c = 0; c < args.columns; ++c) output[c] *= args.scale;
    }
  });
}

}  // namespace weir
