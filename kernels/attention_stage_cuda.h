// Which rows and positions a block of the CUDA attention kernels has, and how they come to its
// shared memory. kernels/attention_block_cuda.h says what it does with them.
#ifndef WEIR_KERNELS_ATTENTION_STAGE_CUDA_H_
#define WEIR_KERNELS_ATTENTION_STAGE_CUDA_H_

#include <cstdint>

#include "kernels/cuda_intrinsics.h"
#include "kernels/ops.h"

namespace weir::WEIR_CUDA_NAMESPACE {

constexpr uint32_t kAttentionThreads = 128;
constexpr uint32_t kAttentionWarps = kAttentionThreads / kWarpThreads;
constexpr uint32_t kWarpRows = 16;

// A launch. Blocks: x are tiles of rows [first_tile, ...), those of the last tokens, which have the
// most to do, first; y are splits of the tile's positions.
struct AttentionCall {
  AttentionArgs args;
  float* records;  // [tiles of the launch, tile_rows, splits, record_floats]; null: to the output
  uint32_t record_floats;
  uint32_t group;            // query heads of a KV head
  uint32_t rows;             // of a KV head: tokens * group
  uint32_t row_tiles;        // of a KV head
  uint32_t tile_rows;        // at most kWarpRows * kRowWarps
  uint32_t first_tile;       // of all KV heads' tiles
  uint32_t split_positions;  // a split is a multiple of it up to the next
  uint32_t splits;           // at most, of a tile
  uint32_t key_padded;       // columns, rounded up to 16
  uint32_t value_padded;
  bool aligned;  // keys and values of a head begin and end at multiples of 16 bytes
};

// A record is the softmax of one row over one split: base, sum of weights, 2 unused, and the values
// weighted likewise.
constexpr uint32_t kRecordHead = 4;

// Which rows a tile has.
struct RowTile {
  uint32_t kv_head;
  uint32_t first_row;
  uint32_t begin;  // of the positions that any of its rows attends to
  uint32_t end;
  uint32_t all_begin;  // of those that all do; empty if all_begin >= all_end
  uint32_t all_end;
};

WEIR_DEVICE uint32_t LesserOf(uint32_t a, uint32_t b) { return a < b ? a : b; }
WEIR_DEVICE uint32_t GreaterOf(uint32_t a, uint32_t b) { return a > b ? a : b; }

WEIR_DEVICE uint32_t EndOf(const AttentionArgs& args, uint32_t token) {
  return static_cast<uint32_t>(args.positions[token]) + 1;
}
WEIR_DEVICE uint32_t BeginOf(const AttentionArgs& args, uint32_t end) {
  return args.window != 0 && args.window < end ? end - args.window : 0;
}

WEIR_DEVICE RowTile TileOf(const AttentionCall& call, uint32_t index) {
  const uint32_t kv_heads = call.args.layout.kv_heads;
  RowTile tile;
  tile.kv_head = index % kv_heads;
  tile.first_row = (call.row_tiles - 1 - index / kv_heads) * call.tile_rows;
  const uint32_t last_row = LesserOf(tile.first_row + call.tile_rows, call.rows) - 1;
  tile.all_end = EndOf(call.args, tile.first_row / call.group);
  tile.begin = BeginOf(call.args, tile.all_end);
  tile.end = EndOf(call.args, last_row / call.group);
  tile.all_begin = BeginOf(call.args, tile.end);
  return tile;
}

// What a row needs beside its query.
struct RowInfo {
  float factor;  // of its sums of products
  uint32_t begin;
  uint32_t end;
};

constexpr float kNegativeInfinity = -__builtin_inff();
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kWeightExponent = 14;  // the largest weight is 2^this

template <uint32_t kMostColumns, uint32_t kRowWarps, uint32_t kTilePositions, uint32_t kBuffers>
struct AttentionShape {
  static constexpr uint32_t kColumns = kMostColumns;  // of a value, at most
  static constexpr uint32_t kRows = kWarpRows * kRowWarps;
  static constexpr uint32_t kParts = kAttentionWarps / kRowWarps;  // of a tile's positions
  static constexpr uint32_t kTile = kTilePositions;
  static constexpr uint32_t kPartPositions = kTilePositions / kParts;
  static constexpr uint32_t kTileBuffers = kBuffers;
  static constexpr bool kExactWeights = kRowWarps == 1;
  static_assert(kPartPositions % 16 == 0 && kColumns % 16 == 0 && kColumns <= kMostCudaHeadColumns);
};

// Shared memory rows are 16 bytes longer than they need be: so 8 rows lie in different banks.
constexpr uint32_t SharedStride(uint32_t padded_columns) { return padded_columns + 8; }

// The block's shared memory: RowInfo for each row; then queries (two float16 planes), keys and
// values; at the end, in the place of those, the warps' states.
struct AttentionSpace {
  RowInfo* info;
  uint16_t* queries;      // [rows, stride], what is left of them after the next plane
  uint16_t* query_rests;  // [rows, stride]
  uint16_t* keys;         // [buffers, tile, stride]
  uint16_t* values;       // [buffers, tile, stride]
  float* states;          // [warps, kWarpRows, StateStride]
};

constexpr uint32_t StateStride(uint32_t value_padded) { return value_padded + 4; }

template <typename Shape>
constexpr uint32_t AttentionSharedBytes(uint32_t key_padded, uint32_t value_padded) {
  const uint32_t key_bytes = 2 * SharedStride(key_padded);
  const uint32_t value_bytes = 2 * SharedStride(value_padded);
  const uint32_t tiles =
      2 * Shape::kRows * key_bytes + Shape::kTileBuffers * Shape::kTile * (key_bytes + value_bytes);
  const uint32_t states = kAttentionWarps * kWarpRows * StateStride(value_padded) * 4;
  return 16 * Shape::kRows + (tiles > states ? tiles : states);
}

template <typename Shape>
WEIR_DEVICE AttentionSpace SpaceOf(const AttentionCall& call) {
  uint8_t* const shared = DynamicShared();
  const uint32_t key_stride = SharedStride(call.key_padded);
  AttentionSpace space;
  space.info = reinterpret_cast<RowInfo*>(shared);
  space.queries = reinterpret_cast<uint16_t*>(shared + 16 * Shape::kRows);
  space.query_rests = space.queries + Shape::kRows * key_stride;
  space.keys = space.query_rests + Shape::kRows * key_stride;
  space.values = space.keys + Shape::kTileBuffers * Shape::kTile * key_stride;
  space.states = reinterpret_cast<float*>(space.queries);
  return space;
}

// ---- to shared memory

// 2^exponent, for -126 to 127.
WEIR_DEVICE float PowerOfTwo(int32_t exponent) {
  return BitsToFloat(static_cast<uint32_t>(exponent + 127) << 23);
}

// One row by one warp; null: a row that nobody reads.
WEIR_DEVICE float StageQuery(const AttentionCall& call, const float* query, uint16_t* whole,
                             uint16_t* rest) {
  const uint32_t columns = query == nullptr ? 0 : call.args.layout.key_columns;
  float most = 0;
  for (uint32_t c = LaneIndex(); c < columns; c += kWarpThreads) {
    const float magnitude = BitsToFloat(FloatToBits(query[c]) & 0x7FFFFFFF);
    most = magnitude > most ? magnitude : most;
  }
  most = WarpMax(most);
  // Of the largest element; what is smaller than 2^-112 need not become that large.
  const int32_t biased = static_cast<int32_t>(FloatToBits(most) >> 23);
  const int32_t exponent = (biased < 15 ? 15 : biased) - 127;
  const float up = PowerOfTwo(14 - exponent);
  for (uint32_t c = LaneIndex(); c < call.key_padded; c += kWarpThreads) {
    const float value = c < columns ? query[c] * up : 0.0f;
    whole[c] = FloatToHalf(value);
    rest[c] = FloatToHalf(value - HalfToFloat(whole[c]));
  }
  return PowerOfTwo(exponent - 14);
}

template <typename Shape>
WEIR_DEVICE void StageQueries(const AttentionCall& call, const RowTile& tile,
                              const AttentionSpace& space) {
  const AttentionArgs& args = call.args;
  const float scale = args.soft_cap > 0 ? args.scale / args.soft_cap : args.scale * kLog2E;
  const uint32_t stride = SharedStride(call.key_padded);
  for (uint32_t r = WarpIndex(); r < Shape::kRows; r += kAttentionWarps) {
    const uint32_t row = tile.first_row + r;
    const bool inside = r < call.tile_rows && row < call.rows;
    const uint32_t token = inside ? row / call.group : 0;
    const uint32_t head = tile.kv_head * call.group + row % call.group;
    const float* const query =
        args.queries + token * args.queries_stride + uint64_t{head} * args.layout.key_columns;
    const float factor = StageQuery(call, inside ? query : nullptr, space.queries + r * stride,
                                    space.query_rests + r * stride);
    const uint32_t end = EndOf(args, token);
    if (LaneIndex() == 0) space.info[r] = {factor * scale, BeginOf(args, end), end};
  }
}

// Where keys or values of one KV head lie.
struct HeadRows {
  uint64_t before;  // elements of a page before the first position's row of this head
  uint64_t stride;  // elements from position to position
  uint32_t columns;
};
WEIR_DEVICE HeadRows RowsOf(const KvLayout& layout, uint32_t kv_head, bool values) {
  const uint32_t columns = values ? layout.value_columns : layout.key_columns;
  const uint64_t keys = uint64_t{layout.page_tokens} * layout.kv_heads * layout.key_columns;
  return {(values ? keys : 0) + uint64_t{kv_head} * columns, uint64_t{layout.kv_heads} * columns,
          columns};
}
WEIR_DEVICE const uint16_t* RowAt(const AttentionArgs& args, const HeadRows& rows,
                                  uint32_t position) {
  const uint32_t page_tokens = args.layout.page_tokens;
  const uint8_t* const page = LoadCached(args.pages + position / page_tokens);
  return reinterpret_cast<const uint16_t*>(page) + rows.before +
         position % page_tokens * rows.stride;
}

// Positions [first, first + kTile) of the keys or values of one KV head; zeros for those outside
// [begin, end), which are not read, and for the padding. Eight threads a position, 16 bytes each.
// One of the tile's positions at least is inside.
template <typename Shape>
WEIR_DEVICE void StageTile(const AttentionCall& call, uint32_t kv_head, bool values, uint32_t first,
                           uint32_t begin, uint32_t end, uint16_t* tile) {
  constexpr uint32_t kLanes = 8;
  constexpr uint32_t kWord = 8;  // halves in 16 bytes
  const HeadRows rows = RowsOf(call.args.layout, kv_head, values);
  const uint32_t padded = values ? call.value_padded : call.key_padded;
  // Divisions by the page's length take longer than all else here.
  const bool one_page = call.args.layout.page_tokens % Shape::kTile == 0;
  const uint16_t* const first_row = one_page ? RowAt(call.args, rows, first) : nullptr;
  for (uint32_t r = ThreadIndex() / kLanes; r < Shape::kTile; r += kAttentionThreads / kLanes) {
    const bool inside = first + r >= begin && first + r < end;
    const uint16_t* from = nullptr;
    if (inside) from = one_page ? first_row + r * rows.stride : RowAt(call.args, rows, first + r);
    uint16_t* const to = tile + r * SharedStride(padded);
    for (uint32_t c = ThreadIndex() % kLanes * kWord; c < padded; c += kLanes * kWord) {
      if (!inside || c >= rows.columns) {
        *reinterpret_cast<Words4*>(to + c) = {0, 0, 0, 0};
      } else if (call.aligned) {
        CopyAsync16(to + c, from + c, 16);
      } else {
        for (uint32_t i = c; i < c + kWord; ++i) to[i] = i < rows.columns ? from[i] : uint16_t{0};
      }
    }
  }
}

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_ATTENTION_STAGE_CUDA_H_
