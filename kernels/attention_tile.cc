#include "kernels/attention_tile.h"

#include <algorithm>
#include <limits>

#include "io/base.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_tile.cc"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#include "hwy/foreach_target.h"  // first of its kind: compiles this file anew per target
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "kernels/attention_products-inl.h"
#include "kernels/kv_rows.h"

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
// Highway's Iota stores its numbers one by one and waits to load them as a vector.
alignas(64) constexpr int32_t kNumbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr float kNoScore = -std::numeric_limits<float>::infinity();

// exp(x) for x <= 0, within 2 ulp; below -87, where float32 nearly ends, exp(-87). e^r of the rest
// r after whole powers of two, |r| <= ln(2) / 2, is Taylor's polynomial: its remainder is r^7 /
// 5040, 2^-23. Half the instructions of Highway's, which takes any x.
template <class D>
HWY_INLINE hn::Vec<D> ExpOfNegative(D d, hn::Vec<D> x) {
  const hn::RebindToSigned<D> di;
  x = hn::Max(x, hn::Set(d, -87.0f));
  const auto n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  // ln(2) in two parts, of which the first has so few bits that its product with n is exact.
  auto r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  auto p = hn::Set(d, 1.0f / 720);
  for (const float factor : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    p = hn::MulAdd(p, r, hn::Set(d, factor));
  }
  const auto exponent = hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127));
  return hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<23>(exponent)));
}

float ExpOne(float x) {
  const hn::CappedTag<float, 1> d;
  return hn::GetLane(ExpOfNegative(d, hn::Set(d, x)));
}

void ScaleWeighted(SoftmaxState& state, float factor, uint32_t padded_columns) {
  const F32 d;
  const auto f = hn::Set(d, factor);
  for (uint32_t c = 0; c < padded_columns; c += static_cast<uint32_t>(hn::Lanes(d))) {
    hn::StoreU(hn::Mul(hn::LoadU(d, state.weighted + c), f), d, state.weighted + c);
  }
}

// Which positions [j, j + kLanes) of a tile are a row's own.
class OwnPositions {
 public:
  OwnPositions(uint32_t begin, uint32_t end)
      : numbers_(hn::LoadU(Di(), kNumbers)),
        before_(hn::Set(Di(), static_cast<int32_t>(begin) - 1)),
        end_(hn::Set(Di(), static_cast<int32_t>(end))) {}
  HWY_INLINE hn::Mask<F32> operator()(uint32_t j) const {
    const auto index = hn::Add(numbers_, hn::Set(Di(), static_cast<int32_t>(j)));
    return hn::RebindMask(F32(), hn::And(hn::Gt(index, before_), hn::Lt(index, end_)));
  }

 private:
  using Di = hn::RebindToSigned<F32>;
  hn::Vec<Di> numbers_, before_, end_;
};

// Scales, and caps, a row's scores in place and returns the largest of its own; those that are not
// become kNoScore.
float FinishScores(const AttentionArgs& args, uint32_t own_begin, uint32_t own_end, float* scores) {
  const F32 d;
  const OwnPositions own(own_begin, own_end);
  const auto scale = hn::Set(d, args.scale);
  const auto cap = hn::Set(d, args.soft_cap);
  auto max = hn::Set(d, kNoScore);
  for (uint32_t j = own_begin / kLanes * kLanes; j < own_end; j += kLanes) {
    auto s = hn::Mul(hn::LoadU(d, scores + j), scale);
    if (args.soft_cap > 0) s = hn::Mul(cap, hn::Tanh(d, hn::Div(s, cap)));
    if (j < own_begin || j + kLanes > own_end) {
      s = hn::IfThenElse(own(j), s, hn::Set(d, kNoScore));
    }
    hn::StoreU(s, d, scores + j);
    max = hn::Max(max, s);
  }
  return hn::GetLane(hn::MaxOfLanes(d, max));
}

// A row's scores become exp(score - max), or zero where they are not its own; returns their sum.
float WeightScores(float max, uint32_t own_begin, uint32_t own_end, float* scores) {
  const F32 d;
  const OwnPositions own(own_begin, own_end);
  auto sum = hn::Zero(d);
  for (uint32_t j = own_begin / kLanes * kLanes; j < own_end; j += kLanes) {
    auto p = ExpOfNegative(d, hn::Sub(hn::LoadU(d, scores + j), hn::Set(d, max)));
    if (j < own_begin || j + kLanes > own_end) p = hn::IfThenElseZero(own(j), p);
    hn::StoreU(p, d, scores + j);
    sum = hn::Add(sum, p);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// Turns a row's raw scores into exp(score - max), zero outside its own positions [own_begin,
// own_end), throughout [begin, end); updates max and sum and rescales what was weighted before.
void SoftmaxRow(const AttentionArgs& args, uint32_t begin, uint32_t end, uint32_t own_begin,
                uint32_t own_end, float* scores, SoftmaxState& state, uint32_t padded_columns) {
  const float max = std::max(state.max, FinishScores(args, own_begin, own_end, scores));
  const float kept = state.sum == 0 || state.max == max ? 1.0f : ExpOne(state.max - max);
  const float sum = WeightScores(max, own_begin, own_end, scores);
  for (uint32_t j = begin; j < std::min(own_begin, end); ++j) scores[j] = 0.0f;
  for (uint32_t j = std::max(begin, own_end); j < end; ++j) scores[j] = 0.0f;
  if (kept != 1.0f) ScaleWeighted(state, kept, padded_columns);
  state.sum = state.sum * kept + sum;
  state.max = max;
}

// The scores of a tile at its positions [begin, end), which are the tile's own [b, e), become
// weights.
void SoftmaxRows(const AttentionArgs& args, const AttentionRow* rows, uint32_t row_count,
                 uint32_t tile, uint32_t begin, uint32_t end, AttentionWorkspace& work) {
  for (uint32_t r = 0; r < row_count; ++r) {
    float* const scores = work.scores + uint64_t{r} * kTilePositions;
    const uint32_t own_begin = std::max(rows[r].begin, begin);
    const uint32_t own_end = std::min(rows[r].end, end);
    if (own_begin < own_end) {
      SoftmaxRow(args, begin - tile, end - tile, own_begin - tile, own_end - tile, scores,
                 work.part[r], work.padded_columns);
    } else {
      std::fill(scores + (begin - tile), scores + (end - tile), 0.0f);
    }
  }
}

// All rows against positions [begin, end) of the tile at `tile`, which lie in `now`; `next` is the
// tile that follows.
void AttendTile(const AttentionArgs& args, const AttentionRow* rows, uint32_t row_count,
                uint32_t tile, uint32_t begin, uint32_t end, const TileRows& now,
                const TileRows& next_tile, AttentionWorkspace& work) {
  Prefetcher next(next_tile, args.layout);
  const uint32_t b = begin - tile;
  const uint32_t e = end - tile;
  const KvLayout& layout = args.layout;
  for (uint32_t r = 0; r < row_count; r += kMostRows) {
    ScoreRows(rows + r, std::min(kMostRows, row_count - r), layout, now, next, b, e,
              work.scores + uint64_t{r} * kTilePositions);
  }
  SoftmaxRows(args, rows, row_count, tile, begin, end, work);
  for (uint32_t r = 0; r < row_count; r += kMostRows) {
    WeighRows(work.part + r, std::min(kMostRows, row_count - r), layout, now, next, b, e,
              work.scores + uint64_t{r} * kTilePositions);
  }
}

// Resets the softmaxes of all rows; returns the positions in [begin, end) that any row attends to.
PositionRange ResetParts(const AttentionRow* rows, uint32_t row_count, uint32_t begin, uint32_t end,
                         AttentionWorkspace& work) {
  PositionRange any = {end, begin};
  for (uint32_t r = 0; r < row_count; ++r) {
    ClearSoftmax(work.part[r], work.padded_columns);
    const uint32_t own_begin = std::max(rows[r].begin, begin);
    const uint32_t own_end = std::min(rows[r].end, end);
    if (own_begin >= own_end) continue;
    any.begin = std::min(any.begin, own_begin);
    any.end = std::max(any.end, own_end);
  }
  return any;
}

// The rows of the tile that `range`, which is not empty, begins in.
void FindFirstTile(const KvRows& kv, PositionRange range, TileRows& rows) {
  const uint32_t tile = range.begin / kTilePositions * kTilePositions;
  FindTileRows(kv, tile, range.begin, std::min(tile + kTilePositions, range.end), rows);
}

void AttendPartitionSimd(const AttentionArgs& args, uint32_t kv_head, const AttentionRow* rows,
                         uint32_t row_count, uint32_t begin, uint32_t end,
                         const AttentionAhead& ahead, AttentionWorkspace& work) {
  PositionRange rest = ResetParts(rows, row_count, begin, end, work);
  if (rest.begin >= rest.end) return;
  const KvRows kv{args.layout, args.pages, kv_head};
  TileRows tiles[2];
  FindFirstTile(kv, rest, tiles[0]);
  for (uint32_t i = 0; rest.begin < rest.end; ++i) {
    const uint32_t tile = rest.begin / kTilePositions * kTilePositions;
    const uint32_t tile_end = std::min(tile + kTilePositions, rest.end);
    TileRows& next = tiles[(i + 1) % 2];
    const PositionRange after = {tile_end, rest.end};
    if (after.begin < after.end) {
      FindFirstTile(kv, after, next);
    } else if (ahead.positions.begin < ahead.positions.end) {
      FindFirstTile({args.layout, args.pages, ahead.kv_head}, ahead.positions, next);
    } else {
      next = tiles[i % 2];
    }
    AttendTile(args, rows, row_count, tile, rest.begin, tile_end, tiles[i % 2], next, work);
    rest.begin = tile_end;
  }
}

void MergeSoftmaxSimd(SoftmaxState& total, const SoftmaxState& part, uint32_t padded_columns) {
  if (part.sum == 0) return;
  const F32 d;
  const float max = std::max(total.max, part.max);
  const float keep = total.sum == 0 ? 0.0f : ExpOne(total.max - max);
  const float take = ExpOne(part.max - max);
  for (uint32_t c = 0; c < padded_columns; c += static_cast<uint32_t>(hn::Lanes(d))) {
    const auto kept = hn::Mul(hn::LoadU(d, total.weighted + c), hn::Set(d, keep));
    const auto taken = hn::Mul(hn::LoadU(d, part.weighted + c), hn::Set(d, take));
    hn::StoreU(hn::Add(kept, taken), d, total.weighted + c);
  }
  total.sum = total.sum * keep + part.sum * take;
  total.max = max;
}

}  // namespace weir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(AttendPartitionSimd);
HWY_EXPORT(MergeSoftmaxSimd);

}  // namespace

void AttendPartition(const AttentionArgs& args, uint32_t kv_head, const AttentionRow* rows,
                     uint32_t row_count, uint32_t begin, uint32_t end, const AttentionAhead& ahead,
                     AttentionWorkspace& work) {
  WEIR_CHECK(row_count <= work.rows && begin % kPartitionPositions == 0);
  HWY_DYNAMIC_DISPATCH(AttendPartitionSimd)
  (args, kv_head, rows, row_count, begin, end, ahead, work);
}

void ClearSoftmax(SoftmaxState& state, uint32_t padded_columns) {
  state.max = -std::numeric_limits<float>::infinity();
  state.sum = 0;
  std::fill_n(state.weighted, padded_columns, 0.0f);
}

void MergeSoftmax(SoftmaxState& total, const SoftmaxState& part, uint32_t padded_columns) {
  HWY_DYNAMIC_DISPATCH(MergeSoftmaxSimd)(total, part, padded_columns);
}

void WriteAttention(const SoftmaxState& state, uint32_t value_columns, float* output) {
  const float factor = 1.0f / state.sum;
  // Adding +0 turns a -0, which a neighbour's zero weight may have turned into +0, into +0 always.
  for (uint32_t c = 0; c < value_columns; ++c) output[c] = state.weighted[c] * factor + 0.0f;
}

}  // namespace weir
#endif  // HWY_ONCE
