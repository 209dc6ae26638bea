// Rows of formats in blocks of 32 times a few tokens; see kernels/dot_words-inl.h.
#if defined(WEIR_KERNELS_DOT_ROWS_SMALL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_DOT_ROWS_SMALL_INL_H_
#undef WEIR_KERNELS_DOT_ROWS_SMALL_INL_H_
#else
#define WEIR_KERNELS_DOT_ROWS_SMALL_INL_H_
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

// kDType: Q5_0, or Q5_1, which has offsets.
template <DType kDType, int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddBlockQ5(const TokensView& tokens, uint32_t b, Vf scale,
                                               Vf offset, Vi low_bits, Vi high_bits,
                                               const Vi* words, Vf* totals) {
  PlaneDots<kTokens> dots;
  Clear(&dots);
  Vi four[4];
  const auto add = [&](uint32_t word, Vi values) WEIR_TILE_ATTRIBUTE {
    four[word % 4] = values;
    if (word % 4 == 3) AddFourWords<kDType, kPlanes>(tokens, b, word - 3, four, dots);
  };
  ForWordsOfQ5_0(low_bits, high_bits, words, add);
  AddGroup<kDType, kPlanes>(tokens, b, dots, scale, offset, totals);
}

#if HWY_TARGET == HWY_AVX3_DL
// Two blocks in eleven words.
template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddTwoQ5_0(const TokensView& tokens, uint32_t b,
                                               const Vi* words, Vf* totals) {
  Vi first[4];
  HalfWordOn<4>(words + 1, first);
  AddBlockQ5<DType::kQ5_0, kPlanes, kTokens>(tokens, b, LowHalves(words[0]), Vf(),
                                             hn::ShiftRight<16>(words[0]), words[1], first, totals);
  AddBlockQ5<DType::kQ5_0, kPlanes, kTokens>(tokens, b + 1, HighHalves(words[5]), Vf(), words[6],
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
    AddBlockQ5<DType::kQ5_0, kPlanes, kTokens>(tokens, 0, LowHalves(head[0]), Vf(),
                                               hn::ShiftRight<16>(head[0]), head[1], words, totals);
    from.Next(sizeof(BlockQ5_0));
    NextGroups<32>(&tokens, 1);
  }
  StoreTotals<kTokens>(totals, sums);
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotQ5_1(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                 float* sums) {
  RowsReader from(rows);
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  for (; blocks > 0; --blocks) {
    Vi head[4], words[4];
    from.Load(0, head);
    from.Load(offsetof(BlockQ5_1, qs), words);
    AddBlockQ5<DType::kQ5_1, kPlanes, kTokens>(tokens, 0, LowHalves(head[0]), HighHalves(head[0]),
                                               head[1], hn::ShiftRight<16>(head[1]), words, totals);
    from.Next(sizeof(BlockQ5_1));
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

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
