// Words of several rows at once, for the instruction set being compiled: rows are loaded 16 bytes
// at a time and transposed, so that a vector holds the same word of kLanes rows.
#if defined(WEIR_KERNELS_ROW_WORDS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_ROW_WORDS_INL_H_
#undef WEIR_KERNELS_ROW_WORDS_INL_H_
#else
#define WEIR_KERNELS_ROW_WORDS_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Df = hn::CappedTag<float, 16>;
using Di = hn::RebindToSigned<Df>;
using D16 = hn::Repartition<int16_t, Di>;
using D8 = hn::Repartition<int8_t, Di>;
using Vf = hn::VFromD<Df>;
using Vi = hn::VFromD<Di>;
using V16 = hn::VFromD<D16>;
using V8 = hn::VFromD<D8>;
constexpr uint32_t kLanes = HWY_TARGET == HWY_AVX2 ? 8 : 16;

inline __m128i Load16(const uint8_t* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

inline __m256i LoadHalf(const uint8_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// Four words of kLanes rows: words[i] holds word i of every row, whose 16 bytes are at `row(r)`.
template <typename Row>
HWY_INLINE void LoadRows(const Row& row, Vi* HWY_RESTRICT words) {
#if HWY_TARGET == HWY_AVX2
  __m256i in[4];  // rows i and 4 + i
  for (uint32_t i = 0; i < 4; ++i) {
    in[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(Load16(row(i))), Load16(row(4 + i)), 1);
  }
  const __m256i a = _mm256_unpacklo_epi32(in[0], in[1]), b = _mm256_unpackhi_epi32(in[0], in[1]);
  const __m256i c = _mm256_unpacklo_epi32(in[2], in[3]), d = _mm256_unpackhi_epi32(in[2], in[3]);
  words[0] = Vi{_mm256_unpacklo_epi64(a, c)};
  words[1] = Vi{_mm256_unpackhi_epi64(a, c)};
  words[2] = Vi{_mm256_unpacklo_epi64(b, d)};
  words[3] = Vi{_mm256_unpackhi_epi64(b, d)};
#else
  __m512i in[4];  // rows i, 4 + i, 8 + i and 12 + i
  for (uint32_t i = 0; i < 4; ++i) {
    in[i] = _mm512_castsi128_si512(Load16(row(i)));
    // Loads that broadcast under a mask need no shuffle.
    in[i] = _mm512_mask_broadcast_i32x4(in[i], 0x00F0, Load16(row(4 + i)));
    in[i] = _mm512_mask_broadcast_i32x4(in[i], 0x0F00, Load16(row(8 + i)));
    in[i] = _mm512_mask_broadcast_i32x4(in[i], 0xF000, Load16(row(12 + i)));
  }
  const __m512i a = _mm512_unpacklo_epi32(in[0], in[1]), b = _mm512_unpackhi_epi32(in[0], in[1]);
  const __m512i c = _mm512_unpacklo_epi32(in[2], in[3]), d = _mm512_unpackhi_epi32(in[2], in[3]);
  words[0] = Vi{_mm512_unpacklo_epi64(a, c)};
  words[1] = Vi{_mm512_unpackhi_epi64(a, c)};
  words[2] = Vi{_mm512_unpacklo_epi64(b, d)};
  words[3] = Vi{_mm512_unpackhi_epi64(b, d)};
#endif
}

// Eight words: as LoadRows, of 32 bytes.
template <typename Row>
HWY_INLINE void LoadLongRows(const Row& row, Vi* HWY_RESTRICT words) {
#if HWY_TARGET == HWY_AVX2
  LoadRows(row, words);
  LoadRows([&](uint32_t r) HWY_ATTR { return row(r) + 16; }, words + 4);
#else
  __m512i of[2][4];  // [i]: words i and 4 + i of rows 0 to 7, and of rows 8 to 15
  for (uint32_t half = 0; half < 2; ++half) {
    __m512i in[4];  // rows i and 4 + i
    for (uint32_t i = 0; i < 4; ++i) {
      in[i] = _mm512_inserti64x4(_mm512_castsi256_si512(LoadHalf(row(8 * half + i))),
                                 LoadHalf(row(8 * half + 4 + i)), 1);
    }
    const __m512i a = _mm512_unpacklo_epi32(in[0], in[1]), b = _mm512_unpackhi_epi32(in[0], in[1]);
    const __m512i c = _mm512_unpacklo_epi32(in[2], in[3]), d = _mm512_unpackhi_epi32(in[2], in[3]);
    of[half][0] = _mm512_unpacklo_epi64(a, c);
    of[half][1] = _mm512_unpackhi_epi64(a, c);
    of[half][2] = _mm512_unpacklo_epi64(b, d);
    of[half][3] = _mm512_unpackhi_epi64(b, d);
  }
  for (uint32_t i = 0; i < 4; ++i) {
    words[i] = Vi{_mm512_shuffle_i32x4(of[0][i], of[1][i], 0x88)};
    words[4 + i] = Vi{_mm512_shuffle_i32x4(of[0][i], of[1][i], 0xDD)};
  }
#endif
}

// The float16 in the low half of each word.
HWY_INLINE Vf LowHalves(Vi words) {
#if HWY_TARGET == HWY_AVX2
  const __m256i low = _mm256_and_si256(words.raw, _mm256_set1_epi32(0xFFFF));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
  return Vf{_mm256_cvtph_ps(_mm256_castsi256_si128(packed))};
#else
  return Vf{_mm512_cvtph_ps(_mm512_cvtepi32_epi16(words.raw))};
#endif
}
HWY_INLINE Vf HighHalves(Vi words) { return LowHalves(hn::ShiftRight<16>(words)); }

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
