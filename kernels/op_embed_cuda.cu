// EmbedRows: the rows are gathered, then decoded as a weight is.
#include <algorithm>

#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/matmul_cuda.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 256;

struct GatherArgs {
  const uint8_t* const* rows;  // of a device; any alignment
  uint8_t* output;             // [tokens, row_bytes]
  uint64_t row_bytes;
};

WEIR_KERNEL(kThreads, 1) void GatherKernel(GatherArgs args) {
  const uint8_t* const row = args.rows[BlockY()];
  for (uint64_t i = BlockX() * kThreads + ThreadIndex(); i < args.row_bytes;
       i += uint64_t{BlockCountX()} * kThreads) {
    args.output[BlockY() * args.row_bytes + i] = row[i];
  }
}

}  // namespace

void EmbedRowsCuda(CudaStream& stream, const EmbedRowsArgs& args) {
  const uint64_t row_bytes = RowBytes(args.dtype, args.columns);
  if (args.tokens == 0) return;
  const uint64_t most = std::min<uint64_t>(stream.scratch_bytes() / row_bytes, 65535);
  WEIR_CHECK(most > 0);
  for (uint64_t t = 0; t < args.tokens; t += most) {
    const auto tokens = static_cast<uint32_t>(std::min<uint64_t>(most, args.tokens - t));
    LaunchShape shape;
    shape.blocks_x = static_cast<uint32_t>(std::min<uint64_t>(CeilDiv(row_bytes, kThreads), 64));
    shape.blocks_y = tokens;
    shape.threads = kThreads;
    Launch(stream, shape, GatherKernel, {args.rows + t, stream.scratch(), row_bytes});
    const DequantizeArgs rows = {args.dtype,   stream.scratch(), tokens,
                                 args.columns, args.columns,     args.scale};
    DequantizeToFloats(stream, rows, args.output + t * args.columns);
  }
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
