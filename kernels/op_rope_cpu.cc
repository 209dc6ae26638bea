#include "io/base.h"
#include "kernels/ops_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/op_rope_cpu.cc"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#include "hwy/foreach_target.h"  // first of its kind: compiles this file anew per target
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// cosines[i], sines[i] = magnitude * cos, sin(angle). The angle is the float32 product, as the
// models were trained and as PyTorch computes it; its cosine and sine are taken in double after a
// reduction to
// [-pi, pi], so that only the rounding to float32 is left of the error, at any position below 2^31.
template <class D>
HWY_INLINE void AngleTable(D d, float position, const float* frequency, float magnitude,
                           float* cosines, float* sines) {
  const hn::Rebind<float, D> df;
  const auto angle = hn::PromoteTo(d, hn::Mul(hn::Set(df, position), hn::LoadU(df, frequency)));
  const auto turns = hn::Round(hn::Mul(angle, hn::Set(d, 0.15915494309189535)));
  // 2 pi in two parts: the first has trailing zeros, so turns * kHigh is exact up to 2^25 turns.
  auto reduced = hn::NegMulAdd(turns, hn::Set(d, 0x1.921fb5p+2), angle);
  reduced = hn::NegMulAdd(turns, hn::Set(d, 6.283185307179586232 - 0x1.921fb5p+2), reduced);
  const auto factor = hn::Set(df, magnitude);
  hn::StoreU(hn::Mul(factor, hn::DemoteTo(df, hn::Cos(d, reduced))), df, cosines);
  hn::StoreU(hn::Mul(factor, hn::DemoteTo(df, hn::Sin(d, reduced))), df, sines);
}

void AngleTables(float position, const float* inverse_frequency, uint32_t pairs, float magnitude,
                 float* cosines, float* sines) {
  const hn::ScalableTag<double> d;
  const size_t lanes = hn::Lanes(d);
  uint32_t i = 0;
  for (; i + lanes <= pairs; i += lanes) {
    AngleTable(d, position, inverse_frequency + i, magnitude, cosines + i, sines + i);
  }
  for (; i < pairs; ++i) {
    AngleTable(hn::CappedTag<double, 1>(), position, inverse_frequency + i, magnitude, cosines + i,
               sines + i);
  }
}

void RotateHalves(float* head, uint32_t pairs, const float* cosines, const float* sines) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  uint32_t i = 0;
  for (; i + lanes <= pairs; i += lanes) {
    const auto x = hn::LoadU(d, head + i), y = hn::LoadU(d, head + pairs + i);
    const auto c = hn::LoadU(d, cosines + i), s = hn::LoadU(d, sines + i);
    hn::StoreU(hn::Sub(hn::Mul(x, c), hn::Mul(y, s)), d, head + i);
    hn::StoreU(hn::Add(hn::Mul(y, c), hn::Mul(x, s)), d, head + pairs + i);
  }
  for (; i < pairs; ++i) {
    const float x = head[i], y = head[pairs + i];
    head[i] = x * cosines[i] - y * sines[i];
    head[pairs + i] = y * cosines[i] + x * sines[i];
  }
}

void RotateInterleaved(float* head, uint32_t pairs, const float* cosines, const float* sines) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  uint32_t i = 0;
  for (; i + lanes <= pairs; i += lanes) {
    hn::Vec<decltype(d)> x, y;
    hn::LoadInterleaved2(d, head + 2 * i, x, y);
    const auto c = hn::LoadU(d, cosines + i), s = hn::LoadU(d, sines + i);
    hn::StoreInterleaved2(hn::Sub(hn::Mul(x, c), hn::Mul(y, s)),
                          hn::Add(hn::Mul(y, c), hn::Mul(x, s)), d, head + 2 * i);
  }
  for (; i < pairs; ++i) {
    const float x = head[2 * i], y = head[2 * i + 1];
    head[2 * i] = x * cosines[i] - y * sines[i];
    head[2 * i + 1] = y * cosines[i] + x * sines[i];
  }
}

// Tokens [share.begin, share.end); `table` has room for rotary_columns floats.
void RopeTokens(const RopeArgs& args, const WorkShare& share, float* table) {
  const uint32_t pairs = args.rotary_columns / 2;
  float* const sines = table + pairs;
  for (uint64_t token = share.begin; token < share.end; ++token) {
    AngleTables(static_cast<float>(args.positions[token]), args.inverse_frequency, pairs,
                args.magnitude, table, sines);
    float* head = args.data + token * args.stride;
    for (uint32_t h = 0; h < args.heads; ++h, head += args.head_columns) {
      if (args.layout == RopeLayout::kHalves) {
        RotateHalves(head, pairs, table, sines);
      } else {
        RotateInterleaved(head, pairs, table, sines);
      }
    }
  }
}

}  // namespace weir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(RopeTokens);

constexpr uint64_t kLeastElements = 8192;

}  // namespace

void RopeCpu(CpuStream& stream, const RopeArgs& args) {
  WEIR_CHECK(args.rotary_columns % 2 == 0 && args.rotary_columns <= args.head_columns);
  WEIR_CHECK(args.rotary_columns * sizeof(float) <= CpuStream::kScratchBytes);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream& self) {
    const uint64_t token_elements = uint64_t{args.heads} * args.head_columns;
    HWY_DYNAMIC_DISPATCH(RopeTokens)
    (args, ShareWork(args.tokens, token_elements, kLeastElements, worker, workers),
     reinterpret_cast<float*>(self.scratch(worker)));
  });
}

}  // namespace weir
#endif  // HWY_ONCE
