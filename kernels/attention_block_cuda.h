// What a block of the CUDA attention kernels does: some query rows of one KV head against a range
// of positions, by matrix products of float16 with float32 sums (FlashAttention-2's recurrence, Dao
// 2023). The kernels are its instances: op_attention_cuda.cu for few tokens, with the launches and
// the merging of ranges; op_attention_prompt_cuda.cu for many.
//
// A row is one query head of one token, numbered token * group + head in the group: whatever the
// group is, rows that share a KV head fill the 16 rows of a matrix product, and every key and value
// is brought to shared memory once for all of the block's rows. Each of the four warps has 16 rows;
// kRowWarps of them have different ones, and warps with the same share each tile's positions.
//
// Exactness. Keys and values are float16 and enter as they are. A query is scaled by a power of two
// that brings its largest element to [2^14, 2^15) and enters as the sum of two float16, which is it
// up to 2^-22 of each element. A weight 2^(score - base) is kept in (0, 2^14], so that float16's
// denormals matter only below 2^-28 of the largest: with kExactWeights as the sum of two float16,
// off by 2^-22; otherwise rounded once, off by 2^-11, and the sum of weights is that of the rounded
// ones.
//
// A row's result does not depend on the rows beside it: tiles and splits begin at fixed absolute
// positions, and a tile in which a row sees nothing adds exact zeros to it.
#ifndef WEIR_KERNELS_ATTENTION_BLOCK_CUDA_H_
#define WEIR_KERNELS_ATTENTION_BLOCK_CUDA_H_

#include <cstdint>

#include "kernels/attention_stage_cuda.h"
#include "kernels/cuda_intrinsics.h"

namespace weir::WEIR_CUDA_NAMESPACE {

// ---- one warp's part of a tile

template <uint32_t kCount>
WEIR_DEVICE void SetZero(float (&sums)[kCount][4]) {
  WEIR_UNROLL
  for (uint32_t n = 0; n < kCount; ++n) {
    WEIR_UNROLL
    for (uint32_t i = 0; i < 4; ++i) sums[n][i] = 0;
  }
}

// scores[n]: as MatrixProduct gives them, of positions 8n to 8n + 7 of the warp's part. The
// products of the queries' rests have sums of their own, so that half as many wait for each other.
template <typename Shape>
WEIR_DEVICE void ScoreTile(const AttentionCall& call, const uint16_t* queries,
                           const uint16_t* rests, const uint16_t* keys,
                           float (&scores)[Shape::kPartPositions / 8][4]) {
  constexpr uint32_t kTiles = Shape::kPartPositions / 8;
  // Of many positions the products are enough to keep the units busy, and registers are short.
  constexpr bool kApart = kTiles <= 2;
  const uint32_t stride = SharedStride(call.key_padded);
  const uint32_t lane = LaneIndex();
  const uint32_t query_at = (lane % 16) * stride + lane / 16 * 8;
  const uint32_t key_at = (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8;
  float apart[kTiles][4];  // unused, and no registers, where not kApart
  SetZero(scores);
  SetZero(apart);
  for (uint32_t k = 0; k < call.key_padded; k += 16) {
    uint32_t whole[4], rest[4];
    LoadMatrices(whole, queries + query_at + k);
    LoadMatrices(rest, rests + query_at + k);
    WEIR_UNROLL
    for (uint32_t n = 0; n < kTiles; n += 2) {
      uint32_t both[4];
      LoadMatrices(both, keys + key_at + n * 8 * stride + k);
      const uint32_t first[2] = {both[0], both[1]}, second[2] = {both[2], both[3]};
      MatrixProduct(kApart ? apart[n] : scores[n], rest, first);
      MatrixProduct(kApart ? apart[n + 1] : scores[n + 1], rest, second);
      MatrixProduct(scores[n], whole, first);
      MatrixProduct(scores[n + 1], whole, second);
    }
  }
  if constexpr (kApart) {
    WEIR_UNROLL
    for (uint32_t i = 0; i < 4 * kTiles; ++i) scores[i / 4][i % 4] += apart[i / 4][i % 4];
  }
}

// The softmax so far of the two rows, g and g + 8, of which a thread has columns. Weights are
// 2^(score * log2 e - base). `sum` is of the thread's own columns until the end.
template <typename Shape>
struct WarpState {
  RowInfo info[2];
  float base[2];
  float sum[2];
  float weighted[Shape::kColumns / 8][4];  // as MatrixProduct gives it
};

template <typename Shape>
WEIR_DEVICE void StartState(const RowInfo* info, WarpState<Shape>& state) {
  WEIR_UNROLL
  for (uint32_t h = 0; h < 2; ++h) {
    state.info[h] = info[LaneIndex() / 4 + 8 * h];
    state.base[h] = kNegativeInfinity;
    state.sum[h] = 0;
  }
  SetZero(state.weighted);
}

// Sums of products become scores times log2 e, minus infinity where a row does not look. `first` is
// the position of the warp's part.
template <typename Shape>
WEIR_DEVICE void FinishScores(const AttentionCall& call, const WarpState<Shape>& state,
                              uint32_t first, bool masked,
                              float (&scores)[Shape::kPartPositions / 8][4]) {
  const float cap = call.args.soft_cap;
  WEIR_UNROLL
  for (uint32_t n = 0; n < Shape::kPartPositions / 8; ++n) {
    WEIR_UNROLL
    for (uint32_t i = 0; i < 4; ++i) {
      const RowInfo& info = state.info[i / 2];
      float score = scores[n][i] * info.factor;
      if (cap > 0) score = cap * kLog2E * Tanh(score);
      const uint32_t position = first + 8 * n + LaneIndex() % 4 * 2 + i % 2;
      if (masked && (position < info.begin || position >= info.end)) score = kNegativeInfinity;
      scores[n][i] = score;
    }
  }
}

// Moves the state's base to the largest score if that is above it.
template <typename Shape>
WEIR_DEVICE void RaiseBase(const float (&scores)[Shape::kPartPositions / 8][4],
                           WarpState<Shape>& state) {
  float shrink[2];
  WEIR_UNROLL
  for (uint32_t h = 0; h < 2; ++h) {
    float most = kNegativeInfinity;
    WEIR_UNROLL
    for (uint32_t n = 0; n < Shape::kPartPositions / 8; ++n) {
      most = scores[n][2 * h] > most ? scores[n][2 * h] : most;
      most = scores[n][2 * h + 1] > most ? scores[n][2 * h + 1] : most;
    }
    WEIR_UNROLL
    for (uint32_t mask = 1; mask < 4; mask *= 2) {
      const float other = ShuffleXor(most, mask);
      most = other > most ? other : most;
    }
    const float base = most - kWeightExponent;
    const float before = state.base[h];
    shrink[h] = 1;
    if (base > before) {
      shrink[h] = Exp2(before - base);
      state.base[h] = base;
    }
    state.sum[h] *= shrink[h];
  }
  if (!AnyInWarp(shrink[0] != 1 || shrink[1] != 1)) return;
  WEIR_UNROLL
  for (uint32_t n = 0; n < Shape::kColumns / 8; ++n) {
    WEIR_UNROLL
    for (uint32_t i = 0; i < 4; ++i) state.weighted[n][i] *= shrink[i / 2];
  }
}

// Two neighbouring weights of one row as halves; adds them to its sum.
template <typename Shape>
WEIR_DEVICE void Weigh(float left, float right, uint32_t h, WarpState<Shape>& state,
                       uint32_t* whole, uint32_t* rest) {
  // A row that has seen nothing has no base, and scores of minus infinity.
  const float base = state.base[h] == kNegativeInfinity ? 0.0f : state.base[h];
  left = Exp2(left - base);
  right = Exp2(right - base);
  *whole = FloatsToHalves(left, right);
  const float left_half = HalfToFloat(static_cast<uint16_t>(*whole));
  const float right_half = HalfToFloat(static_cast<uint16_t>(*whole >> 16));
  if constexpr (Shape::kExactWeights) {
    *rest = FloatsToHalves(left - left_half, right - right_half);
    state.sum[h] += left + right;
  } else {
    state.sum[h] += left_half + right_half;
  }
}

// weighted += weights * values, over the warp's part.
template <typename Shape>
WEIR_DEVICE void AddValues(const AttentionCall& call, const uint16_t* values,
                           const float (&scores)[Shape::kPartPositions / 8][4],
                           WarpState<Shape>& state) {
  const uint32_t stride = SharedStride(call.value_padded);
  const uint32_t lane = LaneIndex();
  const uint32_t value_at = lane % 16 * stride + lane / 16 * 8;
  WEIR_UNROLL
  for (uint32_t k = 0; k < Shape::kPartPositions / 8; k += 2) {
    uint32_t whole[4], rest[4] = {};
    WEIR_UNROLL
    for (uint32_t i = 0; i < 4; ++i) {
      const float(&pair)[4] = scores[k + i / 2];
      Weigh<Shape>(pair[i % 2 * 2], pair[i % 2 * 2 + 1], i % 2, state, &whole[i], &rest[i]);
    }
    WEIR_UNROLL
    for (uint32_t n = 0; n < Shape::kColumns / 8; n += 2) {
      if (n * 8 >= call.value_padded) break;
      uint32_t both[4];
      LoadMatricesTransposed(both, values + value_at + k * 8 * stride + n * 8);
      const uint32_t first[2] = {both[0], both[1]}, second[2] = {both[2], both[3]};
      if constexpr (Shape::kExactWeights) {
        MatrixProduct(state.weighted[n], rest, first);
        MatrixProduct(state.weighted[n + 1], rest, second);
      }
      MatrixProduct(state.weighted[n], whole, first);
      MatrixProduct(state.weighted[n + 1], whole, second);
    }
  }
}

// ---- the end

template <typename Shape>
WEIR_DEVICE void PutState(const AttentionCall& call, const WarpState<Shape>& state, float* states) {
  const uint32_t stride = StateStride(call.value_padded);
  float* const warp = states + WarpIndex() * kWarpRows * stride;
  const uint32_t g = LaneIndex() / 4, t = LaneIndex() % 4;
  WEIR_UNROLL
  for (uint32_t h = 0; h < 2; ++h) {
    float* const row = warp + (g + 8 * h) * stride;
    float sum = state.sum[h];
    sum += ShuffleXor(sum, 1);
    sum += ShuffleXor(sum, 2);
    WEIR_UNROLL
    for (uint32_t n = 0; n < Shape::kColumns / 8; ++n) {
      if (n * 8 >= call.value_padded) break;
      row[8 * n + 2 * t] = state.weighted[n][2 * h];
      row[8 * n + 2 * t + 1] = state.weighted[n][2 * h + 1];
    }
    if (t == 0) {
      row[call.value_padded] = state.base[h];
      row[call.value_padded + 1] = sum;
    }
  }
}

// A warp a row: merges the states of the warps that shared its positions and writes it.
template <typename Shape>
WEIR_DEVICE void WriteRows(const AttentionCall& call, const RowTile& tile, const float* states) {
  const AttentionArgs& args = call.args;
  const uint32_t stride = StateStride(call.value_padded);
  const uint32_t columns = args.layout.value_columns;
  constexpr uint32_t kPartFloats = Shape::kRows;  // rows from a part's state to the next part's
  for (uint32_t r = WarpIndex(); r < call.tile_rows; r += kAttentionWarps) {
    const uint32_t row = tile.first_row + r;
    if (row >= call.rows) break;
    const float* const own = states + r * stride;
    float base = kNegativeInfinity;
    for (uint32_t p = 0; p < Shape::kParts; ++p) {
      const float other = own[p * kPartFloats * stride + call.value_padded];
      base = other > base ? other : base;
    }
    float factors[Shape::kParts];
    float sum = 0;
    WEIR_UNROLL
    for (uint32_t p = 0; p < Shape::kParts; ++p) {
      const float* const part = own + p * kPartFloats * stride + call.value_padded;
      factors[p] = part[0] == kNegativeInfinity ? 0.0f : Exp2(part[0] - base);
      sum = Fma(factors[p], part[1], sum);
    }
    const uint64_t record = (uint64_t{BlockX()} * call.tile_rows + r) * call.splits + BlockY();
    float* const output =
        call.records != nullptr
            ? call.records + record * call.record_floats + kRecordHead
            : args.output + row / call.group * args.output_stride +
                  uint64_t{tile.kv_head * call.group + row % call.group} * columns;
    for (uint32_t c = LaneIndex(); c < columns; c += kWarpThreads) {
      float value = 0;
      WEIR_UNROLL
      for (uint32_t p = 0; p < Shape::kParts; ++p) {
        value = Fma(factors[p], own[p * kPartFloats * stride + c], value);
      }
      output[c] = call.records != nullptr ? value : value / sum;
    }
    if (call.records != nullptr && LaneIndex() == 0) {
      output[-static_cast<int32_t>(kRecordHead)] = base;
      output[1 - static_cast<int32_t>(kRecordHead)] = sum;
    }
  }
}

// ---- the whole

// While a tile's scores are made its values are on their way, and the next tile's keys while the
// values are added: with two buffers, a tile further.
template <typename Shape>
WEIR_DEVICE void AttendBlock(const AttentionCall& call) {
  const RowTile tile = TileOf(call, call.first_tile + BlockX());
  const uint64_t split_begin =
      (uint64_t{tile.begin / call.split_positions} + BlockY()) * call.split_positions;
  if (split_begin >= tile.end) return;
  const uint32_t begin = GreaterOf(tile.begin, static_cast<uint32_t>(split_begin));
  const uint64_t split_end = split_begin + call.split_positions;
  const uint32_t end = split_end < tile.end ? static_cast<uint32_t>(split_end) : tile.end;

  const AttentionSpace space = SpaceOf<Shape>(call);
  const uint32_t first = begin / Shape::kTile * Shape::kTile;
  const uint32_t key_stride = SharedStride(call.key_padded);
  const uint32_t value_stride = SharedStride(call.value_padded);
  const auto keys_of = [&](uint32_t j) {
    return space.keys + j % Shape::kTileBuffers * Shape::kTile * key_stride;
  };
  const auto values_of = [&](uint32_t j) {
    return space.values + j % Shape::kTileBuffers * Shape::kTile * value_stride;
  };
  // Tiles beyond the end are empty groups of copies, so that counting groups stays simple.
  const auto stage = [&](uint32_t j, bool values) {
    const uint32_t at = first + j * Shape::kTile;
    if (at < end) {
      StageTile<Shape>(call, tile.kv_head, values, at, begin, end,
                       values ? values_of(j) : keys_of(j));
    }
    CommitCopies();
  };
  for (uint32_t j = 0; j < Shape::kTileBuffers; ++j) {
    stage(j, false);
    if (j + 1 < Shape::kTileBuffers) stage(j, true);
  }
  StageQueries<Shape>(call, tile, space);
  SyncBlock();

  constexpr uint32_t kRowWarps = Shape::kRows / kWarpRows;
  const uint32_t first_row = WarpIndex() % kRowWarps * kWarpRows;
  const uint32_t part = WarpIndex() / kRowWarps * Shape::kPartPositions;
  WarpState<Shape> state;
  StartState<Shape>(space.info + first_row, state);
  constexpr uint32_t kGroupsLeft = 2 * Shape::kTileBuffers - 2;
  for (uint32_t j = 0; first + j * Shape::kTile < end; ++j) {
    const uint32_t at = first + j * Shape::kTile;
    WaitForCopies<kGroupsLeft>();
    SyncBlock();
    stage(j + Shape::kTileBuffers - 1, true);
    float scores[Shape::kPartPositions / 8][4];
    ScoreTile<Shape>(call, space.queries + first_row * key_stride,
                     space.query_rests + first_row * key_stride, keys_of(j) + part * key_stride,
                     scores);
    const bool masked = at < tile.all_begin || at + Shape::kTile > LesserOf(tile.all_end, end);
    FinishScores<Shape>(call, state, at + part, masked, scores);
    RaiseBase<Shape>(scores, state);
    WaitForCopies<kGroupsLeft>();
    SyncBlock();
    stage(j + Shape::kTileBuffers, false);
    AddValues<Shape>(call, values_of(j) + part * value_stride, scores, state);
  }
  WaitForCopies<0>();
  SyncBlock();
  PutState<Shape>(call, state, space.states);
  SyncBlock();
  WriteRows<Shape>(call, tile, space.states);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_ATTENTION_BLOCK_CUDA_H_
