// What products of rows with a few tokens are made of, whatever the format: reading kLanes rows,
// multiplying words of them, adding up groups. How values, scales and offsets come out of the rows
// is as in kernels/build_tile-inl.h.
#if defined(WEIR_KERNELS_DOT_WORDS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_DOT_WORDS_INL_H_
#undef WEIR_KERNELS_DOT_WORDS_INL_H_
#else
#define WEIR_KERNELS_DOT_WORDS_INL_H_
#endif

#include <cstdint>

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
    LoadRows([&](uint32_t r) HWY_ATTR { return quads_[r / 4] + r % 4 * stride_ + at; }, words);
  }
  // Eight.
  HWY_INLINE void LoadLong(uint64_t at, Vi* HWY_RESTRICT words) {
    AskAhead();
    LoadLongRows([&](uint32_t r) HWY_ATTR { return quads_[r / 4] + r % 4 * stride_ + at; }, words);
    AskAhead();
  }
  HWY_INLINE void Next(uint64_t block_bytes) {
    for (const uint8_t*& quad : quads_) quad += block_bytes;
  }

 private:
  static constexpr uint32_t kQuads = kLanes / 4;
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

// A group's exact integer products with each token, of each plane. Where products of bytes are
// added up in 16 bits and a whole group fits, they stay so until WholeDot.
template <int kTokens>
struct PlaneDots {
  Vi high[kTokens];
  Vi low[kTokens];
};
template <int kTokens>
HWY_INLINE void Clear(PlaneDots<kTokens>* dots) {
  for (int t = 0; t < kTokens; ++t) dots->high[t] = dots->low[t] = hn::Zero(Di());
}

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
template <DType kDType, int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddWord(const TokensView& tokens, uint32_t column, Vi values,
                                            PlaneDots<kTokens>& dots) {
  for (int t = 0; t < kTokens; ++t) {
    const uint64_t at = t * tokens.stride_bytes + column;
    dots.high[t] = AddProducts<kDType>(dots.high[t], values, BroadcastBytes4(tokens.values + at));
    if constexpr (kPlanes == 2) {
      const Vi q = BroadcastBytes4(tokens.low_values + at);
      dots.low[t] = AddProducts<kDType>(dots.low[t], values, q);
    }
  }
}

template <DType kDType, int kPlanes>
HWY_INLINE Vi WholeDot(Vi high, Vi low) {
#if HWY_TARGET != HWY_AVX3_DL
  if constexpr (StaysNarrow<kDType>()) {
    high = WidenPairs(high);
    low = WidenPairs(low);
  }
#endif
  if constexpr (kPlanes == 1) return high;
  return hn::Add(TimesPlaneBase(high), low);
}

// Of token t: (u - zero) . q of group `group`.
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

// totals += group `group` of kDType.
template <DType kDType, int kPlanes, int kTokens>
HWY_INLINE void AddGroup(const TokensView& tokens, uint32_t group, const PlaneDots<kTokens>& dots,
                         Vf scale, Vf offset, Vf* HWY_RESTRICT totals) {
  const Df d;
  for (int t = 0; t < kTokens; ++t) {
    const Vi dot = GroupDot<kDType, kPlanes>(tokens, t, group, dots.high[t], dots.low[t]);
    AddDot<kDType>(tokens, t, group, dot, scale, totals[t]);
    if constexpr (GroupFormOf(kDType).has_offset) {
      const float sum = Advance(tokens.scaled_sums, t * tokens.stride_bytes)[group];
      totals[t] = hn::MulAdd(offset, hn::Set(d, sum), totals[t]);
    }
  }
}

// Four words of nibbles: the low ones are columns from `column` on, the high ones from
// `high_column` on.
template <DType kDType, int kPlanes, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void AddNibbles(const TokensView& tokens, uint32_t column,
                                               uint32_t high_column, const Vi* words,
                                               PlaneDots<kTokens>& low, PlaneDots<kTokens>& high) {
  for (uint32_t i = 0; i < 4; ++i) {
    AddWord<kDType, kPlanes>(tokens, column + 4 * i, LowNibbles(words[i]), low);
    AddWord<kDType, kPlanes>(tokens, high_column + 4 * i, HighNibbles(words[i]), high);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
