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
#include "kernels/kv_rows.h"

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using hwy::float16_t;

using F32 = hn::ScalableTag<float>;
constexpr uint32_t kLanes = hn::MaxLanes(F32());
constexpr uint32_t kMostRows = kLanes >= 16 ? 8 : 6;  // share each key and value
// Highway's Iota stores its numbers one by one and waits to load them as a vector.
alignas(64) constexpr int32_t kNumbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr float kNoScore = -std::numeric_limits<float>::infinity();

constexpr uint32_t kRegisters = kLanes >= 16 ? 32 : 16;

// Vectors of keys or values that rows share at once: they, the sums and a weight fit the registers.
template <uint32_t kRows>
constexpr uint32_t VectorsFor() {
  return 4 * kRows + 4 < kRegisters ? 4 : 2;
}

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

// kLanes halves.
HWY_INLINE hn::Vec<F32> Widen(const float16_t* from) {
  return hn::PromoteTo(F32(), hn::LoadU(hn::Rebind<float16_t, F32>(), from));
}

// `count` halves, fewer than kLanes, and zeros.
HWY_INLINE hn::Vec<F32> WidenSome(const float16_t* from, uint32_t count) {
  alignas(64) float16_t halves[kLanes] = {};
  std::copy_n(from, count, halves);
  return Widen(halves);
}

// Where the keys and values of a tile's positions lie. Positions outside [begin, end) stand for
// nothing: they repeat the nearest, and what comes of them is never used.
constexpr uint32_t kTileBlocks = kTilePositions / kKeyBlock;
struct TileRows {
  const float16_t* keys[kTileBlocks];  // blocks [key_columns, kKeyBlock]
  const float16_t* value[kTilePositions];
};

void FindTileRows(const KvRows& kv, uint32_t tile, uint32_t begin, uint32_t end, TileRows& rows) {
  const KvLayout& layout = kv.args.layout;
  for (uint32_t block = 0; block < kTileBlocks; ++block) {
    rows.keys[block] = kv.Keys(std::clamp(tile + block * kKeyBlock, begin, end - 1));
  }
  for (uint32_t p = begin; p < end;) {
    // Up to the end of a page, values lie at even distances.
    const uint32_t page_end = (p / layout.page_tokens + 1) * layout.page_tokens;
    const float16_t* value = kv.Value(p);
    for (const uint32_t stop = std::min(end, page_end); p < stop; ++p) {
      rows.value[p - tile] = value;
      value += layout.value_columns;
    }
  }
  std::fill(rows.value, rows.value + (begin - tile), rows.value[begin - tile]);
  std::fill(rows.value + (end - tile), rows.value + kTilePositions, rows.value[end - 1 - tile]);
}

// Asks for a tile's keys and values a line at a time, so that what computes can spread its calls:
// asked for all at once they keep the core waiting for room to note them.
class Prefetcher {
 public:
  Prefetcher(const TileRows& tile, const KvLayout& layout) {
    for (uint32_t b = 0; b < kTileBlocks; ++b) {
      Add(tile.keys[b], layout.key_columns);
      Add(tile.value[b * kKeyBlock], layout.value_columns);
    }
  }
  // Always inlined (kernels/prefetch-inl.h says why).
  HWY_INLINE void Step() {
    if (span_ == spans_) return;
    __builtin_prefetch(begin_[span_] + at_, 0, 1);
    at_ += 64;
    if (at_ >= bytes_[span_]) {
      at_ = 0;
      ++span_;
    }
  }

 private:
  void Add(const float16_t* from, uint32_t columns) {
    begin_[spans_] = reinterpret_cast<const uint8_t*>(from);
    bytes_[spans_++] = sizeof(float16_t) * columns * kKeyBlock;
  }
  uint32_t spans_ = 0, span_ = 0;
  uint64_t at_ = 0;
  const uint8_t* begin_[2 * kTileBlocks];
  uint64_t bytes_[2 * kTileBlocks];
};

// Calls fn.operator()<kRows>() with kRows = rows, 1 to kMostRows.
template <uint32_t kRows = kMostRows, typename Fn>
HWY_INLINE void WithRows(uint32_t rows, const Fn& fn) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return WithRows<kRows - 1>(rows, fn);
  }
  fn.template operator()<kRows>();
}

// scores[r, j] = sum over columns, in their order, of query[r] * key[j], for kVectors vectors of
// positions from `j` on.
template <uint32_t kRows, uint32_t kVectors>
void ScorePositions(const AttentionRow* rows, uint32_t columns, const TileRows& tile,
                    Prefetcher& next, uint32_t j, float* scores) {
  const F32 d;
  const float16_t* key[kVectors];
  for (uint32_t u = 0; u < kVectors; ++u) {
    const uint32_t position = j + u * kLanes;
    key[u] = tile.keys[position / kKeyBlock] + position % kKeyBlock;
  }
  hn::Vec<F32> sum[kRows][kVectors];
  for (auto& row : sum) {
    for (auto& v : row) v = hn::Zero(d);
  }
  for (uint64_t c = 0; c < columns; ++c) {
    hn::Vec<F32> k[kVectors];
    for (uint32_t u = 0; u < kVectors; ++u) k[u] = Widen(key[u] + c * kKeyBlock);
    for (uint32_t u = 0; u < kVectors; u += 2) next.Step();
    for (uint32_t r = 0; r < kRows; ++r) {
      const auto q = hn::Set(d, rows[r].query[c]);
      for (uint32_t u = 0; u < kVectors; ++u) sum[r][u] = hn::MulAdd(q, k[u], sum[r][u]);
    }
  }
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t u = 0; u < kVectors; ++u) {
      hn::StoreU(sum[r][u], d, scores + r * kTilePositions + j + u * kLanes);
    }
  }
}

// weighted[r] += sum over j in [begin, end), in order, of scores[r, j] * value[j], for kVectors
// vectors of columns, of which the last holds `last_columns`.
template <uint32_t kRows, uint32_t kVectors>
void WeighColumns(SoftmaxState* state, const float* scores, const TileRows& tile, Prefetcher& next,
                  uint32_t column, uint32_t last_columns, uint32_t begin, uint32_t end) {
  const F32 d;
  hn::Vec<F32> sum[kRows][kVectors];
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t u = 0; u < kVectors; ++u) {
      sum[r][u] = hn::LoadU(d, state[r].weighted + column + u * kLanes);
    }
  }
  for (uint32_t j = begin; j < end; ++j) {
    const float16_t* const value = tile.value[j] + column;
    for (uint32_t u = 0; u < kVectors; u += 2) next.Step();
    hn::Vec<F32> v[kVectors];
    for (uint32_t u = 0; u + 1 < kVectors; ++u) v[u] = Widen(value + u * kLanes);
    const float16_t* const last = value + (kVectors - 1) * kLanes;
    v[kVectors - 1] = last_columns == kLanes ? Widen(last) : WidenSome(last, last_columns);
    for (uint32_t r = 0; r < kRows; ++r) {
      const auto p = hn::Set(d, scores[r * kTilePositions + j]);
      for (uint32_t u = 0; u < kVectors; ++u) sum[r][u] = hn::MulAdd(p, v[u], sum[r][u]);
    }
  }
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t u = 0; u < kVectors; ++u) {
      hn::StoreU(sum[r][u], d, state[r].weighted + column + u * kLanes);
    }
  }
}

// Positions [begin, end) of a tile for up to kMostRows rows; asks for some of the next.
void ScoreRows(const AttentionRow* rows, uint32_t row_count, uint32_t columns, const TileRows& tile,
               Prefetcher& next, uint32_t begin, uint32_t end, float* scores) {
  WithRows(row_count, [&]<uint32_t kRows>() HWY_ATTR {
    constexpr uint32_t kPositions = VectorsFor<kRows>() * kLanes;
    for (uint32_t j = begin / kPositions * kPositions; j < end; j += kPositions) {
      ScorePositions<kRows, VectorsFor<kRows>()>(rows, columns, tile, next, j, scores);
    }
  });
}

// All columns of up to kMostRows rows; asks for some of the next tile.
void WeighRows(SoftmaxState* state, uint32_t row_count, uint32_t columns, const TileRows& tile,
               Prefetcher& next, uint32_t begin, uint32_t end, const float* scores) {
  WithRows(row_count, [&]<uint32_t kRows>() HWY_ATTR {
    constexpr uint32_t kVectors = VectorsFor<kRows>();
    uint32_t c = 0;
    for (; c + kVectors * kLanes <= columns; c += kVectors * kLanes) {
      WeighColumns<kRows, kVectors>(state, scores, tile, next, c, kLanes, begin, end);
    }
    for (; c < columns; c += kLanes) {
      WeighColumns<kRows, 1>(state, scores, tile, next, c, std::min(kLanes, columns - c), begin,
                             end);
    }
  });
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
    ScoreRows(rows + r, std::min(kMostRows, row_count - r), layout.key_columns, now, next, b, e,
              work.scores + uint64_t{r} * kTilePositions);
  }
  SoftmaxRows(args, rows, row_count, tile, begin, end, work);
  for (uint32_t r = 0; r < row_count; r += kMostRows) {
    WeighRows(work.part + r, std::min(kMostRows, row_count - r), layout.value_columns, now, next, b,
              e, work.scores + uint64_t{r} * kTilePositions);
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
  const KvRows kv{args, kv_head};
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
      FindFirstTile({args, ahead.kv_head}, ahead.positions, next);
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
