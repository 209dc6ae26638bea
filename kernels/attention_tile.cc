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
#include "kernels/row_words-inl.h"
#include "kernels/targets.h"

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using hwy::float16_t;

using F32 = hn::ScalableTag<float>;
// Vectors of a row that are summed at once: with 4 rows they fill, and do not spill, the registers.
constexpr uint32_t kUnroll = hn::MaxLanes(F32()) >= 16 ? 4 : 2;
constexpr uint32_t kRowBlock = 4;
constexpr float kNoScore = -std::numeric_limits<float>::infinity();

float ExpOne(float x) {
  const hn::CappedTag<float, 1> d;
  return hn::GetLane(hn::Exp(d, hn::Set(d, x)));
}

float WidenOne(const float16_t* half) {
  const hn::CappedTag<float, 1> d;
  return hn::GetLane(hn::PromoteTo(d, hn::LoadU(hn::Rebind<float16_t, decltype(d)>(), half)));
}

// Rows of one KV head in its pages.
struct KvRows {
  const AttentionArgs& args;
  uint32_t kv_head;

  const float16_t* Key(uint32_t position) const {
    return Page(position) + Row(position) * args.layout.key_columns;
  }
  const float16_t* Value(uint32_t position) const {
    const KvLayout& l = args.layout;
    return Page(position) + uint64_t{l.page_tokens} * l.kv_heads * l.key_columns +
           Row(position) * l.value_columns;
  }

 private:
  const float16_t* Page(uint32_t position) const {
    return reinterpret_cast<const float16_t*>(args.pages[position / args.layout.page_tokens]);
  }
  uint64_t Row(uint32_t position) const {
    return uint64_t{position % args.layout.page_tokens} * args.layout.kv_heads + kv_head;
  }
};

// Four rows of `columns` halves become columns of four floats at `output`, kTilePositions apart.
HWY_INLINE void TransposeFour(const float16_t* const row[4], uint32_t columns, float* output) {
  uint32_t c = 0;
#if HWY_TARGET != HWY_SCALAR  // which is compiled, though never chosen
  const hn::FixedTag<float, 4> d;
  const hn::Rebind<float16_t, decltype(d)> dh;
  const hn::FixedTag<uint64_t, 2> d64;
  for (; c + 4 <= columns; c += 4) {
    const auto a0 = hn::PromoteTo(d, hn::LoadU(dh, row[0] + c));
    const auto a1 = hn::PromoteTo(d, hn::LoadU(dh, row[1] + c));
    const auto a2 = hn::PromoteTo(d, hn::LoadU(dh, row[2] + c));
    const auto a3 = hn::PromoteTo(d, hn::LoadU(dh, row[3] + c));
    const auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, a0, a1));
    const auto low23 = hn::BitCast(d64, hn::InterleaveLower(d, a2, a3));
    const auto high01 = hn::BitCast(d64, hn::InterleaveUpper(d, a0, a1));
    const auto high23 = hn::BitCast(d64, hn::InterleaveUpper(d, a2, a3));
    float* const to = output + uint64_t{c} * kTilePositions;
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, low01, low23)), d, to);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, low01, low23)), d, to + kTilePositions);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, high01, high23)), d,
               to + 2 * kTilePositions);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, high01, high23)), d,
               to + 3 * kTilePositions);
  }
#endif
  for (; c < columns; ++c) {
    for (int i = 0; i < 4; ++i) {
      output[uint64_t{c} * kTilePositions + i] = WidenOne(row[i] + c);
    }
  }
}

#if WEIR_IS_KERNEL_TARGET
constexpr uint32_t kManyRows = kLanes;

// The same of kLanes rows, eight columns at a time: words of two columns are transposed and widened
// then, which takes a third of the instructions.
HWY_INLINE void TransposeMany(const float16_t* const row[kManyRows], uint32_t columns,
                              float* output) {
  const Df d;
  uint32_t c = 0;
  for (; c + 8 <= columns; c += 8) {
    Vi words[4];
    LoadRows([row, c](uint32_t r) HWY_ATTR { return reinterpret_cast<const uint8_t*>(row[r] + c); },
             words);
    for (uint32_t i = 0; i < 4; ++i) {
      float* const to = output + uint64_t{c + 2 * i} * kTilePositions;
      hn::StoreU(LowHalves(words[i]), d, to);
      hn::StoreU(HighHalves(words[i]), d, to + kTilePositions);
    }
  }
  for (uint32_t r = 0; c < columns && r < kManyRows; r += 4) {
    const float16_t* const rest[4] = {row[r] + c, row[r + 1] + c, row[r + 2] + c, row[r + 3] + c};
    TransposeFour(rest, columns - c, output + uint64_t{c} * kTilePositions + r);
  }
}
#else  // which is compiled, though never chosen
constexpr uint32_t kManyRows = 4;
HWY_INLINE void TransposeMany(const float16_t* const row[kManyRows], uint32_t columns,
                              float* output) {
  TransposeFour(row, columns, output);
}
#endif

HWY_INLINE void WidenRow(const float16_t* row, uint32_t columns, uint32_t padded, float* output) {
  const F32 d;
  const hn::Rebind<float16_t, F32> dh;
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(d));
  uint32_t c = 0;
  for (; c + lanes <= columns; c += lanes) {
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(dh, row + c)), d, output + c);
  }
  for (; c < columns; ++c) output[c] = WidenOne(row + c);
  for (; c < padded; ++c) output[c] = 0.0f;
}

// Asks for a row that is wanted soon. Always inlined (kernels/prefetch-inl.h says why).
HWY_INLINE void PrefetchRow(const float16_t* row, uint32_t columns) {
  for (uint32_t c = 0; c < columns; c += 64 / sizeof(float16_t)) __builtin_prefetch(row + c);
}

// Converts positions [begin, end) of the tile that starts at `tile`, and asks for those of the next
// one, up to `last`.
void LoadTile(const KvRows& kv, uint32_t tile, uint32_t begin, uint32_t end, uint32_t last,
              AttentionWorkspace& work) {
  const KvLayout& layout = kv.args.layout;
  for (uint32_t p = begin / kManyRows * kManyRows; p < end; p += kManyRows) {
    const float16_t* row[kManyRows];
    // Positions outside stand for nothing: their scores are never used.
    for (uint32_t i = 0; i < kManyRows; ++i) {
      row[i] = kv.Key(std::clamp(p + i, begin, end - 1));
      const uint32_t next = std::min(p + i + kTilePositions, last);
      PrefetchRow(kv.Key(next), layout.key_columns);
      PrefetchRow(kv.Value(next), layout.value_columns);
    }
    TransposeMany(row, layout.key_columns, work.keys + (p - tile));
  }
  for (uint32_t p = begin; p < end; ++p) {
    WidenRow(kv.Value(p), layout.value_columns, work.padded_columns,
             work.values + uint64_t{p - tile} * work.padded_columns);
  }
}

// scores[r, j] = sum over columns of query[r] * key[j], in column order, for j in [begin, end).
template <uint32_t kRows>
void ScoreRows(const AttentionRow* rows, uint32_t key_columns, const float* keys, uint32_t begin,
               uint32_t end, float* scores) {
  const F32 d;
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(d));
  const uint32_t block = kUnroll * lanes;
  for (uint32_t j = begin / block * block; j < end; j += block) {
    hn::Vec<F32> sum[kRows][kUnroll];
    for (auto& row : sum) {
      for (auto& v : row) v = hn::Zero(d);
    }
    for (uint32_t c = 0; c < key_columns; ++c) {
      const float* const key = keys + uint64_t{c} * kTilePositions + j;
      hn::Vec<F32> k[kUnroll];
      for (uint32_t u = 0; u < kUnroll; ++u) k[u] = hn::LoadU(d, key + u * lanes);
      for (uint32_t r = 0; r < kRows; ++r) {
        const auto q = hn::Set(d, rows[r].query[c]);
        for (uint32_t u = 0; u < kUnroll; ++u) sum[r][u] = hn::MulAdd(q, k[u], sum[r][u]);
      }
    }
    for (uint32_t r = 0; r < kRows; ++r) {
      for (uint32_t u = 0; u < kUnroll; ++u) {
        hn::StoreU(sum[r][u], d, scores + r * kTilePositions + j + u * lanes);
      }
    }
  }
}

// weighted[r] += sum over j in [begin, end), in order, of scores[r, j] * values[j].
template <uint32_t kRows, uint32_t kVectors>
void WeighColumns(SoftmaxState* state, const float* scores, const float* values,
                  uint32_t padded_columns, uint32_t column, uint32_t begin, uint32_t end) {
  const F32 d;
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(d));
  hn::Vec<F32> sum[kRows][kVectors];
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t u = 0; u < kVectors; ++u) {
      sum[r][u] = hn::LoadU(d, state[r].weighted + column + u * lanes);
    }
  }
  for (uint32_t j = begin; j < end; ++j) {
    const float* const value = values + uint64_t{j} * padded_columns + column;
    hn::Vec<F32> v[kVectors];
    for (uint32_t u = 0; u < kVectors; ++u) v[u] = hn::LoadU(d, value + u * lanes);
    for (uint32_t r = 0; r < kRows; ++r) {
      const auto p = hn::Set(d, scores[r * kTilePositions + j]);
      for (uint32_t u = 0; u < kVectors; ++u) sum[r][u] = hn::MulAdd(p, v[u], sum[r][u]);
    }
  }
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t u = 0; u < kVectors; ++u) {
      hn::StoreU(sum[r][u], d, state[r].weighted + column + u * lanes);
    }
  }
}

template <uint32_t kRows>
void WeighRows(SoftmaxState* state, const float* scores, const AttentionWorkspace& work,
               uint32_t begin, uint32_t end) {
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(F32()));
  const uint32_t padded = work.padded_columns;
  uint32_t c = 0;
  for (; c + kUnroll * lanes <= padded; c += kUnroll * lanes) {
    WeighColumns<kRows, kUnroll>(state, scores, work.values, padded, c, begin, end);
  }
  for (; c < padded; c += lanes) {
    WeighColumns<kRows, 1>(state, scores, work.values, padded, c, begin, end);
  }
}

void ScaleWeighted(SoftmaxState& state, float factor, uint32_t padded_columns) {
  const F32 d;
  const auto f = hn::Set(d, factor);
  for (uint32_t c = 0; c < padded_columns; c += static_cast<uint32_t>(hn::Lanes(d))) {
    hn::StoreU(hn::Mul(hn::LoadU(d, state.weighted + c), f), d, state.weighted + c);
  }
}

// Turns a row's raw scores into exp(score - max), zero outside its own positions [own_begin,
// own_end), throughout [begin, end); updates max and sum and rescales what was weighted before.
void SoftmaxRow(const AttentionArgs& args, uint32_t begin, uint32_t end, uint32_t own_begin,
                uint32_t own_end, float* scores, SoftmaxState& state, uint32_t padded_columns) {
  const F32 d;
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(d));
  const auto own = [&](uint32_t j) {
    const hn::RebindToSigned<F32> di;
    const auto index = hn::Iota(di, static_cast<int32_t>(j));
    const auto in = hn::And(hn::Gt(index, hn::Set(di, static_cast<int32_t>(own_begin) - 1)),
                            hn::Lt(index, hn::Set(di, static_cast<int32_t>(own_end))));
    return hn::RebindMask(d, in);
  };
  const auto scale = hn::Set(d, args.scale);
  const auto cap = hn::Set(d, args.soft_cap);
  const uint32_t first = own_begin / lanes * lanes;
  auto max_lanes = hn::Set(d, kNoScore);
  for (uint32_t j = first; j < own_end; j += lanes) {
    auto s = hn::Mul(hn::LoadU(d, scores + j), scale);
    if (args.soft_cap > 0) s = hn::Mul(cap, hn::Tanh(d, hn::Div(s, cap)));
    s = hn::IfThenElse(own(j), s, hn::Set(d, kNoScore));
    hn::StoreU(s, d, scores + j);
    max_lanes = hn::Max(max_lanes, s);
  }
  const float max = std::max(state.max, hn::GetLane(hn::MaxOfLanes(d, max_lanes)));
  const float kept = state.sum == 0 ? 1.0f : ExpOne(state.max - max);
  auto sum_lanes = hn::Zero(d);
  for (uint32_t j = first; j < own_end; j += lanes) {
    // The scores that are not the row's own are -infinity, outside Exp's range.
    const auto s = hn::Max(hn::Sub(hn::LoadU(d, scores + j), hn::Set(d, max)), hn::Set(d, -200.0f));
    const auto p = hn::IfThenElseZero(own(j), hn::Exp(d, s));
    hn::StoreU(p, d, scores + j);
    sum_lanes = hn::Add(sum_lanes, p);
  }
  for (uint32_t j = begin; j < std::min(first, end); ++j) scores[j] = 0.0f;
  for (uint32_t j = std::max(begin, (own_end + lanes - 1) / lanes * lanes); j < end; ++j)
    scores[j] = 0.0f;
  if (kept != 1.0f) ScaleWeighted(state, kept, padded_columns);
  state.sum = state.sum * kept + hn::GetLane(hn::SumOfLanes(d, sum_lanes));
  state.max = max;
}

// All rows against positions [begin, end) of the tile at `tile`.
void AttendTile(const AttentionArgs& args, const AttentionRow* rows, uint32_t row_count,
                uint32_t tile, uint32_t begin, uint32_t end, AttentionWorkspace& work) {
  const uint32_t b = begin - tile;
  const uint32_t e = end - tile;
  const uint32_t key_columns = args.layout.key_columns;
  const auto scores = [&](uint32_t r) { return work.scores + uint64_t{r} * kTilePositions; };
  uint32_t r = 0;
  for (; r + kRowBlock <= row_count; r += kRowBlock) {
    ScoreRows<kRowBlock>(rows + r, key_columns, work.keys, b, e, scores(r));
  }
  for (; r < row_count; ++r) ScoreRows<1>(rows + r, key_columns, work.keys, b, e, scores(r));
  for (r = 0; r < row_count; ++r) {
    const uint32_t own_begin = std::max(rows[r].begin, begin);
    const uint32_t own_end = std::min(rows[r].end, end);
    if (own_begin < own_end) {
      SoftmaxRow(args, b, e, own_begin - tile, own_end - tile, scores(r), work.part[r],
                 work.padded_columns);
    } else {
      std::fill(scores(r) + b, scores(r) + e, 0.0f);
    }
  }
  r = 0;
  for (; r + kRowBlock <= row_count; r += kRowBlock) {
    WeighRows<kRowBlock>(work.part + r, scores(r), work, b, e);
  }
  for (; r < row_count; ++r) WeighRows<1>(work.part + r, scores(r), work, b, e);
}

void AttendPartitionSimd(const AttentionArgs& args, uint32_t kv_head, const AttentionRow* rows,
                         uint32_t row_count, uint32_t begin, uint32_t end,
                         AttentionWorkspace& work) {
  uint32_t any_begin = end;
  uint32_t any_end = begin;
  for (uint32_t r = 0; r < row_count; ++r) {
    work.part[r].max = kNoScore;
    work.part[r].sum = 0.0f;
    std::fill_n(work.part[r].weighted, work.padded_columns, 0.0f);
    const uint32_t own_begin = std::max(rows[r].begin, begin);
    const uint32_t own_end = std::min(rows[r].end, end);
    if (own_begin >= own_end) continue;
    any_begin = std::min(any_begin, own_begin);
    any_end = std::max(any_end, own_end);
  }
  const KvRows kv{args, kv_head};
  for (uint32_t tile = any_begin / kTilePositions * kTilePositions; tile < any_end;
       tile += kTilePositions) {
    const uint32_t tile_begin = std::max(tile, any_begin);
    const uint32_t tile_end = std::min(tile + kTilePositions, any_end);
    LoadTile(kv, tile, tile_begin, tile_end, any_end - 1, work);
    AttendTile(args, rows, row_count, tile, tile_begin, tile_end, work);
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
                     uint32_t row_count, uint32_t begin, uint32_t end, AttentionWorkspace& work) {
  WEIR_CHECK(row_count <= work.rows && begin % kPartitionPositions == 0);
  HWY_DYNAMIC_DISPATCH(AttendPartitionSimd)(args, kv_head, rows, row_count, begin, end, work);
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
