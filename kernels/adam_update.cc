#include "kernels/adam_update.h"

#include <algorithm>

#include "io/base.h"
#include "kernels/ops_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adam_update.cc"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class D>
void UpdateAt(D d, const AdamUpdateArgs& args, uint64_t i) {
  const auto gradient = hn::LoadU(d, args.gradient + i);
  const auto first = hn::MulAdd(hn::LoadU(d, args.first_moment + i), hn::Set(d, args.beta1),
                                hn::Mul(gradient, hn::Set(d, 1 - args.beta1)));
  const auto second = hn::MulAdd(hn::LoadU(d, args.second_moment + i), hn::Set(d, args.beta2),
                                 hn::Mul(hn::Mul(gradient, gradient), hn::Set(d, 1 - args.beta2)));
  hn::StoreU(first, d, args.first_moment + i);
  hn::StoreU(second, d, args.second_moment + i);
  const auto root = hn::Sqrt(hn::Mul(second, hn::Set(d, args.second_correction)));
  const auto step = hn::Div(hn::Mul(first, hn::Set(d, args.first_correction * args.learning_rate)),
                            hn::Add(root, hn::Set(d, args.epsilon)));
  hn::StoreU(hn::Sub(hn::LoadU(d, args.weights + i), step), d, args.weights + i);
}

// Tails run through the same vector code, so that elements do not depend on the
// cut.
void UpdateRange(const AdamUpdateArgs& args, uint64_t begin, uint64_t end) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  uint64_t i = begin;
  for (; i + lanes <= end; i += lanes) UpdateAt(d, args, i);
  for (; i < end; ++i) UpdateAt(hn::CappedTag<float, 1>(), args, i);
}

}  // namespace weir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(UpdateRange);

constexpr uint64_t kGrain = 64;  // floats: cache lines that no two workers share
constexpr uint64_t kLeastElements = 4096;

}  // namespace

void AdamUpdate(CpuStream& stream, const AdamUpdateArgs& args) {
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    const WorkShare share =
        ShareWork(CeilDiv(args.count, kGrain), kGrain, kLeastElements, worker, workers);
    HWY_DYNAMIC_DISPATCH(UpdateRange)
    (args, std::min(args.count, share.begin * kGrain), std::min(args.count, share.end * kGrain));
  });
}

}  // namespace weir
#endif  // HWY_ONCE
