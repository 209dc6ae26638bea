// RmsNorm: one block a group, its sum of squares in one fixed order.
#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kMostThreads = 1024;

// Sum over the block, the same in every thread.
WEIR_DEVICE float BlockSum(float value) {
  WEIR_SHARED float sums[kMostThreads / kWarpThreads];
  value = WarpSum(value);
  if (LaneIndex() == 0) sums[WarpIndex()] = value;
  SyncBlock();
  const uint32_t warps = ThreadCount() / kWarpThreads;
  return WarpSum(LaneIndex() < warps ? sums[LaneIndex()] : 0.0f);
}

WEIR_KERNEL(kMostThreads, 1) void NormKernel(RmsNormArgs args) {
  LetNextBegin();
  WaitForPrevious();
  const uint64_t token = BlockX() / args.groups;
  const uint64_t column = uint64_t{BlockX() % args.groups} * args.columns;
  const float* const input = args.input + token * args.input_stride + column;
  float* const output = args.output + token * args.output_stride + column;
  // A thread adds columns / threads squares, all positive, then ten sums halve their number.
  float sum = 0;
  for (uint32_t c = ThreadIndex(); c < args.columns; c += ThreadCount()) {
    sum = Fma(input[c], input[c], sum);
  }
  const float mean = BlockSum(sum) / static_cast<float>(args.columns);
  const float scale = 1.0f / SquareRoot(mean + args.epsilon);
  for (uint32_t c = ThreadIndex(); c < args.columns; c += ThreadCount()) {
    float value = input[c] * scale;
    if (args.weight != nullptr) value *= args.weight[c];
    output[c] = args.accumulate ? value + output[c] : value;
  }
}

}  // namespace

void RmsNormCuda(CudaStream& stream, const RmsNormArgs& args) {
  WEIR_CHECK(args.columns > 0 && args.groups > 0);
  WEIR_CHECK(uint64_t{args.tokens} * args.groups < (uint64_t{1} << 31));
  LaunchShape shape;
  shape.blocks_x = args.tokens * args.groups;
  // The order of the sum depends on the threads, and they on the columns alone.
  shape.threads = args.columns >= 2048 ? kMostThreads : args.columns >= 512 ? 256 : kWarpThreads;
  shape.early = true;
  Launch(stream, shape, NormKernel, args);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
