// Rope: a thread has one pair of columns, makes its sine and cosine once, and turns that pair of
// several heads. At T = 1 it is a few microseconds of launch and latency.
#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kBlockHeads = 8;

struct SineCosine {
  float sine;
  float cosine;
};

// Of any angle below 2^31 pi / 2, right but for the rounding to float32: reduced to [-pi/4, pi/4]
// and summed in double. The Taylor series end with x^13 and x^14: what follows is below 2^-44.
WEIR_DEVICE SineCosine SinCosOf(double angle, double magnitude) {
  const auto quarters = static_cast<int64_t>(angle * 0.6366197723675814 + (angle < 0 ? -0.5 : 0.5));
  // pi / 2 in two parts: the first has trailing zeros, so its product is exact up to 2^27 quarters.
  const auto turned = static_cast<double>(quarters);
  const double x = angle - turned * 0x1.921fb5p+0 - turned * (1.5707963267948966 - 0x1.921fb5p+0);
  const double y = x * x;
  double sine = 1.0 / 6227020800;
  sine = sine * y - 1.0 / 39916800;
  sine = sine * y + 1.0 / 362880;
  sine = sine * y - 1.0 / 5040;
  sine = sine * y + 1.0 / 120;
  sine = sine * y - 1.0 / 6;
  sine = (sine * y + 1.0) * x;
  double cosine = -1.0 / 87178291200;
  cosine = cosine * y + 1.0 / 479001600;
  cosine = cosine * y - 1.0 / 3628800;
  cosine = cosine * y + 1.0 / 40320;
  cosine = cosine * y - 1.0 / 720;
  cosine = cosine * y + 1.0 / 24;
  cosine = cosine * y - 0.5;
  cosine = cosine * y + 1.0;
  const double quarter_sine = quarters % 2 == 0 ? sine : cosine;
  const double quarter_cosine = quarters % 2 == 0 ? cosine : -sine;
  const double sign = (quarters & 2) == 0 ? magnitude : -magnitude;
  return {static_cast<float>(sign * quarter_sine), static_cast<float>(sign * quarter_cosine)};
}

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
  const bool halves = args.layout == RopeLayout::kHalves;
  const auto position = static_cast<float>(args.positions[BlockX()]);
  for (uint32_t i = ThreadIndex() % width; i < pairs; i += width) {
    // The angle is the float32 product, as the models were trained.
    const float angle = position * args.inverse_frequency[i];
    const SineCosine turn = SinCosOf(angle, args.magnitude);
    for (uint32_t h = BlockY() * kBlockHeads + lane; h < end_head; h += lanes) {
      float* const head = token + uint64_t{h} * args.head_columns;
      float* const first = head + (halves ? i : 2 * i);
      float* const second = halves ? first + pairs : first + 1;
      const float x = *first, y = *second;
      *first = x * turn.cosine - y * turn.sine;
      *second = y * turn.cosine + x * turn.sine;
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
