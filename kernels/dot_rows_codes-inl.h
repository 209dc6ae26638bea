// Rows of formats whose values are codes of four bits times a few tokens; see
// kernels/dot_words-inl.h.
#if defined(WEIR_KERNELS_DOT_ROWS_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_DOT_ROWS_CODES_INL_H_
#undef WEIR_KERNELS_DOT_ROWS_CODES_INL_H_
#else
#define WEIR_KERNELS_DOT_ROWS_CODES_INL_H_
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
#include "kernels/unpack-inl.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

// What the 16 codes of IQ4_NL and IQ4_XS stand for, as the products take them.
HWY_INLINE Vi TableOfIQ4() {
  static constexpr ShiftedTable kUnsigned = AddZero(kIQ4Values, 128);
  static constexpr ShiftedTable kSigned = AddZero(kIQ4Values, 0);
  constexpr bool kIsSigned = IsSigned<GroupFormOf(DType::kIQ4_NL).max_value>();
  const hn::Repartition<uint8_t, Di> d;
  return hn::BitCast(Di(), hn::LoadDup128(d, (kIsSigned ? kSigned : kUnsigned).bytes));
}
HWY_INLINE Vi TableOfMXFP4() {
  static constexpr ShiftedTable kTable = AddZero(kMxfp4Values, 16);
  return hn::BitCast(Di(), hn::LoadDup128(hn::Repartition<uint8_t, Di>(), kTable.bytes));
}

// totals += group `group` of kDType: 32 codes in four words, as in Q4_0.
template <DType kDType, int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddCodes(const TokensView& tokens, uint32_t group, Vi table,
                                             const Vi* words, Vf scale, Vf* totals) {
  const D8 d;
  const auto look_up = [&](Vi codes) HWY_ATTR {
    return hn::BitCast(Di(), hn::TableLookupBytes(hn::BitCast(d, table), hn::BitCast(d, codes)));
  };
  PlaneDots<kTokens> dots;
  Clear(&dots);
  Vi four[4];
  for (uint32_t j = 0; j < 4; ++j) four[j] = look_up(LowNibbles(words[j]));
  AddFourWords<kDType, kPlanes>(tokens, group, 0, four, dots);
  for (uint32_t j = 0; j < 4; ++j) four[j] = look_up(HighNibbles(words[j]));
  AddFourWords<kDType, kPlanes>(tokens, group, 4, four, dots);
  AddGroup<kDType, kPlanes>(tokens, group, dots, scale, Vf(), totals);
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotIQ4_NL(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                   float* sums) {
  RowsReader from(rows);
  const Vi table = TableOfIQ4();
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  for (; blocks > 0; --blocks) {
    const Vf scale = from.LoadHalves(0);
    Vi words[4];
    from.Load(offsetof(BlockIQ4_NL, qs), words);
    AddCodes<DType::kIQ4_NL, kPlanes, kTokens>(tokens, 0, table, words, scale, totals);
    from.Next(sizeof(BlockIQ4_NL));
    NextGroups<32>(&tokens, 1);
  }
  StoreTotals<kTokens>(totals, sums);
}

// 2^(e - 128) of the lowest byte e of each word; a denormal number for e < 2.
HWY_INLINE Vf ScalesOfMXFP4(Vi words) {
  const Di d;
  const Vi e = hn::And(words, hn::Set(d, 0xFF)), one = hn::Set(d, 1);
  const Vi small = hn::ShiftLeft<21>(hn::Add(e, one));
  const Vi normal = hn::ShiftLeft<23>(hn::Sub(e, one));
  return hn::BitCast(Df(), hn::IfThenElse(hn::Lt(e, hn::Set(d, 2)), small, normal));
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotMXFP4(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                  float* sums) {
  RowsReader from(rows);
  const Vi table = TableOfMXFP4();
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  for (; blocks > 0; --blocks) {
    Vi start[4], words[4];
    from.Load(0, start);
    from.Load(offsetof(BlockMXFP4, qs), words);
    const Vf scale = ScalesOfMXFP4(start[0]);
    AddCodes<DType::kMXFP4, kPlanes, kTokens>(tokens, 0, table, words, scale, totals);
    from.Next(sizeof(BlockMXFP4));
    NextGroups<32>(&tokens, 1);
  }
  StoreTotals<kTokens>(totals, sums);
}

template <int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE void DotIQ4_XS(const EvenRows& rows, uint64_t blocks, TokensView tokens,
                                   float* sums) {
  RowsReader from(rows);
  const Vi table = TableOfIQ4();
  Vf totals[kTokens];
  LoadTotals<kTokens>(sums, totals);
  for (; blocks > 0; --blocks) {
    Vi start[4];
    from.Load(0, start);
    const Vf d = LowHalves(start[0]);
    const auto add = [&]<int kGroup>() WEIR_TILE_ATTRIBUTE __attribute__((always_inline)) {
      const Vi low = hn::And(hn::ShiftRight<4 * kGroup>(start[1]), hn::Set(Di(), 0x0F));
      const Vi high = hn::And(hn::ShiftRight<16 + 2 * kGroup>(start[0]), hn::Set(Di(), 3));
      const Vi six_bits = hn::Sub(hn::Or(low, hn::ShiftLeft<4>(high)), hn::Set(Di(), 32));
      const Vf scale = hn::Mul(d, hn::ConvertTo(Df(), six_bits));
      Vi words[4];
      from.Load(offsetof(BlockIQ4_XS, qs) + 16 * kGroup, words);
      AddCodes<DType::kIQ4_XS, kPlanes, kTokens>(tokens, kGroup, table, words, scale, totals);
    };
    ForEightGroups(add);
    from.Next(sizeof(BlockIQ4_XS));
    NextGroups<32>(&tokens, 8);
  }
  StoreTotals<kTokens>(totals, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
