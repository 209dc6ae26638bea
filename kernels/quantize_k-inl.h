// Encoding of Q4_K, Q5_K and Q6_K. Included once for each instruction set; part of
// kernels/quantize_blocks.cc.
//
// A super-block of 256 has float16 factors, and small integers that scale them for each group. The
// search goes down and up: each group's scale is found on its own, the integers follow by rounding;
// then, in turns, the integers of each group are tried one up and one down, and the factors of the
// super-block are solved for, given all codes and integers. The best state met is kept.
#if defined(WEIR_KERNELS_QUANTIZE_K_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_QUANTIZE_K_INL_H_
#undef WEIR_KERNELS_QUANTIZE_K_INL_H_
#else
#define WEIR_KERNELS_QUANTIZE_K_INL_H_
#endif

#include <cstdint>

#include "kernels/quant_blocks.h"
#include "kernels/quantize_search-inl.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

constexpr uint32_t kTurns = 2;

// ---- Q4_K, Q5_K: eight groups of 32, w = d * scale * code - dmin * minimum

template <int kGreatestCode>
struct MinimumForm {
  static constexpr uint32_t kElements = 32;
  static constexpr OffsetKind kOffset = OffsetKind::kNotPositive;
  static constexpr float kLow = 0, kHigh = kGreatestCode;
  static constexpr bool kScalesAreHalves = false;
  static constexpr uint32_t kRounds = 3;
};
struct FormQ4_K : MinimumForm<15> {
  static constexpr float kSteps[] = {15, 14, 13, 16, 17, 18.5f};
};
struct FormQ5_K : MinimumForm<31> {
  static constexpr float kSteps[] = {31, 30, 29, 32, 33, 34.5f};
};
constexpr float kMostScale = 63;  // 6 bits

struct MinimumState {
  float d = 0, dmin = 0;  // float16 values
  VF scale, minimum;      // integers, a lane a group
};

inline ScaleAndOffset Effective(const MinimumState& state) {
  return {hn::Mul(Splat(state.d), state.scale), hn::Neg(hn::Mul(Splat(state.dmin), state.minimum))};
}

inline VF ClampScale(VF v) { return hn::Min(hn::Max(v, Splat(0)), Splat(kMostScale)); }

// Tries the neighbours of each group's scale and minimum, leaves the best.
template <typename Form>
void RefineIntegers(const float* x, MinimumState* state) {
  VF least = RoundGroups<Form>(x, Effective(*state)).error;
  const VF scale = state->scale, minimum = state->minimum;
  for (int i = -1; i <= 1; ++i) {
    for (int j = -1; j <= 1; ++j) {
      if (i == 0 && j == 0) continue;
      MinimumState other = *state;
      other.scale = ClampScale(hn::Add(scale, Splat(static_cast<float>(i))));
      other.minimum = ClampScale(hn::Add(minimum, Splat(static_cast<float>(j))));
      const VF error = RoundGroups<Form>(x, Effective(other)).error;
      const auto better = hn::Lt(error, least);
      least = hn::IfThenElse(better, error, least);
      state->scale = hn::IfThenElse(better, other.scale, state->scale);
      state->minimum = hn::IfThenElse(better, other.minimum, state->minimum);
    }
  }
}

// Least squares for d and dmin, given the codes that `state` leads to and its integers.
inline void SolveFactors(const Rounded& sums, VF x_sum, uint32_t elements, MinimumState* state) {
  // x ~ d * u - dmin * v with u = scale * code, v = minimum.
  const double uu = Sum(hn::Mul(hn::Mul(state->scale, state->scale), sums.qq));
  const double uv = Sum(hn::Mul(hn::Mul(state->scale, state->minimum), sums.q));
  const double vv =
      Sum(hn::Mul(hn::Mul(state->minimum, state->minimum), Splat(static_cast<float>(elements))));
  const double xu = Sum(hn::Mul(state->scale, sums.xq));
  const double xv = Sum(hn::Mul(state->minimum, x_sum));
  const double determinant = uu * vv - uv * uv;
  double d = state->d, dmin = state->dmin;
  if (determinant > 1e-6 * uu * vv) {
    d = (xu * vv - xv * uv) / determinant;
    dmin = (xu * uv - xv * uu) / determinant;
  } else if (uu > 0 && vv == 0) {
    d = xu / uu;
  }
  state->d = ToHalfAndBack(static_cast<float>(d));
  state->dmin = ToHalfAndBack(static_cast<float>(dmin));
}

template <typename Form>
MinimumState SearchMinimumBlock(const float* x) {
  VF error;
  const ScaleAndOffset free = SearchScales<Form>(x, &error);
  const VF x_sum = RangeOf<Form>(x).sum;
  MinimumState state;
  state.d = ToHalfAndBack(Greatest(free.scale) / kMostScale);
  state.dmin = ToHalfAndBack(Greatest(hn::Neg(free.offset)) / kMostScale);
  state.scale = ClampScale(hn::Round(DivideOrZero(free.scale, Splat(state.d))));
  state.minimum = ClampScale(hn::Round(DivideOrZero(hn::Neg(free.offset), Splat(state.dmin))));
  MinimumState best = state;
  float least = Sum(RoundGroups<Form>(x, Effective(state)).error);
  for (uint32_t turn = 0; turn < kTurns; ++turn) {
    RefineIntegers<Form>(x, &state);
    const Rounded refined = RoundGroups<Form>(x, Effective(state));
    if (Sum(refined.error) < least) {
      least = Sum(refined.error);
      best = state;
    }
    SolveFactors(refined, x_sum, Form::kElements, &state);
    const float solved = Sum(RoundGroups<Form>(x, Effective(state)).error);
    if (solved < least) {
      least = solved;
      best = state;
    }
  }
  return best;
}

// The layout that UnpackScalesAndMinima reads.
inline void PackScalesAndMinima(const MinimumState& state, uint8_t packed[12]) {
  alignas(32) int32_t scales[kLanes], minima[kLanes];
  hn::Store(hn::ConvertTo(I32x8(), state.scale), I32x8(), scales);
  hn::Store(hn::ConvertTo(I32x8(), state.minimum), I32x8(), minima);
  for (uint32_t g = 0; g < 4; ++g) {
    packed[g] = static_cast<uint8_t>(scales[g] | (scales[g + 4] >> 4) << 6);
    packed[g + 4] = static_cast<uint8_t>(minima[g] | (minima[g + 4] >> 4) << 6);
    packed[g + 8] = static_cast<uint8_t>((scales[g + 4] & 0x0F) | (minima[g + 4] & 0x0F) << 4);
  }
}

template <typename Form, typename Block>
void QuantizeWithMinimum(const float* values, uint64_t elements, uint8_t* row) {
  alignas(32) float x[kSuperBlock];
  int32_t codes[kSuperBlock];
  for (uint64_t i = 0; i < elements / kSuperBlock; ++i) {
    Transpose<Form::kElements>(values + i * kSuperBlock, x);
    const MinimumState state = SearchMinimumBlock<Form>(x);
    EncodeGroups<Form>(x, Effective(state), codes);
    Block block = {};
    StoreHalf(state.d, block.d);
    StoreHalf(state.dmin, block.dmin);
    PackScalesAndMinima(state, block.scales);
    for (uint32_t j = 0; j < 4; ++j) {
      for (uint32_t l = 0; l < 32; ++l) {
        const int32_t low = codes[64 * j + l], high = codes[64 * j + 32 + l];
        block.qs[32 * j + l] = static_cast<uint8_t>((low & 0x0F) | (high & 0x0F) << 4);
        if constexpr (Form::kHigh > 15) {
          const int32_t bits = (low >> 4) << (2 * j) | (high >> 4) << (2 * j + 1);
          block.qh[l] = static_cast<uint8_t>(block.qh[l] | bits);
        }
      }
    }
    memcpy(row + i * sizeof(Block), &block, sizeof(Block));
  }
}

// ---- Q6_K: sixteen groups of 16, w = d * scale * (code - 32)

struct FormQ6_K {
  static constexpr uint32_t kElements = 16;
  static constexpr OffsetKind kOffset = OffsetKind::kNone;
  static constexpr float kLow = -32, kHigh = 31;
  static constexpr bool kScalesAreHalves = false;
  static constexpr uint32_t kRounds = 2;
  static constexpr float kSteps[] = {-32, -31.5f, -31, -32.6f, 31, 31.6f, 32.5f};
};

constexpr uint32_t kHalves = 2;  // of eight groups, as many as there are lanes
constexpr uint32_t kHalfElements = kSuperBlock / kHalves;

struct SymmetricState {
  float d = 0;  // a float16 value
  VF scale[kHalves];
};

inline ScaleAndOffset Effective(const SymmetricState& state, uint32_t half) {
  return {hn::Mul(Splat(state.d), state.scale[half]), Splat(0)};
}

// The squared error of the whole; what least squares gives for d goes to `best_d`.
inline float ErrorOf(const float* x, const SymmetricState& state, float* best_d) {
  float error = 0;
  double xu = 0, uu = 0;  // u = scale * code
  for (uint32_t half = 0; half < kHalves; ++half) {
    const Rounded sums = RoundGroups<FormQ6_K>(x + half * kHalfElements, Effective(state, half));
    const VF scale = state.scale[half];
    error += Sum(sums.error);
    xu += Sum(hn::Mul(scale, sums.xq));
    uu += Sum(hn::Mul(hn::Mul(scale, scale), sums.qq));
  }
  *best_d = ToHalfAndBack(uu > 0 ? static_cast<float>(xu / uu) : state.d);
  return error;
}

inline void RefineScales(const float* x, SymmetricState* state) {
  for (uint32_t half = 0; half < kHalves; ++half) {
    const float* part = x + half * kHalfElements;
    const VF scale = state->scale[half];
    VF least = RoundGroups<FormQ6_K>(part, Effective(*state, half)).error;
    for (const float step : {-1.0f, 1.0f, -2.0f, 2.0f}) {
      const VF other = hn::Min(hn::Max(hn::Add(scale, Splat(step)), Splat(-128)), Splat(127));
      const ScaleAndOffset at = {hn::Mul(Splat(state->d), other), Splat(0)};
      const VF error = RoundGroups<FormQ6_K>(part, at).error;
      const auto better = hn::Lt(error, least);
      least = hn::IfThenElse(better, error, least);
      state->scale[half] = hn::IfThenElse(better, other, state->scale[half]);
    }
  }
}

inline SymmetricState SearchSymmetricBlock(const float* x) {
  VF free[kHalves];
  float extreme = 0;  // the scale of the greatest magnitude, with its sign
  for (uint32_t half = 0; half < kHalves; ++half) {
    VF error;
    free[half] = SearchScales<FormQ6_K>(x + half * kHalfElements, &error).scale;
    const float low = -Greatest(hn::Neg(free[half]));
    const float high = Greatest(free[half]);
    if (-low > (extreme < 0 ? -extreme : extreme)) extreme = low;
    if (high > (extreme < 0 ? -extreme : extreme)) extreme = high;
  }
  SymmetricState state;
  state.d = ToHalfAndBack(extreme / -128);  // so that the extreme one becomes -128
  for (uint32_t half = 0; half < kHalves; ++half) {
    const VF nearest = hn::Round(DivideOrZero(free[half], Splat(state.d)));
    state.scale[half] = hn::Min(hn::Max(nearest, Splat(-128)), Splat(127));
  }
  float solved_d = 0;
  SymmetricState best = state;
  float least = ErrorOf(x, state, &solved_d);
  for (uint32_t turn = 0; turn < kTurns; ++turn) {
    RefineScales(x, &state);
    for (int solve = 0; solve < 2; ++solve) {
      const float error = ErrorOf(x, state, &solved_d);
      if (error < least) {
        least = error;
        best = state;
      }
      state.d = solved_d;
    }
  }
  return best;
}

inline void PackQ6_K(const SymmetricState& state, const int32_t codes[kSuperBlock],
                     BlockQ6_K* block) {
  StoreHalf(state.d, block->d);
  for (uint32_t half = 0; half < kHalves; ++half) {
    alignas(32) int32_t scales[kLanes];
    hn::Store(hn::ConvertTo(I32x8(), state.scale[half]), I32x8(), scales);
    for (uint32_t g = 0; g < kLanes; ++g) {
      block->scales[half * kLanes + g] = static_cast<int8_t>(scales[g]);
    }
    const int32_t* part = codes + half * kHalfElements;
    for (uint32_t l = 0; l < 64; ++l) {
      const int32_t nibbles = (part[l] & 0x0F) | (part[64 + l] & 0x0F) << 4;
      block->ql[64 * half + l] = static_cast<uint8_t>(nibbles);
    }
    for (uint32_t l = 0; l < 32; ++l) {
      int32_t bits = 0;
      for (uint32_t s = 0; s < 4; ++s) bits |= (part[32 * s + l] >> 4) << (2 * s);
      block->qh[32 * half + l] = static_cast<uint8_t>(bits);
    }
  }
}

inline void QuantizeQ6_K(const float* values, uint64_t elements, uint8_t* row) {
  alignas(32) float x[kSuperBlock];
  int32_t codes[kSuperBlock];
  for (uint64_t i = 0; i < elements / kSuperBlock; ++i) {
    for (uint32_t half = 0; half < kHalves; ++half) {
      const uint32_t at = half * kHalfElements;
      Transpose<FormQ6_K::kElements>(values + i * kSuperBlock + at, x + at);
    }
    const SymmetricState state = SearchSymmetricBlock(x);
    for (uint32_t half = 0; half < kHalves; ++half) {
      const uint32_t at = half * kHalfElements;
      EncodeGroups<FormQ6_K>(x + at, Effective(state, half), codes + at);
    }
    BlockQ6_K block;
    PackQ6_K(state, codes, &block);
    memcpy(row + i * sizeof(block), &block, sizeof(block));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
