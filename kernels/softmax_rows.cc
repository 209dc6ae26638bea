#include "kernels/softmax_rows.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "io/base.h"
#include "kernels/ops_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/softmax_rows.cc"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#include "hwy/foreach_target.h"  // first of its kind: compiles this file anew per target
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class D>
hn::Vec<D> Scaled(D d, const float* at, float scale, float soft_cap) {
  const auto scaled = hn::Mul(hn::LoadU(d, at), hn::Set(d, scale));
  if (soft_cap <= 0) return scaled;
  const auto cap = hn::Set(d, soft_cap);
  return hn::Mul(cap, hn::Tanh(d, hn::Div(scaled, cap)));
}

// Calls at(d, i) for all of [0, count), a vector and then an element at a time.
template <class Visit>
void ForVectors(uint64_t count, const Visit& visit) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  uint64_t i = 0;
  for (; i + lanes <= count; i += lanes) visit(d, i);
  for (; i < count; ++i) visit(hn::CappedTag<float, 1>(), i);
}

void SoftmaxRow(float* row, uint64_t count, float scale, float soft_cap) {
  const hn::ScalableTag<float> wide;
  const size_t lanes = hn::Lanes(wide);
  auto maxima = hn::Set(wide, std::numeric_limits<float>::lowest());
  uint64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto score = Scaled(wide, row + i, scale, soft_cap);
    hn::StoreU(score, wide, row + i);
    maxima = hn::Max(maxima, score);
  }
  float max = hn::GetLane(hn::MaxOfLanes(wide, maxima));
  for (; i < count; ++i) {
    const hn::CappedTag<float, 1> one;
    row[i] = hn::GetLane(Scaled(one, row + i, scale, soft_cap));
    max = std::max(max, row[i]);
  }
  auto sums = hn::Zero(wide);
  for (i = 0; i + lanes <= count; i += lanes) {
    const auto power = hn::Exp(wide, hn::Sub(hn::LoadU(wide, row + i), hn::Set(wide, max)));
    hn::StoreU(power, wide, row + i);
    sums = hn::Add(sums, power);
  }
  float sum = hn::GetLane(hn::SumOfLanes(wide, sums));
  for (; i < count; ++i) {
    const hn::CappedTag<float, 1> one;
    row[i] = hn::GetLane(hn::Exp(one, hn::Set(one, row[i] - max)));
    sum += row[i];
  }
  const float factor = 1 / sum;
  ForVectors(count, [&](auto d, uint64_t at) {
    hn::StoreU(hn::Mul(hn::LoadU(d, row + at), hn::Set(d, factor)), d, row + at);
  });
}

}  // namespace weir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(SoftmaxRow);

}  // namespace

void SoftmaxRows(CpuStream& stream, const SoftmaxRowsArgs& args) {
  WEIR_CHECK(args.tokens > 0 && args.columns > 0);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    // By turns: later tokens have longer rows.
    for (uint64_t r = worker; r < args.rows; r += workers) {
      float* const row = args.scores + r * args.columns;
      const uint64_t count = std::min<uint64_t>(
          args.columns, static_cast<uint64_t>(args.positions[r % args.tokens]) + 1);
      HWY_DYNAMIC_DISPATCH(SoftmaxRow)(row, count, args.scale, args.soft_cap);
      std::memset(row + count, 0, (args.columns - count) * sizeof(float));
    }
  });
}

}  // namespace weir
#endif  // HWY_ONCE
