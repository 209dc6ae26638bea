// kLanes rows of a weight times a few tokens: words are multiplied as they are decoded, in
// registers, so that no tile is written and read again for a few uses. Here is what the formats
// share: reading rows, multiplying words of them, adding up groups. How values, scales and offsets
// come out of the rows is as in kernels/build_tile-inl.h and kernels/unpack-inl.h; the sums are
// those that kernels/matmul_cpu.h states, bit for bit.
#if defined(WEIR_KERNELS_DOT_WORDS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_DOT_WORDS_INL_H_
#undef WEIR_KERNELS_DOT_WORDS_INL_H_
#else
#define WEIR_KERNELS_DOT_WORDS_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/build_tile-inl.h"
#include "kernels/group_form.h"
#include "kernels/matmul_tile-inl.h"
#include "kernels/prefetch-inl.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

// kLanes rows, `stride_bytes` from one to the next, and bytes that are wanted soon, as in
// TileSource.
struct EvenRows {
  const uint8_t* first;
  uint64_t stride_bytes;
  const uint8_t* ahead;
};

// Reads the rows block after block. Every fourth row's address is kept: the others are one, two or
// three strides from it, which instructions add up.
class RowsReader {
 public:
  explicit RowsReader(const EvenRows& rows) : stride_(rows.stride_bytes), ahead_(rows.ahead) {
    for (uint32_t i = 0; i < kQuads; ++i) quads_[i] = rows.first + 4 * i * stride_;
  }
  // Four words from byte `at` of the block on; words[i] holds word i of every row.
  HWY_INLINE void Load(uint64_t at, Vi* HWY_RESTRICT words) {
    AskAhead();
    LoadRows([&](uint32_t r) HWY_ATTR { return RowAt(r) + at; }, words);
  }
  // Eight.
  HWY_INLINE void LoadLong(uint64_t at, Vi* HWY_RESTRICT words) {
    AskAhead();
    LoadLongRows([&](uint32_t r) HWY_ATTR { return RowAt(r) + at; }, words);
    AskAhead();
  }
  // The float16 at byte `at` of the block of every row.
  HWY_INLINE Vf LoadHalves(uint64_t at) {
#if HWY_TARGET == HWY_AVX2
    AskAhead();
    __m128i halves = _mm_setzero_si128();
    halves = _mm_insert_epi16(halves, HalfAt(0, at), 0);
    halves = _mm_insert_epi16(halves, HalfAt(1, at), 1);
    halves = _mm_insert_epi16(halves, HalfAt(2, at), 2);
    halves = _mm_insert_epi16(halves, HalfAt(3, at), 3);
    halves = _mm_insert_epi16(halves, HalfAt(4, at), 4);
    halves = _mm_insert_epi16(halves, HalfAt(5, at), 5);
    halves = _mm_insert_epi16(halves, HalfAt(6, at), 6);
    halves = _mm_insert_epi16(halves, HalfAt(7, at), 7);
    return Vf{_mm256_cvtph_ps(halves)};
#else
    Vi words[4];
    Load(at, words);
    return LowHalves(words[0]);
#endif
  }
  HWY_INLINE void Next(uint64_t block_bytes) {
    for (const uint8_t*& quad : quads_) quad += block_bytes;
  }

 private:
  static constexpr uint32_t kQuads = kLanes / 4;
  HWY_INLINE const uint8_t* RowAt(uint32_t r) const { return quads_[r / 4] + r % 4 * stride_; }
  HWY_INLINE int HalfAt(uint32_t r, uint64_t at) const {
    uint16_t half;
    memcpy(&half, RowAt(r) + at, sizeof(half));
    return half;
  }
  // As many bytes as four words of the rows, a line from every fourth row: the cores' own
  // prefetchers follow a sequence within a page, and several at once keep more reads under way.
  HWY_INLINE void AskAhead() {
    static_assert(16 * kLanes == 64 * kQuads);
    for (uint32_t i = 0; i < kQuads; ++i) PrefetchBytes(ahead_ + 4 * i * stride_, 64);
    ahead_ += 64;
    KeepPace();
  }
  const uint8_t* quads_[kQuads];
  const uint64_t stride_;
  const uint8_t* ahead_;
};

// Tokens from the columns of a block on; groups below are counted from there.
template <uint32_t kGroup>
HWY_INLINE void NextGroups(TokensView* tokens, uint32_t groups) {  // of 32 columns
  tokens->values += 32 * groups;
  tokens->low_values += 32 * groups;
  tokens->scales += groups;
  tokens->scaled_sums += groups * (32 / kGroup);
  tokens->negative_sums += groups * (32 / kGroup);
}

// Four columns of plane kPlane of token t, from word `word` of group `group` (of 32 columns) on.
template <int kPlane>
HWY_INLINE Vi FourColumns(const TokensView& tokens, int t, uint32_t group, uint32_t word) {
  const int8_t* const plane = kPlane == 0 ? tokens.values : tokens.low_values;
  return BroadcastBytes4(plane + t * tokens.stride_bytes + 32 * group + 4 * word);
}

// A group's exact integer products with each token. With VNNI, of each plane. Elsewhere products of
// bytes are added up in pairs of 16 bits, of each plane, where a whole group fits; otherwise `high`
// holds those of both planes.
template <int kTokens>
struct PlaneDots {
  Vi high[kTokens];
  Vi low[kTokens];
};
template <int kTokens>
HWY_INLINE void Clear(PlaneDots<kTokens>* dots) {
  for (int t = 0; t < kTokens; ++t) dots->high[t] = dots->low[t] = hn::Zero(Di());
}

#if HWY_TARGET == HWY_AVX3_DL
// `values` are the four columns of word `word` of group `group` (of 32 columns) of the rows.
template <DType kDType, int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddWord(const TokensView& tokens, uint32_t group, uint32_t word,
                                            Vi values, PlaneDots<kTokens>& dots) {
  for (int t = 0; t < kTokens; ++t) {
    Vi& high = dots.high[t];
    Vi& low = dots.low[t];
    const Vi q = FourColumns<0>(tokens, t, group, word);
    high = Vi{_mm512_dpbusd_epi32(high.raw, values.raw, q.raw)};
    if constexpr (kPlanes == 2) {
      const Vi low_q = FourColumns<1>(tokens, t, group, word);
      low = Vi{_mm512_dpbusd_epi32(low.raw, values.raw, low_q.raw)};
    }
  }
}

// The four words of 16 columns from word `word` on.
template <DType kDType, int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddFourWords(const TokensView& tokens, uint32_t group,
                                                 uint32_t word, const Vi* values,
                                                 PlaneDots<kTokens>& dots) {
  for (uint32_t i = 0; i < 4; ++i) {
    AddWord<kDType, kPlanes>(tokens, group, word + i, values[i], dots);
  }
}

template <DType kDType, int kPlanes>
HWY_INLINE Vi WholeDot(Vi high, Vi low) {
  if constexpr (kPlanes == 1) return high;
  return hn::Add(TimesPlaneBase(high), low);
}
#else
// How many words' products are added up in 16 bits.
template <DType kDType>
constexpr uint32_t NarrowWords() {
  constexpr GroupForm kForm = GroupFormOf(kDType);
  constexpr uint32_t kFits = 32767 / (254 * kForm.max_value);
  if (kFits >= kForm.group_elements / 4) return kForm.group_elements / 4;
  return kFits >= 4 ? 4 : kFits >= 2 ? 2 : 1;
}
template <DType kDType>
constexpr bool StaysNarrow() {
  return NarrowWords<kDType>() == GroupFormOf(kDType).group_elements / 4;
}

// In pairs: unsigned values, or signed ones where IsSigned, times bytes of a token.
template <DType kDType>
HWY_INLINE Vi PairsOf(Vi values, Vi q) {
  if constexpr (IsSigned<GroupFormOf(kDType).max_value>()) {
    return MultiplyPairs(Magnitude(values), WithSignOf(values, q));
  } else {
    return MultiplyPairs(values, q);
  }
}

// `values` are the four columns of word `word` of group `group` (of 32 columns) of the rows. Of
// formats whose groups stay narrow.
template <DType kDType, int kPlanes, int kTokens>
HWY_INLINE void AddWord(const TokensView& tokens, uint32_t group, uint32_t word, Vi values,
                        PlaneDots<kTokens>& dots) {
  static_assert(StaysNarrow<kDType>());
  for (int t = 0; t < kTokens; ++t) {
    const Vi high = PairsOf<kDType>(values, FourColumns<0>(tokens, t, group, word));
    dots.high[t] = InOrder(Add16(dots.high[t], high));
    if constexpr (kPlanes == 2) {
      const Vi low = PairsOf<kDType>(values, FourColumns<1>(tokens, t, group, word));
      dots.low[t] = InOrder(Add16(dots.low[t], low));
    }
  }
}

// One plane's pairs of kWords words.
template <DType kDType, int kPlane, uint32_t kWords>
HWY_INLINE Vi SumOfPairs(const TokensView& tokens, int t, uint32_t group, uint32_t word,
                         const Vi* values) {
  Vi sum = PairsOf<kDType>(values[0], FourColumns<kPlane>(tokens, t, group, word));
  for (uint32_t i = 1; i < kWords; ++i) {
    const Vi q = FourColumns<kPlane>(tokens, t, group, word + i);
    sum = InOrder(Add16(sum, PairsOf<kDType>(values[i], q)));
  }
  return sum;
}

// The four words of 16 columns from word `word` on.
template <DType kDType, int kPlanes, int kTokens>
HWY_INLINE void AddFourWords(const TokensView& tokens, uint32_t group, uint32_t word,
                             const Vi* values, PlaneDots<kTokens>& dots) {
  if constexpr (StaysNarrow<kDType>()) {
    for (uint32_t i = 0; i < 4; ++i) {
      AddWord<kDType, kPlanes>(tokens, group, word + i, values[i], dots);
    }
    return;
  }
  constexpr uint32_t kWords = NarrowWords<kDType>() < 4 ? NarrowWords<kDType>() : 4;
  for (uint32_t i = 0; i < 4; i += kWords) {
    for (int t = 0; t < kTokens; ++t) {
      Vi& sum = dots.high[t];
      const Vi high = SumOfPairs<kDType, 0, kWords>(tokens, t, group, word + i, values + i);
      sum = InOrder(hn::Add(sum, kPlanes == 2 ? TimesPlaneBaseInPairs(high) : WidenPairs(high)));
      if constexpr (kPlanes == 2) {
        const Vi low = SumOfPairs<kDType, 1, kWords>(tokens, t, group, word + i, values + i);
        sum = InOrder(hn::Add(sum, WidenPairs(low)));
      }
    }
  }
}

template <DType kDType, int kPlanes>
HWY_INLINE Vi WholeDot(Vi high, Vi low) {
  if constexpr (!StaysNarrow<kDType>()) return high;
  if constexpr (kPlanes == 1) return WidenPairs(high);
  return hn::Add(TimesPlaneBaseInPairs(high), WidenPairs(low));
}
#endif

// Of token t: (u - zero) . q of group `group` of kDType.
template <DType kDType, int kPlanes>
HWY_INLINE Vi GroupDot(const TokensView& tokens, int t, uint32_t group, Vi high, Vi low) {
  constexpr GroupForm kForm = GroupFormOf(kDType);
  const Vi dot = WholeDot<kDType, kPlanes>(high, low);
  if constexpr (kForm.zero_shift == 0 || IsSigned<kForm.max_value>()) return dot;
  const Vi sum = hn::Set(Di(), Advance(tokens.negative_sums, t * tokens.stride_bytes)[group]);
  return hn::Add(dot, hn::ShiftLeft<kForm.zero_shift>(sum));
}

// total += group `group` of kDType, whose product with token t is `dot`.
template <DType kDType>
HWY_INLINE void AddDot(const TokensView& tokens, int t, uint32_t group, Vi dot, Vf scale,
                       Vf& total) {
  const float* const scales = Advance(tokens.scales, t * tokens.stride_bytes);
  const Vf token_scale = hn::Set(Df(), scales[group * GroupFormOf(kDType).group_elements / 32]);
  total = hn::MulAdd(hn::ConvertTo(Df(), dot), hn::Mul(scale, token_scale), total);
}

// The same of what the format adds to all of a group's values.
HWY_INLINE void AddOffset(const TokensView& tokens, int t, uint32_t group, Vf offset, Vf& total) {
  const float sum = Advance(tokens.scaled_sums, t * tokens.stride_bytes)[group];
  total = hn::MulAdd(offset, hn::Set(Df(), sum), total);
}

// totals += group `group` of kDType.
template <DType kDType, int kPlanes, int kTokens>
HWY_INLINE void AddGroup(const TokensView& tokens, uint32_t group, const PlaneDots<kTokens>& dots,
                         Vf scale, Vf offset, Vf* HWY_RESTRICT totals) {
  for (int t = 0; t < kTokens; ++t) {
    const Vi dot = GroupDot<kDType, kPlanes>(tokens, t, group, dots.high[t], dots.low[t]);
    AddDot<kDType>(tokens, t, group, dot, scale, totals[t]);
    if constexpr (GroupFormOf(kDType).has_offset) AddOffset(tokens, t, group, offset, totals[t]);
  }
}

// Four words of nibbles: the low ones are those of group `group` from `word` on, the high ones of
// `high_group` from `high_word` on.
template <DType kDType, int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddNibbles(const TokensView& tokens, uint32_t group,
                                               uint32_t word, uint32_t high_group,
                                               uint32_t high_word, const Vi* words,
                                               PlaneDots<kTokens>& low, PlaneDots<kTokens>& high) {
  for (uint32_t i = 0; i < 4; ++i) {
    AddWord<kDType, kPlanes>(tokens, group, word + i, LowNibbles(words[i]), low);
    AddWord<kDType, kPlanes>(tokens, high_group, high_word + i, HighNibbles(words[i]), high);
  }
}

// sums[tokens][kLanes] += the rows of `blocks` blocks times the tokens.
using DotRowsFn = void (*)(const EvenRows& rows, uint64_t blocks, TokensView tokens, float* sums);

template <int kTokens>
HWY_INLINE void LoadTotals(const float* sums, Vf* totals) {
  for (int t = 0; t < kTokens; ++t) totals[t] = hn::LoadU(Df(), sums + t * kLanes);
}
template <int kTokens>
HWY_INLINE void StoreTotals(const Vf* totals, float* sums) {
  for (int t = 0; t < kTokens; ++t) hn::StoreU(totals[t], Df(), sums + t * kLanes);
}

// Calls add.operator()<kGroup>() with kGroup 0 to 7, in order.
template <typename Add>
WEIR_TILE_ATTRIBUTE HWY_INLINE void ForEightGroups(const Add& add) {
  add.template operator()<0>();
  add.template operator()<1>();
  add.template operator()<2>();
  add.template operator()<3>();
  add.template operator()<4>();
  add.template operator()<5>();
  add.template operator()<6>();
  add.template operator()<7>();
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
