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
#include "kernels/group_form.h"
#include "kernels/matmul_tile-inl.h"
#include "kernels/prefetch-inl.h"
#include "kernels/quant_blocks.h"
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

// sums[kLanes] = the rows of `blocks` blocks times the token.
using DotRowsFn = void (*)(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                           float* sums);

// Reads the rows block after block. Every fourth row's address is kept: the others are one, two or
// three strides from it, which instructions add up.
class RowsReader {
 public:
  explicit RowsReader(const EvenRows& rows) : stride_(rows.stride_bytes), ahead_(rows.ahead) {
    for (uint32_t i = 0; i < kQuads; ++i) quads_[i] = rows.first + 4 * i * stride_;
  }
  // Four words from byte `at` of the block on; words[i] holds word i of every row.
  HWY_INLINE void Load(uint64_t at, Vi* HWY_RESTRICT words) {
    PrefetchBytes(ahead_, 16 * kLanes);
    ahead_ += 16 * kLanes;
    LoadRows([&](uint32_t r) HWY_ATTR { return quads_[r / 4] + r % 4 * stride_ + at; }, words);
  }
  HWY_INLINE void Next(uint64_t block_bytes) {
    for (const uint8_t*& quad : quads_) quad += block_bytes;
  }

 private:
  static constexpr uint32_t kQuads = kLanes / 4;
  const uint8_t* quads_[kQuads];
  const uint64_t stride_;
  const uint8_t* ahead_;
};

// A group's exact integer products, of each plane. Where products of bytes are added up in 16 bits
// and a whole group fits, they stay so until WholeDots.
struct PlaneDots {
  Vi high;
  Vi low;
};
HWY_INLINE PlaneDots NoDots() { return {hn::Zero(Di()), hn::Zero(Di())}; }

template <DType kDType>
constexpr bool StaysNarrow() {
  constexpr GroupForm kForm = GroupFormOf(kDType);
  return HWY_TARGET != HWY_AVX3_DL && 254 * kForm.max_value * (kForm.group_elements / 4) <= 32767;
}

// `values` are four columns of the rows: unsigned, or signed where IsSigned.
template <DType kDType>
WEIR_TILE_ATTRIBUTE HWY_INLINE Vi AddProducts(Vi sum, Vi values, Vi q) {
#if HWY_TARGET == HWY_AVX3_DL
  return Vi{_mm512_dpbusd_epi32(sum.raw, values.raw, q.raw)};
#else
  constexpr bool kSigned = IsSigned<GroupFormOf(kDType).max_value>();
  const Vi pairs =
      kSigned ? MultiplyPairs(Magnitude(values), WithSignOf(values, q)) : MultiplyPairs(values, q);
  return StaysNarrow<kDType>() ? Add16(sum, pairs) : hn::Add(sum, WidenPairs(pairs));
#endif
}

// `values` are columns `column` to `column` + 3 of the rows.
template <DType kDType, int kPlanes>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddWord(const TokensView& token, uint32_t column, Vi values,
                                            PlaneDots& dots) {
  dots.high = AddProducts<kDType>(dots.high, values, BroadcastBytes4(token.values + column));
  if constexpr (kPlanes == 2) {
    dots.low = AddProducts<kDType>(dots.low, values, BroadcastBytes4(token.low_values + column));
  }
}

template <DType kDType, int kPlanes>
HWY_INLINE Vi WholeDots(PlaneDots dots) {
#if HWY_TARGET != HWY_AVX3_DL
  if constexpr (StaysNarrow<kDType>()) dots = {WidenPairs(dots.high), WidenPairs(dots.low)};
#endif
  if constexpr (kPlanes == 1) return dots.high;
  return hn::Add(hn::Sub(hn::ShiftLeft<8>(dots.high), dots.high), dots.low);  // times kPlaneBase
}

// total += group `group` of kDType.
template <DType kDType>
HWY_INLINE void AddGroup(const TokensView& token, uint32_t group, Vi dots, Vf scale, Vf offset,
                         Vf& total) {
  constexpr GroupForm kForm = GroupFormOf(kDType);
  const Df d;
  if constexpr (kForm.zero_shift != 0 && !IsSigned<kForm.max_value>()) {
    const Vi sum = hn::Set(Di(), token.negative_sums[group]);
    dots = hn::Add(dots, hn::ShiftLeft<kForm.zero_shift>(sum));
  }
  const Vf factor = hn::Mul(scale, hn::Set(d, token.scales[group * kForm.group_elements / 32]));
  total = hn::MulAdd(hn::ConvertTo(d, dots), factor, total);
  if constexpr (kForm.has_offset) {
    total = hn::MulAdd(offset, hn::Set(d, token.scaled_sums[group]), total);
  }
}

// Four words of nibbles: the low ones are columns from `column` on, the high ones from
// `high_column` on.
template <DType kDType, int kPlanes>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddNibbles(const TokensView& token, uint32_t column,
                                               uint32_t high_column, const Vi* words,
                                               PlaneDots& low, PlaneDots& high) {
  for (uint32_t i = 0; i < 4; ++i) {
    AddWord<kDType, kPlanes>(token, column + 4 * i, LowNibbles(words[i]), low);
    AddWord<kDType, kPlanes>(token, high_column + 4 * i, HighNibbles(words[i]), high);
  }
}

template <int kPlanes>
WEIR_TILE_ATTRIBUTE void DotQ4_0(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                                 float* sums) {
  RowsReader from(rows);
  Vf total = hn::Zero(Df());
  for (uint32_t b = 0; b < blocks; ++b) {
    Vi head[4], words[4];
    from.Load(0, head);
    from.Load(offsetof(BlockQ4_0, qs), words);
    PlaneDots dots = NoDots();
    AddNibbles<DType::kQ4_0, kPlanes>(token, 32 * b, 32 * b + 16, words, dots, dots);
    AddGroup<DType::kQ4_0>(token, b, WholeDots<DType::kQ4_0, kPlanes>(dots), LowHalves(head[0]),
                           Vf(), total);
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
WEIR_TILE_ATTRIBUTE void DotQ5_0(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                                 float* sums) {
  RowsReader from(rows);
  Vf total = hn::Zero(Df());
  for (uint32_t b = 0; b < blocks; ++b) {
    Vi head[4], words[4];
    from.Load(0, head);
    from.Load(offsetof(BlockQ5_0, qs), words);
    PlaneDots dots = NoDots();
    ForWordsOfQ5_0(head, words, [&](uint32_t word, Vi values) WEIR_TILE_ATTRIBUTE {
      AddWord<DType::kQ5_0, kPlanes>(token, 32 * b + 4 * word, values, dots);
    });
    AddGroup<DType::kQ5_0>(token, b, WholeDots<DType::kQ5_0, kPlanes>(dots), LowHalves(head[0]),
                           Vf(), total);
    from.Next(sizeof(BlockQ5_0));
  }
  hn::StoreU(total, Df(), sums);
}

template <int kPlanes>
WEIR_TILE_ATTRIBUTE void DotQ8_0(const EvenRows& rows, uint32_t blocks, const TokensView& token,
                                 float* sums) {
  constexpr bool kSigned = IsSigned<GroupFormOf(DType::kQ8_0).max_value>();
  RowsReader from(rows);
  Vf total = hn::Zero(Df());
  for (uint32_t b = 0; b < blocks; ++b) {
    Vi head[4], words[8];
    from.Load(0, head);
    from.Load(offsetof(BlockQ8_0, qs), words);
    from.Load(offsetof(BlockQ8_0, qs) + 16, words + 4);
    PlaneDots dots = NoDots();
    for (uint32_t i = 0; i < 8; ++i) {
      const Vi values = kSigned ? words[i] : hn::Xor(words[i], Bytes(0x80));
      AddWord<DType::kQ8_0, kPlanes>(token, 32 * b + 4 * i, values, dots);
    }
    AddGroup<DType::kQ8_0>(token, b, WholeDots<DType::kQ8_0, kPlanes>(dots), LowHalves(head[0]),
                           Vf(), total);
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
