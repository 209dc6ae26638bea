// kLanes rows of a weight times one token: words are multiplied as they are decoded, in registers,
// so that no tile is written and read again for a single use. How rows are loaded and values,
// scales and offsets come out of them is as in kernels/build_tile-inl.h; the sums are those that
// kernels/matmul_cpu.h states, bit for bit.
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

// sums[kLanes] = the rows of `blocks` blocks times the token.
using DotRowsFn = void (*)(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                           float* sums);

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

template <int kPlanes>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddBlockQ4_0(const TokensView& token, uint32_t b, Vf scale,
                                                 const Vi* words, Vf& total) {
  PlaneDots dots = NoDots();
  AddNibbles<DType::kQ4_0, kPlanes>(token, 32 * b, 32 * b + 16, words, dots, dots);
  AddGroup<DType::kQ4_0>(token, b, WholeDots<DType::kQ4_0, kPlanes>(dots), scale, Vf(), total);
}

#if HWY_TARGET == HWY_AVX3_DL
// Two blocks of Q4_0 in nine words: the first's nibbles are half a word off.
template <int kPlanes>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddTwoQ4_0(const TokensView& token, uint32_t b, const Vi* words,
                                               Vf& total) {
  Vi first[4];
  HalfWordOn<4>(words, first);
  AddBlockQ4_0<kPlanes>(token, b, LowHalves(words[0]), first, total);
  AddBlockQ4_0<kPlanes>(token, b + 1, HighHalves(words[4]), words + 5, total);
}
#endif

template <int kPlanes>
WEIR_TILE_ATTRIBUTE void DotQ4_0(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                                 float* sums) {
  RowsReader from(rows);
  Vf total = hn::Zero(Df());
  uint32_t b = 0;
#if HWY_TARGET == HWY_AVX3_DL
  for (; b + kStepBlocks <= blocks; b += kStepBlocks) {
    Vi words[36];
    from.LoadLong(0, words);
    from.LoadLong(32, words + 8);
    AddTwoQ4_0<kPlanes>(token, b, words, total);
    from.LoadLong(64, words + 16);
    AddTwoQ4_0<kPlanes>(token, b + 2, words + 9, total);
    from.LoadLong(96, words + 24);
    AddTwoQ4_0<kPlanes>(token, b + 4, words + 18, total);
    from.Load(128, words + 32);
    AddTwoQ4_0<kPlanes>(token, b + 6, words + 27, total);
    from.Next(kStepBlocks * sizeof(BlockQ4_0));
  }
#endif
  for (; b < blocks; ++b) {
    Vi head[4], words[4];
    from.Load(0, head);
    from.Load(offsetof(BlockQ4_0, qs), words);
    AddBlockQ4_0<kPlanes>(token, b, LowHalves(head[0]), words, total);
    from.Next(sizeof(BlockQ4_0));
  }
  hn::StoreU(total, Df(), sums);
}

template <int kPlanes>
WEIR_TILE_ATTRIBUTE void DotQ4_1(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                                 float* sums) {
  RowsReader from(rows);
  Vf total = hn::Zero(Df());
  const auto add = [&](uint32_t b, Vi head, const Vi* words) WEIR_TILE_ATTRIBUTE {
    PlaneDots dots = NoDots();
    AddNibbles<DType::kQ4_1, kPlanes>(token, 32 * b, 32 * b + 16, words, dots, dots);
    AddGroup<DType::kQ4_1>(token, b, WholeDots<DType::kQ4_1, kPlanes>(dots), LowHalves(head),
                           HighHalves(head), total);
  };
  uint32_t b = 0;
  // A block is five words: four of them are five loads.
  for (; b + 4 <= blocks; b += 4) {
    Vi words[20];
    for (uint32_t i = 0; i < 20; i += 4) {
      from.Load(4 * i, words + i);
    }
    for (uint32_t i = 0; i < 4; ++i) add(b + i, words[5 * i], words + 5 * i + 1);
    from.Next(4 * sizeof(BlockQ4_1));
  }
  for (; b < blocks; ++b) {
    Vi head[4], words[4];
    from.Load(0, head);
    from.Load(offsetof(BlockQ4_1, qs), words);
    add(b, head[0], words);
    from.Next(sizeof(BlockQ4_1));
  }
  hn::StoreU(total, Df(), sums);
}

template <int kPlanes>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddBlockQ5_0(const TokensView& token, uint32_t b, Vf scale,
                                                 Vi low_bits, Vi high_bits, const Vi* words,
                                                 Vf& total) {
  PlaneDots dots = NoDots();
  const auto add = [&](uint32_t word, Vi values) WEIR_TILE_ATTRIBUTE {
    AddWord<DType::kQ5_0, kPlanes>(token, 32 * b + 4 * word, values, dots);
  };
  ForWordsOfQ5_0(low_bits, high_bits, words, add);
  AddGroup<DType::kQ5_0>(token, b, WholeDots<DType::kQ5_0, kPlanes>(dots), scale, Vf(), total);
}

#if HWY_TARGET == HWY_AVX3_DL
// Two blocks in eleven words.
template <int kPlanes>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddTwoQ5_0(const TokensView& token, uint32_t b, const Vi* words,
                                               Vf& total) {
  Vi first[4];
  HalfWordOn<4>(words + 1, first);
  AddBlockQ5_0<kPlanes>(token, b, LowHalves(words[0]), hn::ShiftRight<16>(words[0]), words[1],
                        first, total);
  AddBlockQ5_0<kPlanes>(token, b + 1, HighHalves(words[5]), words[6], hn::ShiftRight<16>(words[6]),
                        words + 7, total);
}
#endif

template <int kPlanes>
WEIR_TILE_ATTRIBUTE void DotQ5_0(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                                 float* sums) {
  RowsReader from(rows);
  Vf total = hn::Zero(Df());
  uint32_t b = 0;
#if HWY_TARGET == HWY_AVX3_DL
  for (; b + kStepBlocks <= blocks; b += kStepBlocks) {
    Vi words[44];
    from.LoadLong(0, words);
    from.LoadLong(32, words + 8);
    AddTwoQ5_0<kPlanes>(token, b, words, total);
    from.LoadLong(64, words + 16);
    AddTwoQ5_0<kPlanes>(token, b + 2, words + 11, total);
    from.LoadLong(96, words + 24);
    from.LoadLong(128, words + 32);
    AddTwoQ5_0<kPlanes>(token, b + 4, words + 22, total);
    from.Load(160, words + 40);
    AddTwoQ5_0<kPlanes>(token, b + 6, words + 33, total);
    from.Next(kStepBlocks * sizeof(BlockQ5_0));
  }
#endif
  for (; b < blocks; ++b) {
    Vi head[4], words[4];
    from.Load(0, head);
    from.Load(offsetof(BlockQ5_0, qs), words);
    AddBlockQ5_0<kPlanes>(token, b, LowHalves(head[0]), hn::ShiftRight<16>(head[0]), head[1], words,
                          total);
    from.Next(sizeof(BlockQ5_0));
  }
  hn::StoreU(total, Df(), sums);
}

template <int kPlanes>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddBlockQ8_0(const TokensView& token, uint32_t b, Vf scale,
                                                 const Vi* words, Vf& total) {
  constexpr bool kSigned = IsSigned<GroupFormOf(DType::kQ8_0).max_value>();
  PlaneDots dots = NoDots();
  for (uint32_t i = 0; i < 8; ++i) {
    const Vi values = kSigned ? words[i] : hn::Xor(words[i], Bytes(0x80));
    AddWord<DType::kQ8_0, kPlanes>(token, 32 * b + 4 * i, values, dots);
  }
  AddGroup<DType::kQ8_0>(token, b, WholeDots<DType::kQ8_0, kPlanes>(dots), scale, Vf(), total);
}

#if HWY_TARGET == HWY_AVX3_DL
// Two blocks in 17 words, of which the first takes nine and leaves the other's scale in the last.
template <int kPlanes>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddFirstQ8_0(const TokensView& token, uint32_t b,
                                                 const Vi* words, Vf& total) {
  Vi first[8];
  HalfWordOn<8>(words, first);
  AddBlockQ8_0<kPlanes>(token, b, LowHalves(words[0]), first, total);
}
template <int kPlanes>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddSecondQ8_0(const TokensView& token, uint32_t b,
                                                  const Vi* words, Vf& total) {
  AddBlockQ8_0<kPlanes>(token, b, HighHalves(words[0]), words + 1, total);
}
#endif

template <int kPlanes>
WEIR_TILE_ATTRIBUTE void DotQ8_0(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                                 float* sums) {
  RowsReader from(rows);
  Vf total = hn::Zero(Df());
  uint32_t b = 0;
#if HWY_TARGET == HWY_AVX3_DL
  for (; b + kStepBlocks <= blocks; b += kStepBlocks) {
    Vi words[68];
    from.LoadLong(0, words);
    from.LoadLong(32, words + 8);
    AddFirstQ8_0<kPlanes>(token, b, words, total);
    from.LoadLong(64, words + 16);
    AddSecondQ8_0<kPlanes>(token, b + 1, words + 8, total);
    from.LoadLong(96, words + 24);
    AddFirstQ8_0<kPlanes>(token, b + 2, words + 17, total);
    from.LoadLong(128, words + 32);
    AddSecondQ8_0<kPlanes>(token, b + 3, words + 25, total);
    from.LoadLong(160, words + 40);
    AddFirstQ8_0<kPlanes>(token, b + 4, words + 34, total);
    from.LoadLong(192, words + 48);
    AddSecondQ8_0<kPlanes>(token, b + 5, words + 42, total);
    from.LoadLong(224, words + 56);
    AddFirstQ8_0<kPlanes>(token, b + 6, words + 51, total);
    from.Load(256, words + 64);
    AddSecondQ8_0<kPlanes>(token, b + 7, words + 59, total);
    from.Next(kStepBlocks * sizeof(BlockQ8_0));
  }
#endif
  for (; b < blocks; ++b) {
    Vi head[4], words[8];
    from.Load(0, head);
    from.LoadLong(offsetof(BlockQ8_0, qs), words);
    AddBlockQ8_0<kPlanes>(token, b, LowHalves(head[0]), words, total);
    from.Next(sizeof(BlockQ8_0));
  }
  hn::StoreU(total, Df(), sums);
}

template <int kGroup>
HWY_INLINE Vf ScaleOf(const KScales& k) {
  return hn::Mul(k.d, ByteToFloat<kGroup % 4>(k.scales[kGroup / 4]));
}
template <int kGroup>
HWY_INLINE Vf OffsetOf(const KScales& k) {
  return hn::Mul(k.negative_dmin, ByteToFloat<kGroup % 4>(k.minima[kGroup / 4]));
}

// Groups 2 * kPair and the next of block `b`: 64 columns in 32 bytes at `qs`, of which
// `add(column, i, words, low, high)` multiplies 16 bytes from word i on.
template <DType kDType, int kPlanes, int kPair, typename Add>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddPair(RowsReader& from, uint64_t qs, uint32_t b,
                                            const TokensView& token, const KScales& scales,
                                            const Add& add, Vf& total) {
  PlaneDots low = NoDots(), high = NoDots();
  for (uint32_t i = 0; i < 8; i += 4) {
    Vi words[4];
    from.Load(qs + 32 * kPair + 4 * i, words);
    add(256 * b + 64 * kPair + 4 * i, i, words, low, high);
  }
  const uint32_t group = 8 * b + 2 * kPair;
  AddGroup<kDType>(token, group, WholeDots<kDType, kPlanes>(low), ScaleOf<2 * kPair>(scales),
                   OffsetOf<2 * kPair>(scales), total);
  AddGroup<kDType>(token, group + 1, WholeDots<kDType, kPlanes>(high),
                   ScaleOf<2 * kPair + 1>(scales), OffsetOf<2 * kPair + 1>(scales), total);
}

template <int kPlanes>
WEIR_TILE_ATTRIBUTE void DotQ4_K(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                                 float* sums) {
  constexpr uint64_t kQs = offsetof(BlockQ4_K, qs);
  RowsReader from(rows);
  Vf total = hn::Zero(Df());
  const auto add = [&](uint32_t column, uint32_t, const Vi* words, PlaneDots& low,
                       PlaneDots& high) WEIR_TILE_ATTRIBUTE {
    AddNibbles<DType::kQ4_K, kPlanes>(token, column, column + 32, words, low, high);
  };
  for (uint32_t b = 0; b < blocks; ++b) {
    Vi head[4];
    from.Load(0, head);
    const KScales scales = ScalesAndMinima(head);
    AddPair<DType::kQ4_K, kPlanes, 0>(from, kQs, b, token, scales, add, total);
    AddPair<DType::kQ4_K, kPlanes, 1>(from, kQs, b, token, scales, add, total);
    AddPair<DType::kQ4_K, kPlanes, 2>(from, kQs, b, token, scales, add, total);
    AddPair<DType::kQ4_K, kPlanes, 3>(from, kQs, b, token, scales, add, total);
    from.Next(sizeof(BlockQ4_K));
  }
  hn::StoreU(total, Df(), sums);
}

template <int kPlanes>
WEIR_TILE_ATTRIBUTE void DotQ5_K(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                                 float* sums) {
  constexpr uint64_t kQs = offsetof(BlockQ5_K, qs);
  RowsReader from(rows);
  Vf total = hn::Zero(Df());
  for (uint32_t b = 0; b < blocks; ++b) {
    Vi head[4], qh[8];
    from.Load(0, head);
    from.Load(offsetof(BlockQ5_K, qh), qh);
    from.Load(offsetof(BlockQ5_K, qh) + 16, qh + 4);
    const KScales scales = ScalesAndMinima(head);
    const auto pair = [&]<int kPair>() WEIR_TILE_ATTRIBUTE {
      const auto add = [&](uint32_t column, uint32_t i, const Vi* words, PlaneDots& low,
                           PlaneDots& high) WEIR_TILE_ATTRIBUTE {
        for (uint32_t j = 0; j < 4; ++j) {
          const Vi low_bit = FifthBit<2 * kPair>(qh[i + j]);
          const Vi high_bit = FifthBit<2 * kPair + 1>(qh[i + j]);
          AddWord<DType::kQ5_K, kPlanes>(token, column + 4 * j,
                                         hn::Or(LowNibbles(words[j]), low_bit), low);
          AddWord<DType::kQ5_K, kPlanes>(token, column + 32 + 4 * j,
                                         hn::Or(HighNibbles(words[j]), high_bit), high);
        }
      };
      AddPair<DType::kQ5_K, kPlanes, kPair>(from, kQs, b, token, scales, add, total);
    };
    pair.template operator()<0>();
    pair.template operator()<1>();
    pair.template operator()<2>();
    pair.template operator()<3>();
    from.Next(sizeof(BlockQ5_K));
  }
  hn::StoreU(total, Df(), sums);
}

// Half of a block of Q6_K: 8 groups of 16, in two steps that bring every other group.
template <int kPlanes, int kHalf>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddHalfQ6_K(RowsReader& from, uint32_t b,
                                                const TokensView& token, const Vi* scales, Vf d,
                                                Vf& total) {
  Vi dots[8];
  for (uint32_t i = 0; i < 2; ++i) {
    const uint64_t ql = 64 * kHalf + 16 * i;
    Vi low[4], low32[4], qh[4];
    from.Load(offsetof(BlockQ6_K, qh) + 32 * kHalf + 16 * i, qh);
    from.Load(ql, low);
    from.Load(ql + 32, low32);
    PlaneDots of[4] = {NoDots(), NoDots(), NoDots(), NoDots()};
    for (uint32_t j = 0; j < 4; ++j) {
      const uint32_t column = 256 * b + 128 * kHalf + 16 * i + 4 * j;
      AddWord<DType::kQ6_K, kPlanes>(token, column,
                                     hn::Or(LowNibbles(low[j]), UpperTwoBits<0>(qh[j])), of[0]);
      AddWord<DType::kQ6_K, kPlanes>(token, column + 32,
                                     hn::Or(LowNibbles(low32[j]), UpperTwoBits<1>(qh[j])), of[1]);
      AddWord<DType::kQ6_K, kPlanes>(token, column + 64,
                                     hn::Or(HighNibbles(low[j]), UpperTwoBits<2>(qh[j])), of[2]);
      AddWord<DType::kQ6_K, kPlanes>(token, column + 96,
                                     hn::Or(HighNibbles(low32[j]), UpperTwoBits<3>(qh[j])), of[3]);
    }
    for (uint32_t k = 0; k < 4; ++k) dots[2 * k + i] = WholeDots<DType::kQ6_K, kPlanes>(of[k]);
  }
  const auto add = [&]<int kGroup>() HWY_ATTR {
    const Vf scale = hn::Mul(d, SignedByteToFloat<kGroup % 4>(scales[2 * kHalf + kGroup / 4]));
    AddGroup<DType::kQ6_K>(token, 16 * b + 8 * kHalf + kGroup, dots[kGroup], scale, Vf(), total);
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

template <int kPlanes>
WEIR_TILE_ATTRIBUTE void DotQ6_K(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                                 float* sums) {
  RowsReader from(rows);
  Vf total = hn::Zero(Df());
  for (uint32_t b = 0; b < blocks; ++b) {
    Vi tail[4], scales[4];
    from.Load(sizeof(BlockQ6_K) - 16, tail);  // d is its last half word
    from.Load(offsetof(BlockQ6_K, scales), scales);
    const Vf d = HighHalves(tail[3]);
    AddHalfQ6_K<kPlanes, 0>(from, b, token, scales, d, total);
    AddHalfQ6_K<kPlanes, 1>(from, b, token, scales, d, total);
    from.Next(sizeof(BlockQ6_K));
  }
  hn::StoreU(total, Df(), sums);
}

// Null where the way of many tokens is the way of one, too.
template <int kPlanes>
DotRowsFn GetDotRows(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return &DotQ4_0<kPlanes>;
    case DType::kQ4_1:
      return &DotQ4_1<kPlanes>;
    case DType::kQ5_0:
      return &DotQ5_0<kPlanes>;
    case DType::kQ8_0:
      return &DotQ8_0<kPlanes>;
    case DType::kQ4_K:
      return &DotQ4_K<kPlanes>;
    case DType::kQ5_K:
      return &DotQ5_K<kPlanes>;
    case DType::kQ6_K:
      return &DotQ6_K<kPlanes>;
    default:
      return nullptr;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
