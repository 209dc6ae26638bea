// Rope: a thread has one pair of columns, makes its sine and cosine once, and turns that pair of
// several heads. At T = 1 it is a few microseconds of launch and latency.
#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/head_columns_cuda.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kBlockHeads = 8;

// Blocks: x a token, y kBlockHeads heads.
WEIR_KERNEL(kThreads, 1) void RopeKernel(RopeArgs args) {
  const uint32_t pairs = args.rotary_columns / 2;
  const uint32_t width = pairs < kThreads ? pairs : kThreads;
  const uint32_t lanes = kThreads / width;  // heads at once
  const uint32_t lane = ThreadIndex() / width;
  if (lane >= lanes) return;
  const uint32_t end = (BlockY() + 1) * kBlockHeads;
  const uint32_t end_head = end < args.heads ? end : args.heads;
  float* const token = args.data + BlockX() * args.stride;
  for (uint32_t i = ThreadIndex() % width; i < pairs; i += width) {
    const SineCosine turn =
        TurnOf(args.positions[BlockX()], args.inverse_frequency[i], args.magnitude);
    for (uint32_t h = BlockY() * kBlockHeads + lane; h < end_head; h += lanes) {
      float* const head = token + uint64_t{h} * args.head_columns;
      const ColumnPair at = PairOf(args.layout, pairs, i);
      const Rotated rotated = Rotate(head[at.first], head[at.second], turn);
      head[at.first] = rotated.first;
      head[at.second] = rotated.second;
    }
  }
}

}  // namespace

void RopeCuda(CudaStream& stream, const RopeArgs& args) {
  WEIR_CHECK(args.rotary_columns % 2 == 0 && args.rotary_columns <= args.head_columns);
  if (args.rotary_columns == 0) return;
  LaunchShape shape;
  shape.blocks_x = args.tokens;
  shape.blocks_y = static_cast<uint32_t>(CeilDiv(args.heads, kBlockHeads));
  shape.threads = kThreads;
  Launch(stream, shape, RopeKernel, args);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
