// The integer core of matrix products: a tile of 16 weight rows times a few tokens, for the
// instruction set being compiled.
//
// A tile's values are stored [columns / 4][16 rows][4], so that one 32-bit lane holds four
// consecutive columns of one row: the byte products with four columns of a token, broadcast to all
// lanes, add up within the lane, and no sum ever crosses lanes.
#if defined(WEIR_KERNELS_MATMUL_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_MATMUL_TILE_INL_H_
#undef WEIR_KERNELS_MATMUL_TILE_INL_H_
#else
#define WEIR_KERNELS_MATMUL_TILE_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/group_form.h"
#include "kernels/quantized_activations.h"
#include "kernels/row_words-inl.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

// Highway 1.0.3 asks the compiler for AVX-VNNI in its AVX3_DL target where it checks the CPU for
// AVX512-VNNI; the functions below name the latter themselves.
#undef WEIR_TILE_ATTRIBUTE
#if HWY_TARGET == HWY_AVX3_DL
#define WEIR_TILE_ATTRIBUTE __attribute__((target(HWY_TARGET_STR ",avx512vnni")))
#else
#define WEIR_TILE_ATTRIBUTE
#endif

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

struct TileView {
  const uint8_t* values;  // [columns / 4][16][4], 64-byte aligned
  const float* scales;    // [groups][16]
  const float* offsets;   // [groups][16]; unused without offsets
  uint32_t groups;
};

// The same columns of consecutive tokens; see QuantizedLayout. The pointers are the first token's.
struct TokensView {
  const int8_t* values;
  const int8_t* low_values;      // the second plane, or null
  const float* scales;           // of 32 columns, whatever the weight's groups
  const float* scaled_sums;      // of the weight's groups
  const int32_t* negative_sums;  // of the weight's groups
  uint64_t stride_bytes;
};

template <typename T>
inline const T* Advance(const T* pointer, uint64_t bytes) {
  return reinterpret_cast<const T*>(reinterpret_cast<const uint8_t*>(pointer) + bytes);
}

inline Vi LoadInts(const void* from) { return hn::Load(Di(), static_cast<const int32_t*>(from)); }
// Four bytes of a token to all lanes: where each is used once, compilers make it part of the
// product.
inline Vi BroadcastBytes4(const int8_t* from) {
  int32_t word;
  memcpy(&word, from, sizeof(word));
  return hn::Set(Di(), word);
}

#if HWY_TARGET != HWY_AVX3_DL
// Products of unsigned and signed bytes, added in pairs to int16. Exact while 254 * max(u) < 2^15.
inline Vi MultiplyPairs(Vi u, Vi q) {
#if HWY_TARGET == HWY_AVX2
  return Vi{_mm256_maddubs_epi16(u.raw, q.raw)};
#else
  return Vi{_mm512_maddubs_epi16(u.raw, q.raw)};
#endif
}
inline Vi Add16(Vi a, Vi b) {
  return hn::BitCast(Di(), hn::Add(hn::BitCast(D16(), a), hn::BitCast(D16(), b)));
}
// Products of int16, added in pairs.
inline Vi MultiplyAddPairs(Vi a, Vi b) {
#if HWY_TARGET == HWY_AVX2
  return Vi{_mm256_madd_epi16(a.raw, b.raw)};
#else
  return Vi{_mm512_madd_epi16(a.raw, b.raw)};
#endif
}
inline Vi WidenPairs(Vi pairs) {
  return MultiplyAddPairs(pairs, hn::BitCast(Di(), hn::Set(D16(), int16_t{1})));
}
// The same of pairs of the high plane, times what they count for.
inline Vi TimesPlaneBaseInPairs(Vi pairs) {
  return MultiplyAddPairs(pairs, hn::BitCast(Di(), hn::Set(D16(), int16_t{kPlaneBase})));
}
// Sums of integers are added up in the order that is written. GCC makes trees of them otherwise,
// whose many leaves have no room in the registers.
HWY_INLINE Vi InOrder(Vi sum) {
  asm("" : "+v"(sum.raw));
  return sum;
}
// |w| and q with the sign of w: their product is w * q, and |w| <= 128 keeps pairs exact.
inline Vi Magnitude(Vi w) { return hn::BitCast(Di(), hn::Abs(hn::BitCast(D8(), w))); }
inline Vi WithSignOf(Vi w, Vi q) {
#if HWY_TARGET == HWY_AVX2
  return Vi{_mm256_sign_epi8(q.raw, w.raw)};
#else
  const __mmask64 negative = _mm512_movepi8_mask(w.raw);
  return Vi{_mm512_mask_sub_epi8(q.raw, negative, _mm512_setzero_si512(), q.raw)};
#endif
}
#endif  // without VNNI

// Whether values are multiplied as signed bytes, zero point taken off, rather than as unsigned
// ones.
template <uint32_t kMaxValue>
constexpr bool IsSigned() {
  return HWY_TARGET != HWY_AVX3_DL && kMaxValue > 127;
}

// dots[t] += u . q (unsigned) or (u - zero) . q (signed), one row a lane.
template <uint32_t kGroup, uint32_t kMaxValue, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddTokenDots(const uint8_t* values, const int8_t* q,
                                                 uint64_t stride_bytes, Vi* HWY_RESTRICT dots) {
  constexpr uint32_t kSteps = kGroup / 4;
#if HWY_TARGET == HWY_AVX3_DL
  for (uint32_t s = 0; s < kSteps; ++s) {
    const Vi u = LoadInts(values + s * 64);
    for (int t = 0; t < kTokens; ++t) {
      const Vi q4 = BroadcastBytes4(q + t * stride_bytes + 4 * s);
      dots[t] = Vi{_mm512_dpbusd_epi32(dots[t].raw, u.raw, q4.raw)};
    }
  }
#else
  constexpr bool kSigned = IsSigned<kMaxValue>();
  // As many steps as an int16 can hold before it is widened.
  constexpr uint32_t kFits = kSigned ? 1 : 32767 / (254 * kMaxValue);
  constexpr uint32_t kRun = kFits < kSteps ? (kFits & (kFits - 1) ? 4 : kFits) : kSteps;
  static_assert(kSteps % kRun == 0 && kRun <= kFits);
  for (uint32_t s = 0; s < kSteps; s += kRun) {
    Vi pairs[kTokens];
    for (uint32_t r = s; r < s + kRun; ++r) {
      Vi u = LoadInts(values + r * 64);
      if constexpr (kSigned) u = hn::Xor(u, hn::Set(Di(), static_cast<int32_t>(0x80808080u)));
      const Vi magnitude = kSigned ? Magnitude(u) : u;
      for (int t = 0; t < kTokens; ++t) {
        Vi q4 = BroadcastBytes4(q + t * stride_bytes + 4 * r);
        if constexpr (kSigned) q4 = WithSignOf(u, q4);
        const Vi products = MultiplyPairs(magnitude, q4);
        pairs[t] = r == s ? products : Add16(pairs[t], products);
      }
    }
    for (int t = 0; t < kTokens; ++t) dots[t] = hn::Add(dots[t], WidenPairs(pairs[t]));
  }
#endif
}

// What the high plane's products count for.
HWY_INLINE Vi TimesPlaneBase(Vi dots) { return hn::Sub(hn::ShiftLeft<8>(dots), dots); }

// A group's dot products (u - zero) . q, one row a lane, of kTokens tokens. Exact: with 32 columns,
// values up to 255 and q up to kMaxQ8 every partial sum is below 2^20.
template <uint32_t kGroup, uint32_t kZeroShift, uint32_t kMaxValue, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void GroupDots(const uint8_t* values, const TokensView& tokens,
                                              uint32_t g, Vi* HWY_RESTRICT dots) {
  for (int t = 0; t < kTokens; ++t) dots[t] = hn::Zero(Di());
  AddTokenDots<kGroup, kMaxValue, kTokens>(values, tokens.values + g * kGroup, tokens.stride_bytes,
                                           dots);
  if constexpr (kZeroShift != 0 && !IsSigned<kMaxValue>()) {
    for (int t = 0; t < kTokens; ++t) {
      const int32_t* sums = Advance(tokens.negative_sums, t * tokens.stride_bytes);
      dots[t] = hn::Add(dots[t], hn::ShiftLeft<kZeroShift>(hn::Set(Di(), sums[g])));
    }
  }
}

// sums[kTokens][16] += the tile times the tokens, in the order that kernels/matmul_cpu.h states.
template <uint32_t kGroup, uint32_t kZeroShift, bool kHasOffset, uint32_t kMaxValue, int kTokens>
WEIR_TILE_ATTRIBUTE void MultiplyTile(const TileView& tile, const TokensView& tokens, float* sums) {
  const Df d;
  for (uint32_t half = 0; half < 16; half += kLanes) {
    Vf total[kTokens];
    for (int t = 0; t < kTokens; ++t) total[t] = hn::LoadU(d, sums + 16 * t + half);
    for (uint32_t g = 0; g < tile.groups; ++g) {
      Vi dots[kTokens];
      GroupDots<kGroup, kZeroShift, kMaxValue, kTokens>(
          tile.values + uint64_t{g} * kGroup * 16 + 4 * half, tokens, g, dots);
      const Vf scale = hn::Load(d, tile.scales + 16 * g + half);
      for (int t = 0; t < kTokens; ++t) {
        const float token_scale = Advance(tokens.scales, t * tokens.stride_bytes)[g * kGroup / 32];
        const Vf factor = hn::Mul(scale, hn::Set(d, token_scale));
        total[t] = hn::MulAdd(hn::ConvertTo(d, dots[t]), factor, total[t]);
      }
      if constexpr (kHasOffset) {
        const Vf offset = hn::Load(d, tile.offsets + 16 * g + half);
        for (int t = 0; t < kTokens; ++t) {
          const float sum = Advance(tokens.scaled_sums, t * tokens.stride_bytes)[g];
          total[t] = hn::MulAdd(offset, hn::Set(d, sum), total[t]);
        }
      }
    }
    for (int t = 0; t < kTokens; ++t) hn::StoreU(total[t], d, sums + 16 * t + half);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
