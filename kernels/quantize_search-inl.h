// The search for scales that all block formats share, on eight groups of weights at once: a lane
// is a group. Included once for each instruction set; part of kernels/quantize_blocks.cc.
//
// A group x[0..n) is to become x ~ scale * code + offset with integer codes. Nearest codes for a
// given scale and offset are a matter of rounding; for given codes the best scale and offset are
// the solution of linear least squares. Alternating between both never makes the error larger, but
// ends in the nearest dip, so it is begun from several scales and the best end is kept.
#if defined(WEIR_KERNELS_QUANTIZE_SEARCH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_QUANTIZE_SEARCH_INL_H_
#undef WEIR_KERNELS_QUANTIZE_SEARCH_INL_H_
#else
#define WEIR_KERNELS_QUANTIZE_SEARCH_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/targets.h"
#include "kernels/unpack-inl.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

// What a format adds to scale * code.
enum class OffsetKind : uint8_t {
  kNone,
  kAny,
  kNotPositive,  // the K formats subtract a minimum that is at least zero
};

using VF = hn::VFromD<F32x8>;
constexpr uint32_t kLanes = 8;

inline VF Splat(float value) { return hn::Set(F32x8(), value); }
inline VF Load8(const float* from) { return hn::LoadU(F32x8(), from); }
// A group of zeros has a scale of zero, and its codes are those nearest to zero.
inline VF DivideOrZero(VF a, VF b) {
  const auto usable = hn::Gt(hn::Abs(b), Splat(0));
  return hn::IfThenElseZero(usable, hn::Div(a, hn::IfThenElse(usable, b, Splat(1))));
}
// Over the lanes, in order: libraries differ in theirs.
inline float Sum(VF v) {
  alignas(32) float lanes[kLanes];
  hn::Store(v, F32x8(), lanes);
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}
inline float Greatest(VF v) {
  alignas(32) float lanes[kLanes];
  hn::Store(v, F32x8(), lanes);
  return *std::max_element(lanes, lanes + kLanes);
}
// To float16 and back: what a block will hold.
inline VF RoundToHalf(VF v) {
  return VF{_mm256_cvtph_ps(_mm256_cvtps_ph(v.raw, _MM_FROUND_TO_NEAREST_INT))};
}
// Nearest, ties to even.
inline uint16_t HalfBits(float value) {
  const __m128i half = _mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT);
  return static_cast<uint16_t>(_mm_extract_epi16(half, 0));
}
inline void StoreHalf(float value, uint8_t out[2]) {
  const uint16_t bits = HalfBits(value);
  memcpy(out, &bits, sizeof(bits));
}
inline float ToHalfAndBack(float value) {
  uint8_t half[2];
  StoreHalf(value, half);
  return HalfToFloat(half);
}

// A lane's group in x[element * kLanes + lane].
template <uint32_t kElements>
void Transpose(const float* groups, float* x) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    for (uint32_t i = 0; i < kElements; ++i) x[i * kLanes + lane] = groups[lane * kElements + i];
  }
}

struct ScaleAndOffset {
  VF scale, offset;
};

// What rounding with one scale and offset gives: the squared error, and the sums that the best
// scale and offset for these codes follow from.
struct Rounded {
  VF error;
  VF q, qq, xq;  // sums of code, code^2, x * code
};

// Code of x: nearest to (x - offset) / scale within the format's range.
template <typename Form>
VF NearestCode(VF x, VF inverse, VF offset) {
  const VF exact = hn::Mul(hn::Sub(x, offset), inverse);
  return hn::Min(hn::Max(hn::Round(exact), Splat(Form::kLow)), Splat(Form::kHigh));
}

template <typename Form>
Rounded RoundGroups(const float* x, const ScaleAndOffset& at) {
  const VF inverse = DivideOrZero(Splat(1), at.scale);
  Rounded sums = {Splat(0), Splat(0), Splat(0), Splat(0)};
  for (uint32_t i = 0; i < Form::kElements; ++i) {
    const VF value = Load8(x + i * kLanes);
    const VF code = NearestCode<Form>(value, inverse, at.offset);
    const VF left = hn::Sub(hn::MulAdd(at.scale, code, at.offset), value);
    sums.error = hn::MulAdd(left, left, sums.error);
    sums.q = hn::Add(sums.q, code);
    sums.qq = hn::MulAdd(code, code, sums.qq);
    sums.xq = hn::MulAdd(value, code, sums.xq);
  }
  return sums;
}

// The least-squares solution for the codes behind `sums`; where they do not determine it (all codes
// equal), `at` stays.
template <typename Form>
ScaleAndOffset SolveGroups(const Rounded& sums, VF x_sum, const ScaleAndOffset& at) {
  const VF through_zero = DivideOrZero(sums.xq, sums.qq);
  if constexpr (Form::kOffset == OffsetKind::kNone) {
    const auto usable = hn::Gt(sums.qq, Splat(0));
    return {hn::IfThenElse(usable, through_zero, at.scale), Splat(0)};
  } else {
    const VF n = Splat(Form::kElements);
    const VF determinant = hn::MulSub(n, sums.qq, hn::Mul(sums.q, sums.q));
    const auto usable = hn::Gt(determinant, Splat(0.5f));  // of integers
    const VF slope = DivideOrZero(hn::MulSub(n, sums.xq, hn::Mul(x_sum, sums.q)), determinant);
    VF scale = hn::IfThenElse(usable, slope, at.scale);
    VF offset = hn::Div(hn::NegMulAdd(scale, sums.q, x_sum), n);
    if constexpr (Form::kOffset == OffsetKind::kNotPositive) {
      const auto above = hn::Gt(offset, Splat(0));
      offset = hn::IfThenZeroElse(above, offset);
      scale = hn::IfThenElse(hn::And(above, hn::Gt(sums.qq, Splat(0))), through_zero, scale);
    }
    return {scale, offset};
  }
}

// What starting points are made of.
struct GroupRange {
  VF low, high;  // least and greatest; zero lies within where offsets must not be positive
  VF extreme;    // that of the greatest magnitude, with its sign
  VF sum, squares;
};

template <typename Form>
GroupRange RangeOf(const float* x) {
  const VF first = Form::kOffset == OffsetKind::kNotPositive ? Splat(0) : Load8(x);
  GroupRange range = {first, first, Splat(0), Splat(0), Splat(0)};
  for (uint32_t i = 0; i < Form::kElements; ++i) {
    const VF value = Load8(x + i * kLanes);
    range.low = hn::Min(range.low, value);
    range.high = hn::Max(range.high, value);
    const auto greater = hn::Gt(hn::Abs(value), hn::Abs(range.extreme));
    range.extreme = hn::IfThenElse(greater, value, range.extreme);
    range.sum = hn::Add(range.sum, value);
    range.squares = hn::MulAdd(value, value, range.squares);
  }
  return range;
}

template <typename Form>
ScaleAndOffset AsStored(ScaleAndOffset at) {
  if constexpr (Form::kScalesAreHalves) return {RoundToHalf(at.scale), RoundToHalf(at.offset)};
  return at;
}

// The best scale and offset found for each group; what the group then loses goes to `error`.
template <typename Form>
ScaleAndOffset SearchScales(const float* x, VF* error) {
  const GroupRange range = RangeOf<Form>(x);
  ScaleAndOffset best = {Splat(0), Splat(0)};
  VF least = range.squares;
  for (const float steps : Form::kSteps) {
    // `steps` codes cover the range: more than there are cut off its ends, fewer leave some unused.
    ScaleAndOffset at = {hn::Div(range.extreme, Splat(steps)), Splat(0)};
    if constexpr (Form::kOffset != OffsetKind::kNone) {
      at = {hn::Div(hn::Sub(range.high, range.low), Splat(steps)), range.low};
    }
    for (uint32_t round = 0; round <= Form::kRounds; ++round) {
      at = AsStored<Form>(at);
      const Rounded sums = RoundGroups<Form>(x, at);
      const auto better = hn::Lt(sums.error, least);  // never where it is not a number
      least = hn::IfThenElse(better, sums.error, least);
      best.scale = hn::IfThenElse(better, at.scale, best.scale);
      best.offset = hn::IfThenElse(better, at.offset, best.offset);
      if (round < Form::kRounds) at = SolveGroups<Form>(sums, range.sum, at);
    }
  }
  *error = least;
  return best;
}

// codes[lane * kElements + element], counted from the format's least one.
template <typename Form>
void EncodeGroups(const float* x, const ScaleAndOffset& at, int32_t* codes) {
  const VF inverse = DivideOrZero(Splat(1), at.scale);
  alignas(32) int32_t lanes[kLanes];
  for (uint32_t i = 0; i < Form::kElements; ++i) {
    const VF code = NearestCode<Form>(Load8(x + i * kLanes), inverse, at.offset);
    hn::Store(hn::ConvertTo(I32x8(), hn::Sub(code, Splat(Form::kLow))), I32x8(), lanes);
    for (uint32_t lane = 0; lane < kLanes; ++lane) codes[lane * Form::kElements + i] = lanes[lane];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
