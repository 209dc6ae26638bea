// kLanes rows of a weight times a few tokens: words are multiplied as they are decoded, in
// registers, so that no tile is written and read again for a few uses. How rows are loaded and
// values, scales and offsets come out of them is as in kernels/build_tile-inl.h; the sums are those
// that kernels/matmul_cpu.h states, bit for bit.
#if defined(WEIR_KERNELS_DOT_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_DOT_ROWS_INL_H_
#undef WEIR_KERNELS_DOT_ROWS_INL_H_
#else
#define WEIR_KERNELS_DOT_ROWS_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/build_tile-inl.h"
#include "kernels/dot_words-inl.h"
#include "kernels/group_form.h"
#include "kernels/matmul_tile-inl.h"
#include "kernels/quant_blocks.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

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

#if HWY_TARGET == HWY_AVX3_DL
// Formats whose blocks are an odd number of half words take so many at once, so that no load reads
// a scale alone.
constexpr uint32_t kStepBlocks = 8;

// The kCount words that begin half a word after `words`.
template <uint32_t kCount>
HWY_INLINE void HalfWordOn(const Vi* words, Vi* HWY_RESTRICT to) {
  for (uint32_t i = 0; i < kCount; ++i) {
    to[i] = Vi{_mm512_shrdi_epi32(words[i].raw, words[i + 1].raw, 16)};
  }
}
#endif

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddBlockQ4_0(const TokensView& tokens, uint32_t b, Vf scale,
                                                 const Vi* words, Vf* totals) {
  PlaneDots<kTokens> dots;
  Clear(&dots);
  AddNibbles<DType::kQ4_0, kPlanes>(tokens, b, 0, b, 4, words, dots, dots);
  AddGroup<DType::kQ4_0, kPlanes>(tokens, b, dots, scale, Vf(), totals);
}

#if HWY_TARGET == HWY_AVX3_DL
// Two blocks of Q4_0 in nine words: the first's nibbles are half a word off.
template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddTwoQ4_0(const TokensView& tokens, uint32_t b,
                                               const Vi* words, Vf* totals) {
  Vi first[4];
  HalfWordOn<4>(words, first);
  AddBlockQ4_0<kPlanes, kTokens>(tokens, b, LowHalves(words[0]), first, totals);
  AddBlockQ4_0<kPlanes, kTokens>(tokens, b + 1, HighHalves(words[4]), words + 5, totals);
}
#endif

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotQ4_0(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                 float* sums) {
  RowsReader from(rows);
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  uint64_t b = 0;
#if HWY_TARGET == HWY_AVX3_DL
  for (; b + kStepBlocks <= blocks; b += kStepBlocks) {
    Vi words[36];
    from.LoadLong(0, words);
    from.LoadLong(32, words + 8);
    AddTwoQ4_0<kPlanes, kTokens>(tokens, 0, words, totals);
    from.LoadLong(64, words + 16);
    AddTwoQ4_0<kPlanes, kTokens>(tokens, 2, words + 9, totals);
    from.LoadLong(96, words + 24);
    AddTwoQ4_0<kPlanes, kTokens>(tokens, 4, words + 18, totals);
    from.Load(128, words + 32);
    AddTwoQ4_0<kPlanes, kTokens>(tokens, 6, words + 27, totals);
    from.Next(kStepBlocks * sizeof(BlockQ4_0));
    NextGroups<32>(&tokens, kStepBlocks);
  }
#endif
  for (; b < blocks; ++b) {
    const Vf scale = from.LoadHalves(0);
    Vi words[4];
    from.Load(offsetof(BlockQ4_0, qs), words);
    AddBlockQ4_0<kPlanes, kTokens>(tokens, 0, scale, words, totals);
    from.Next(sizeof(BlockQ4_0));
    NextGroups<32>(&tokens, 1);
  }
  StoreTotals<kTokens>(totals, sums);
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotQ4_1(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                 float* sums) {
  RowsReader from(rows);
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  const auto add = [&](uint32_t b, Vi head, const Vi* words) WEIR_TILE_ATTRIBUTE {
    PlaneDots<kTokens> dots;
    Clear(&dots);
    AddNibbles<DType::kQ4_1, kPlanes>(tokens, b, 0, b, 4, words, dots, dots);
    AddGroup<DType::kQ4_1, kPlanes>(tokens, b, dots, LowHalves(head), HighHalves(head), totals);
  };
  uint64_t b = 0;
  // A block is five words: four of them are five loads.
  for (; b + 4 <= blocks; b += 4) {
    Vi words[20];
    for (uint32_t i = 0; i < 20; i += 4) {
      from.Load(4 * i, words + i);
    }
    for (uint32_t i = 0; i < 4; ++i) add(i, words[5 * i], words + 5 * i + 1);
    from.Next(4 * sizeof(BlockQ4_1));
    NextGroups<32>(&tokens, 4);
  }
  for (; b < blocks; ++b) {
    Vi head[4], words[4];
    from.Load(0, head);
    from.Load(offsetof(BlockQ4_1, qs), words);
    add(0, head[0], words);
    from.Next(sizeof(BlockQ4_1));
    NextGroups<32>(&tokens, 1);
  }
  StoreTotals<kTokens>(totals, sums);
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddBlockQ5_0(const TokensView& tokens, uint32_t b, Vf scale,
                                                 Vi low_bits, Vi high_bits, const Vi* words,
                                                 Vf* totals) {
  PlaneDots<kTokens> dots;
  Clear(&dots);
  Vi four[4];
  const auto add = [&](uint32_t word, Vi values) WEIR_TILE_ATTRIBUTE {
    four[word % 4] = values;
    if (word % 4 == 3) AddFourWords<DType::kQ5_0, kPlanes>(tokens, b, word - 3, four, dots);
  };
  ForWordsOfQ5_0(low_bits, high_bits, words, add);
  AddGroup<DType::kQ5_0, kPlanes>(tokens, b, dots, scale, Vf(), totals);
}

#if HWY_TARGET == HWY_AVX3_DL
// Two blocks in eleven words.
template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddTwoQ5_0(const TokensView& tokens, uint32_t b,
                                               const Vi* words, Vf* totals) {
  Vi first[4];
  HalfWordOn<4>(words + 1, first);
  AddBlockQ5_0<kPlanes, kTokens>(tokens, b, LowHalves(words[0]), hn::ShiftRight<16>(words[0]),
                                 words[1], first, totals);
  AddBlockQ5_0<kPlanes, kTokens>(tokens, b + 1, HighHalves(words[5]), words[6],
                                 hn::ShiftRight<16>(words[6]), words + 7, totals);
}
#endif

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotQ5_0(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                 float* sums) {
  RowsReader from(rows);
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  uint64_t b = 0;
#if HWY_TARGET == HWY_AVX3_DL
  for (; b + kStepBlocks <= blocks; b += kStepBlocks) {
    Vi words[44];
    from.LoadLong(0, words);
    from.LoadLong(32, words + 8);
    AddTwoQ5_0<kPlanes, kTokens>(tokens, 0, words, totals);
    from.LoadLong(64, words + 16);
    AddTwoQ5_0<kPlanes, kTokens>(tokens, 2, words + 11, totals);
    from.LoadLong(96, words + 24);
    from.LoadLong(128, words + 32);
    AddTwoQ5_0<kPlanes, kTokens>(tokens, 4, words + 22, totals);
    from.Load(160, words + 40);
    AddTwoQ5_0<kPlanes, kTokens>(tokens, 6, words + 33, totals);
    from.Next(kStepBlocks * sizeof(BlockQ5_0));
    NextGroups<32>(&tokens, kStepBlocks);
  }
#endif
  for (; b < blocks; ++b) {
    Vi head[4], words[4];
    from.Load(0, head);
    from.Load(offsetof(BlockQ5_0, qs), words);
    AddBlockQ5_0<kPlanes, kTokens>(tokens, 0, LowHalves(head[0]), hn::ShiftRight<16>(head[0]),
                                   head[1], words, totals);
    from.Next(sizeof(BlockQ5_0));
    NextGroups<32>(&tokens, 1);
  }
  StoreTotals<kTokens>(totals, sums);
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddBlockQ8_0(const TokensView& tokens, uint32_t b, Vf scale,
                                                 const Vi* words, Vf* totals) {
  constexpr bool kSigned = IsSigned<GroupFormOf(DType::kQ8_0).max_value>();
  PlaneDots<kTokens> dots;
  Clear(&dots);
  for (uint32_t i = 0; i < 8; i += 4) {
    Vi four[4];
    for (uint32_t j = 0; j < 4; ++j) {
      four[j] = kSigned ? words[i + j] : hn::Xor(words[i + j], Bytes(0x80));
    }
    AddFourWords<DType::kQ8_0, kPlanes>(tokens, b, i, four, dots);
  }
  AddGroup<DType::kQ8_0, kPlanes>(tokens, b, dots, scale, Vf(), totals);
}

#if HWY_TARGET == HWY_AVX3_DL
// Two blocks in 17 words, of which the first takes nine and leaves the other's scale in the last.
template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddFirstQ8_0(const TokensView& tokens, uint32_t b,
                                                 const Vi* words, Vf* totals) {
  Vi first[8];
  HalfWordOn<8>(words, first);
  AddBlockQ8_0<kPlanes, kTokens>(tokens, b, LowHalves(words[0]), first, totals);
}
template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddSecondQ8_0(const TokensView& tokens, uint32_t b,
                                                  const Vi* words, Vf* totals) {
  AddBlockQ8_0<kPlanes, kTokens>(tokens, b, HighHalves(words[0]), words + 1, totals);
}
#endif

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotQ8_0(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                 float* sums) {
  RowsReader from(rows);
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  uint64_t b = 0;
#if HWY_TARGET == HWY_AVX3_DL
  for (; b + kStepBlocks <= blocks; b += kStepBlocks) {
    Vi words[68];
    from.LoadLong(0, words);
    from.LoadLong(32, words + 8);
    AddFirstQ8_0<kPlanes, kTokens>(tokens, 0, words, totals);
    from.LoadLong(64, words + 16);
    AddSecondQ8_0<kPlanes, kTokens>(tokens, 1, words + 8, totals);
    from.LoadLong(96, words + 24);
    AddFirstQ8_0<kPlanes, kTokens>(tokens, 2, words + 17, totals);
    from.LoadLong(128, words + 32);
    AddSecondQ8_0<kPlanes, kTokens>(tokens, 3, words + 25, totals);
    from.LoadLong(160, words + 40);
    AddFirstQ8_0<kPlanes, kTokens>(tokens, 4, words + 34, totals);
    from.LoadLong(192, words + 48);
    AddSecondQ8_0<kPlanes, kTokens>(tokens, 5, words + 42, totals);
    from.LoadLong(224, words + 56);
    AddFirstQ8_0<kPlanes, kTokens>(tokens, 6, words + 51, totals);
    from.Load(256, words + 64);
    AddSecondQ8_0<kPlanes, kTokens>(tokens, 7, words + 59, totals);
    from.Next(kStepBlocks * sizeof(BlockQ8_0));
    NextGroups<32>(&tokens, kStepBlocks);
  }
#endif
  for (; b < blocks; ++b) {
    const Vf scale = from.LoadHalves(0);
    Vi words[8];
    from.LoadLong(offsetof(BlockQ8_0, qs), words);
    AddBlockQ8_0<kPlanes, kTokens>(tokens, 0, scale, words, totals);
    from.Next(sizeof(BlockQ8_0));
    NextGroups<32>(&tokens, 1);
  }
  StoreTotals<kTokens>(totals, sums);
}

template <int kGroup>
HWY_INLINE Vf ScaleOf(const KScales& k) {
  return hn::Mul(k.d, ByteToFloat<kGroup % 4>(k.scales[kGroup / 4]));
}
template <int kGroup>
HWY_INLINE Vf OffsetOf(const KScales& k) {
  return hn::Mul(k.negative_dmin, ByteToFloat<kGroup % 4>(k.minima[kGroup / 4]));
}

// Groups 2 * kPair and the next of a block: 64 columns in 32 bytes at `qs`, of which
// `add(group, i, words, low, high)` multiplies 16 bytes from word i on.
template <DType kDType, int kPlanes, int kTokens, int kPair, typename Add>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddPair(RowsReader& from, uint64_t qs, const TokensView& tokens,
                                            const KScales& scales, const Add& add, Vf* totals) {
  constexpr uint32_t kGroup = 2 * kPair;
  PlaneDots<kTokens> low, high;
  Clear(&low);
  Clear(&high);
#pragma GCC unroll 2
  for (uint32_t i = 0; i < 8; i += 4) {
    Vi words[4];
    from.Load(qs + 32 * kPair + 4 * i, words);
    add(kGroup, i, words, low, high);
  }
  AddGroup<kDType, kPlanes>(tokens, kGroup, low, ScaleOf<kGroup>(scales), OffsetOf<kGroup>(scales),
                            totals);
  AddGroup<kDType, kPlanes>(tokens, kGroup + 1, high, ScaleOf<kGroup + 1>(scales),
                            OffsetOf<kGroup + 1>(scales), totals);
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotQ4_K(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                 float* sums) {
  constexpr uint64_t kQs = offsetof(BlockQ4_K, qs);
  RowsReader from(rows);
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  const auto add = [&](uint32_t group, uint32_t i, const Vi* words, PlaneDots<kTokens>& low,
                       PlaneDots<kTokens>& high) WEIR_TILE_ATTRIBUTE {
    AddNibbles<DType::kQ4_K, kPlanes>(tokens, group, i, group + 1, i, words, low, high);
  };
  for (; blocks > 0; --blocks) {
    Vi head[4];
    from.Load(0, head);
    const KScales scales = ScalesAndMinima(head);
    AddPair<DType::kQ4_K, kPlanes, kTokens, 0>(from, kQs, tokens, scales, add, totals);
    AddPair<DType::kQ4_K, kPlanes, kTokens, 1>(from, kQs, tokens, scales, add, totals);
    AddPair<DType::kQ4_K, kPlanes, kTokens, 2>(from, kQs, tokens, scales, add, totals);
    AddPair<DType::kQ4_K, kPlanes, kTokens, 3>(from, kQs, tokens, scales, add, totals);
    from.Next(sizeof(BlockQ4_K));
    NextGroups<32>(&tokens, 8);
  }
  StoreTotals<kTokens>(totals, sums);
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotQ5_K(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                 float* sums) {
  constexpr uint64_t kQs = offsetof(BlockQ5_K, qs);
  RowsReader from(rows);
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  for (; blocks > 0; --blocks) {
    Vi head[4], qh[8];
    from.Load(0, head);
    from.Load(offsetof(BlockQ5_K, qh), qh);
    from.Load(offsetof(BlockQ5_K, qh) + 16, qh + 4);
    const KScales scales = ScalesAndMinima(head);
    const auto pair = [&]<int kPair>() WEIR_TILE_ATTRIBUTE __attribute__((always_inline)) {
      const auto add = [&](uint32_t group, uint32_t i, const Vi* words, PlaneDots<kTokens>& low,
                           PlaneDots<kTokens>& high) WEIR_TILE_ATTRIBUTE
          __attribute__((always_inline)) {
        Vi four[4];
        for (uint32_t j = 0; j < 4; ++j) {
          four[j] = hn::Or(LowNibbles(words[j]), FifthBit<2 * kPair>(qh[i + j]));
        }
        AddFourWords<DType::kQ5_K, kPlanes>(tokens, group, i, four, low);
        for (uint32_t j = 0; j < 4; ++j) {
          four[j] = hn::Or(HighNibbles(words[j]), FifthBit<2 * kPair + 1>(qh[i + j]));
        }
        AddFourWords<DType::kQ5_K, kPlanes>(tokens, group + 1, i, four, high);
      };
      AddPair<DType::kQ5_K, kPlanes, kTokens, kPair>(from, kQs, tokens, scales, add, totals);
    };
    pair.template operator()<0>();
    pair.template operator()<1>();
    pair.template operator()<2>();
    pair.template operator()<3>();
    from.Next(sizeof(BlockQ5_K));
    NextGroups<32>(&tokens, 8);
  }
  StoreTotals<kTokens>(totals, sums);
}

// totals += group `group` of Q6_K, whose dot products these are. HasIntegerScales.
template <int kPlanes, int kTokens>
HWY_INLINE void AddGroupQ6_K(const TokensView& tokens, uint32_t group, const Vi* dots, Vi scale,
                             Vf d, Vf* HWY_RESTRICT totals) {
  for (int t = 0; t < kTokens; ++t) {
    if constexpr (kPlanes == 2) {
      AddDot<DType::kQ6_K>(tokens, t, group, hn::Mul(dots[t], scale), d, totals[t]);
    } else {
      const Vf product = hn::Mul(d, hn::ConvertTo(Df(), scale));
      AddDot<DType::kQ6_K>(tokens, t, group, dots[t], product, totals[t]);
    }
  }
}

// The four words of a group of Q6_K.
template <int kPart>
HWY_INLINE void WordsOfQ6_K(const Vi* nibbles, const Vi* qh, Vi* values) {
  for (uint32_t j = 0; j < 4; ++j) {
    const Vi low = kPart < 2 ? LowNibbles(nibbles[j]) : HighNibbles(nibbles[j]);
    values[j] = hn::Or(low, UpperTwoBits<kPart>(qh[j]));
  }
}

// Half of a block of Q6_K: 8 groups of 16, in two steps that bring every other group.
template <int kPlanes, int kTokens, int kHalf>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddHalfQ6_K(RowsReader& from, const TokensView& tokens,
                                                const Vi* scales, Vf d, Vf* totals) {
  constexpr uint32_t kFirst = 8 * kHalf;
  Vi dots[8][kTokens];
  for (uint32_t i = 0; i < 2; ++i) {
    const uint64_t ql = 64 * kHalf + 16 * i;
    Vi low[4], low32[4], qh[4];
    from.Load(offsetof(BlockQ6_K, qh) + 32 * kHalf + 16 * i, qh);
    from.Load(ql, low);
    from.Load(ql + 32, low32);
    const auto multiply = [&]<int kPart>() WEIR_TILE_ATTRIBUTE {
      const uint32_t group = kFirst + 2 * kPart + i;
      Vi values[4];
      WordsOfQ6_K<kPart>(kPart % 2 == 0 ? low : low32, qh, values);
      PlaneDots<kTokens> of;
      Clear(&of);
      AddFourWords<DType::kQ6_K, kPlanes>(tokens, group / 2, 4 * i, values, of);
      for (int t = 0; t < kTokens; ++t) {
        dots[2 * kPart + i][t] =
            GroupDot<DType::kQ6_K, kPlanes>(tokens, t, group, of.high[t], of.low[t]);
      }
    };
    multiply.template operator()<0>();
    multiply.template operator()<1>();
    multiply.template operator()<2>();
    multiply.template operator()<3>();
  }
  const auto add = [&]<int kGroup>() HWY_ATTR {
    AddGroupQ6_K<kPlanes, kTokens>(tokens, kFirst + kGroup, dots[kGroup],
                                   SignedByte<kGroup % 4>(scales[2 * kHalf + kGroup / 4]), d,
                                   totals);
  };
  add.template operator()<0>();
  add.template operator()<1>();
  add.template operator()<2>();
  add.template operator()<3>();
  add.template operator()<4>();
  add.template operator()<5>();
  add.template operator()<6>();
  add.template operator()<7>();
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotQ6_K(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                 float* sums) {
  RowsReader from(rows);
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  for (; blocks > 0; --blocks) {
    Vi tail[4], scales[4];
    from.Load(sizeof(BlockQ6_K) - 16, tail);  // d is its last half word
    from.Load(offsetof(BlockQ6_K, scales), scales);
    const Vf d = HighHalves(tail[3]);
    AddHalfQ6_K<kPlanes, kTokens, 0>(from, tokens, scales, d, totals);
    AddHalfQ6_K<kPlanes, kTokens, 1>(from, tokens, scales, d, totals);
    from.Next(sizeof(BlockQ6_K));
    NextGroups<16>(&tokens, 8);
  }
  StoreTotals<kTokens>(totals, sums);
}

// Null where the way of many tokens is the way of one, too.
template <int kPlanes, int kTokens>
constexpr DotRowsFn GetDotRows(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return &DotQ4_0<kPlanes, kTokens>;
    case DType::kQ4_1:
      return &DotQ4_1<kPlanes, kTokens>;
    case DType::kQ5_0:
      return &DotQ5_0<kPlanes, kTokens>;
    case DType::kQ8_0:
      return &DotQ8_0<kPlanes, kTokens>;
    case DType::kQ4_K:
      return &DotQ4_K<kPlanes, kTokens>;
    case DType::kQ5_K:
      return &DotQ5_K<kPlanes, kTokens>;
    case DType::kQ6_K:
      return &DotQ6_K<kPlanes, kTokens>;
    default:
      return nullptr;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
