// Activations to 16 or 8 bits in groups of 32, for products with block formats. A warp takes a
// group at a time, a lane a column.
#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/ops_cuda.h"
#include "kernels/quantized_activations.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / kWarpThreads;

WEIR_DEVICE uint32_t WarpMax(uint32_t value) {
  for (uint32_t mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const uint32_t other = ShuffleXor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

// As on the CPU: magnitudes are compared as integers, so that a NaN counts as the largest and
// reaches the output through the scale; a group whose largest is below 2^-100 becomes zero.
WEIR_KERNEL(kThreads, 1) void QuantizeKernel(QuantizeActivationsArgs args) {
  LetNextBegin();
  WaitForPrevious();
  const uint32_t g = BlockX() * kWarps + WarpIndex();
  if (g >= args.columns / 32) return;
  const int32_t most = args.format == ActivationFormat::kQ16 ? kMaxQ16 : kMaxQ8;
  const uint32_t lane = LaneIndex();
  const uint64_t lines =
      (args.columns + CudaQuantizedLine::kColumns - 1) / CudaQuantizedLine::kColumns;
  for (uint64_t t = BlockY(); t < args.tokens; t += BlockCountY()) {
    const float x = args.input[t * args.input_stride + 32 * g + lane];
    const float largest = BitsToFloat(WarpMax(FloatToBits(x) & 0x7FFFFFFF));
    const bool tiny = largest < 0x1p-100f;
    const float scale = tiny ? 0.0f : largest / static_cast<float>(most);
    const float inverse = tiny ? 0.0f : static_cast<float>(most) / largest;
    const int32_t rounded = RoundToInt(x * inverse);
    const int32_t q = rounded < -most ? -most : rounded > most ? most : rounded;
    auto* const line = reinterpret_cast<CudaQuantizedLine*>(args.output) + t * lines + g / 4;
    // The nearest multiple: q has 15 bits, so the float quotient is off by far less than matters.
    const int32_t high = RoundToInt(static_cast<float>(q) * (1.0f / kPlaneBase));
    line->high[g % 4 * 32 + lane] = static_cast<int8_t>(high);
    line->low[g % 4 * 32 + lane] = static_cast<int8_t>(q - kPlaneBase * high);
    float sum = static_cast<float>(q);  // of integers below 2^20: exact in any order
    for (uint32_t mask = 1; mask < 16; mask *= 2) sum += ShuffleXor(sum, mask);
    const float other = ShuffleXor(sum, 16);
    if (lane == 0) line->groups[g % 4] = {scale, sum + other, {sum, other}};
  }
}

}  // namespace

void QuantizeActivationsCuda(CudaStream& stream, const QuantizeActivationsArgs& args) {
  WEIR_CHECK(args.columns % 32 == 0 && args.format != ActivationFormat::kF32);
  WEIR_CHECK(reinterpret_cast<uintptr_t>(args.output) % 64 == 0);
  LaunchShape shape;
  shape.blocks_x = static_cast<uint32_t>(CeilDiv(args.columns / 32, kWarps));
  shape.blocks_y = args.tokens < 65535 ? args.tokens : 65535;
  shape.threads = kThreads;
  shape.early = true;
  Launch(stream, shape, QuantizeKernel, args);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
