// Rows of the K formats, in blocks of 256, times a few tokens; see kernels/dot_words-inl.h.
#if defined(WEIR_KERNELS_DOT_ROWS_K_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_DOT_ROWS_K_INL_H_
#undef WEIR_KERNELS_DOT_ROWS_K_INL_H_
#else
#define WEIR_KERNELS_DOT_ROWS_K_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/build_tile-inl.h"
#include "kernels/dot_words-inl.h"
#include "kernels/group_form.h"
#include "kernels/quant_blocks.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

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

// Four words of two bits each: bits 2 * kPart and 2 * kPart + 1 of the bytes.
template <int kPart>
HWY_INLINE void WordsOfTwoBits(const Vi* qs, Vi* values) {
  for (uint32_t j = 0; j < 4; ++j) values[j] = hn::And(hn::ShiftRight<2 * kPart>(qs[j]), Bytes(3));
}

// Half of a block whose groups are of 16 columns, in two steps that bring every other group:
// dots[group][token] of 8 groups. `load(i)` brings the bytes of a step,
// `values.operator()<kPart>(four)` makes the four words of group 2 * kPart + i of them.
template <DType kDType, int kPlanes, int kTokens, int kHalf, typename Load, typename Values>
WEIR_TILE_ATTRIBUTE HWY_INLINE void DotsOfHalf(const TokensView& tokens, const Load& load,
                                               const Values& values,
                                               Vi (*HWY_RESTRICT dots)[kTokens]) {
  for (uint32_t i = 0; i < 2; ++i) {
    load(i);
    const auto multiply = [&]<int kPart>() WEIR_TILE_ATTRIBUTE __attribute__((always_inline)) {
      const uint32_t group = 8 * kHalf + 2 * kPart + i;
      Vi four[4];
      values.template operator()<kPart>(four);
      PlaneDots<kTokens> of;
      Clear(&of);
      AddFourWords<kDType, kPlanes>(tokens, group / 2, 4 * i, four, of);
      for (int t = 0; t < kTokens; ++t) {
        dots[2 * kPart + i][t] = GroupDot<kDType, kPlanes>(tokens, t, group, of.high[t], of.low[t]);
      }
    };
    multiply.template operator()<0>();
    multiply.template operator()<1>();
    multiply.template operator()<2>();
    multiply.template operator()<3>();
  }
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

// Half of a block of Q6_K, as DotsOfHalf and what follows it: by way of that GCC needs 10 % more
// instructions.
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
  ForEightGroups(add);
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

// totals += group `group`, whose dot products these are.
template <DType kDType, int kTokens>
HWY_INLINE void AddDots(const TokensView& tokens, uint32_t group, const Vi* dots, Vf scale,
                        Vf offset, Vf* HWY_RESTRICT totals) {
  for (int t = 0; t < kTokens; ++t) {
    AddDot<kDType>(tokens, t, group, dots[t], scale, totals[t]);
    if constexpr (GroupFormOf(kDType).has_offset) AddOffset(tokens, t, group, offset, totals[t]);
  }
}

template <int kPlanes, int kTokens, int kHalf>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddHalfQ2_K(RowsReader& from, const TokensView& tokens,
                                                const Vi* scales, Vf d, Vf negative_dmin,
                                                Vf* totals) {
  Vi qs[4];
  const auto load = [&](uint32_t i)
                        HWY_ATTR { from.Load(offsetof(BlockQ2_K, qs) + 32 * kHalf + 16 * i, qs); };
  const auto values = [&]<int kPart>(Vi* four) HWY_ATTR { WordsOfTwoBits<kPart>(qs, four); };
  Vi dots[8][kTokens];
  DotsOfHalf<DType::kQ2_K, kPlanes, kTokens, kHalf>(tokens, load, values, dots);
  const auto add = [&]<int kGroup>() HWY_ATTR {
    const Vi of_four = scales[2 * kHalf + kGroup / 4];
    AddDots<DType::kQ2_K, kTokens>(
        tokens, 8 * kHalf + kGroup, dots[kGroup],
        hn::Mul(d, ByteToFloat<kGroup % 4>(LowNibbles(of_four))),
        hn::Mul(negative_dmin, ByteToFloat<kGroup % 4>(HighNibbles(of_four))), totals);
  };
  ForEightGroups(add);
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotQ2_K(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                 float* sums) {
  RowsReader from(rows);
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  for (; blocks > 0; --blocks) {
    Vi tail[4], scales[4];
    from.Load(sizeof(BlockQ2_K) - 16, tail);  // d and dmin are its last word
    from.Load(offsetof(BlockQ2_K, scales), scales);
    const Vf d = LowHalves(tail[3]), negative_dmin = hn::Neg(HighHalves(tail[3]));
    AddHalfQ2_K<kPlanes, kTokens, 0>(from, tokens, scales, d, negative_dmin, totals);
    AddHalfQ2_K<kPlanes, kTokens, 1>(from, tokens, scales, d, negative_dmin, totals);
    from.Next(sizeof(BlockQ2_K));
    NextGroups<16>(&tokens, 8);
  }
  StoreTotals<kTokens>(totals, sums);
}

// Bit kBit of each byte as the third bit of a value.
template <int kBit>
HWY_INLINE Vi ThirdBit(Vi bits) {
  if constexpr (kBit < 2) bits = hn::ShiftLeft<2 - kBit>(bits);
  if constexpr (kBit > 2) bits = hn::ShiftRight<kBit - 2>(bits);
  return hn::And(bits, Bytes(4));
}

// 16 scales of six bits, four a word, from the three words that hold them (BlockQ3_K).
HWY_INLINE void ScalesOfQ3_K(const Vi* packed, Vi* scales) {
  const Vi upper_two = Bytes(0x30), pairs = packed[2];
  scales[0] = hn::Or(LowNibbles(packed[0]), hn::And(hn::ShiftLeft<4>(pairs), upper_two));
  scales[1] = hn::Or(LowNibbles(packed[1]), hn::And(hn::ShiftLeft<2>(pairs), upper_two));
  scales[2] = hn::Or(HighNibbles(packed[0]), hn::And(pairs, upper_two));
  scales[3] = hn::Or(HighNibbles(packed[1]), hn::And(hn::ShiftRight<2>(pairs), upper_two));
}

template <int kPlanes, int kTokens, int kHalf>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddHalfQ3_K(RowsReader& from, const TokensView& tokens,
                                                const Vi* scales, Vf d, Vf* totals) {
  Vi qs[4], high[4];
  const auto load = [&](uint32_t i) HWY_ATTR {
    from.Load(offsetof(BlockQ3_K, qs) + 32 * kHalf + 16 * i, qs);
    from.Load(offsetof(BlockQ3_K, hmask) + 16 * i, high);
  };
  const auto values = [&]<int kPart>(Vi* four) HWY_ATTR {
    WordsOfTwoBits<kPart>(qs, four);
    for (uint32_t j = 0; j < 4; ++j) {
      four[j] = hn::Or(four[j], ThirdBit<4 * kHalf + kPart>(high[j]));
    }
  };
  Vi dots[8][kTokens];
  DotsOfHalf<DType::kQ3_K, kPlanes, kTokens, kHalf>(tokens, load, values, dots);
  const auto add = [&]<int kGroup>() HWY_ATTR {
    const Vf six_bits = ByteToFloat<kGroup % 4>(scales[2 * kHalf + kGroup / 4]);
    const Vf scale = hn::Mul(d, hn::Sub(six_bits, hn::Set(Df(), 32.0f)));
    AddDots<DType::kQ3_K, kTokens>(tokens, 8 * kHalf + kGroup, dots[kGroup], scale, Vf(), totals);
  };
  ForEightGroups(add);
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotQ3_K(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                 float* sums) {
  RowsReader from(rows);
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  for (; blocks > 0; --blocks) {
    Vi tail[4], packed[4], scales[4];
    from.Load(sizeof(BlockQ3_K) - 16, tail);             // d is its last half word
    from.Load(offsetof(BlockQ3_K, scales) - 4, packed);  // the scales are its last three words
    const Vf d = HighHalves(tail[3]);
    ScalesOfQ3_K(packed + 1, scales);
    AddHalfQ3_K<kPlanes, kTokens, 0>(from, tokens, scales, d, totals);
    AddHalfQ3_K<kPlanes, kTokens, 1>(from, tokens, scales, d, totals);
    from.Next(sizeof(BlockQ3_K));
    NextGroups<16>(&tokens, 8);
  }
  StoreTotals<kTokens>(totals, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
