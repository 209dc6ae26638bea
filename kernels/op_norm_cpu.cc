#include <cmath>

#include "io/base.h"
#include "kernels/ops_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/op_norm_cpu.cc"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#include "hwy/foreach_target.h"  // first of its kind: compiles this file anew per target
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Four accumulators of N lanes, combined in one fixed order. Each lane adds columns / 4N squares,
// all positive, so the relative error of the sum is below (columns / 4N + 6) * 2^-24.
float SumOfSquares(const float* input, uint32_t columns) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  size_t c = 0;
  for (; c + 4 * lanes <= columns; c += 4 * lanes) {
    const auto v0 = hn::LoadU(d, input + c), v1 = hn::LoadU(d, input + c + lanes);
    const auto v2 = hn::LoadU(d, input + c + 2 * lanes), v3 = hn::LoadU(d, input + c + 3 * lanes);
    sum0 = hn::MulAdd(v0, v0, sum0);
    sum1 = hn::MulAdd(v1, v1, sum1);
    sum2 = hn::MulAdd(v2, v2, sum2);
    sum3 = hn::MulAdd(v3, v3, sum3);
  }
  for (; c + lanes <= columns; c += lanes) {
    const auto v = hn::LoadU(d, input + c);
    sum0 = hn::MulAdd(v, v, sum0);
  }
  const auto sums = hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; c < columns; ++c) sum += input[c] * input[c];
  return sum;
}

void NormGroup(const RmsNormArgs& args, const float* input, float* output) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const float mean = SumOfSquares(input, args.columns) / static_cast<float>(args.columns);
  const float scale = 1.0f / std::sqrt(mean + args.epsilon);
  const auto scales = hn::Set(d, scale);
  size_t c = 0;
  for (; c + lanes <= args.columns; c += lanes) {
    auto v = hn::Mul(hn::LoadU(d, input + c), scales);
    if (args.weight != nullptr) v = hn::Mul(v, hn::LoadU(d, args.weight + c));
    if (args.accumulate) v = hn::Add(v, hn::LoadU(d, output + c));
    hn::StoreU(v, d, output + c);
  }
  for (; c < args.columns; ++c) {
    float v = input[c] * scale;
    if (args.weight != nullptr) v *= args.weight[c];
    output[c] = args.accumulate ? v + output[c] : v;
  }
}

void NormGroups(const RmsNormArgs& args, const WorkShare& share) {
  for (uint64_t i = share.begin; i < share.end; ++i) {
    const uint64_t token = i / args.groups;
    const uint64_t column = i % args.groups * args.columns;
    NormGroup(args, args.input + token * args.input_stride + column,
              args.output + token * args.output_stride + column);
  }
}

}  // namespace weir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(NormGroups);

constexpr uint64_t kLeastElements = 16384;  // 2 us of one core

}  // namespace

void RmsNormCpu(CpuStream& stream, const RmsNormArgs& args) {
  WEIR_CHECK(args.columns > 0);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    HWY_DYNAMIC_DISPATCH(NormGroups)
    (args,
     ShareWork(uint64_t{args.tokens} * args.groups, args.columns, kLeastElements, worker, workers));
  });
}

}  // namespace weir
#endif  // HWY_ONCE
