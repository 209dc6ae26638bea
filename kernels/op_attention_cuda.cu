// Attention: the launches, the kernels for up to 8 tokens, and the merging of splits.
//
// Decoding. Keys and values are read once: 2 (key + value columns) bytes a KV head and position,
// 512 for 128 columns, so 134 MB a layer at position 32,768 with 8 heads. Positions are split at
// multiples of 256: 8 x 128 blocks there, 8 for each of an H100's 132 multiprocessors, of which two
// at a time have 3 tiles' halves of 17 KiB each on their way: 100 KiB, where 25 KiB would do to
// hide 1 us at 25 GB/s a multiprocessor. Records of splits add 2 x 0.5 / (512 * 256) of that for
// each query head: 3 % with groups of 4, and stay in the L2 cache.
//
// Prompts are not split unless their tiles of rows are too few to fill a GPU, and then at multiples
// of 1024.
#include "io/base.h"
#include "kernels/attention_block_cuda.h"
#include "kernels/attention_kernels_cuda.h"
#include "kernels/cuda_launch.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

using Narrow = AttentionShape<64, 1, 64, 2>;  // 41 KiB of shared memory
using Usual = AttentionShape<128, 1, 64, 2>;  // 77 KiB
using Wide = AttentionShape<256, 1, 64, 1>;   // 83 KiB

WEIR_KERNEL(kAttentionThreads, 4) void DecodeNarrowKernel(AttentionCall call) {
  AttendBlock<Narrow>(call);
}
WEIR_KERNEL(kAttentionThreads, 2) void DecodeUsualKernel(AttentionCall call) {
  AttendBlock<Usual>(call);
}
WEIR_KERNEL(kAttentionThreads, 2) void DecodeWideKernel(AttentionCall call) {
  AttendBlock<Wide>(call);
}

// ---- merging the splits of a row

constexpr uint32_t kMergeThreads = 256;
constexpr uint32_t kMergeWarps = kMergeThreads / kWarpThreads;
constexpr uint32_t kLaneColumns = kMostCudaHeadColumns / kWarpThreads;

// Of records [0, count): the largest base. Ends with a barrier.
WEIR_DEVICE float LargestBase(const float* records, uint32_t record_floats, uint32_t count) {
  WEIR_SHARED float bases[kMergeWarps];
  float base = kNegativeInfinity;
  for (uint32_t i = ThreadIndex(); i < count; i += kMergeThreads) {
    const float other = records[uint64_t{i} * record_floats];
    base = other > base ? other : base;
  }
  base = WarpMax(base);
  if (LaneIndex() == 0) bases[WarpIndex()] = base;
  SyncBlock();
  return WarpMax(bases[LaneIndex() % kMergeWarps]);
}

// A block a row: x is its place in its tile, y the tile. The row's own splits, which depend on its
// position alone, are dealt out to the warps, whose sums are added in one order.
WEIR_KERNEL(kMergeThreads, 1) void MergeKernel(AttentionCall call) {
  WEIR_SHARED float values[kMergeWarps][kMostCudaHeadColumns];
  WEIR_SHARED float sums[kMergeWarps];
  const AttentionArgs& args = call.args;
  const RowTile tile = TileOf(call, call.first_tile + BlockY());
  const uint32_t row = tile.first_row + BlockX();
  if (row >= call.rows) return;
  const uint32_t token = row / call.group;
  const uint32_t end = EndOf(args, token);
  const uint32_t first = BeginOf(args, end) / call.split_positions;
  const uint32_t count = (end - 1) / call.split_positions - first + 1;
  const uint64_t record = (uint64_t{BlockY()} * call.tile_rows + BlockX()) * call.splits +
                          (first - tile.begin / call.split_positions);
  const float* const records = call.records + record * call.record_floats;
  const float base = LargestBase(records, call.record_floats, count);

  const uint32_t columns = args.layout.value_columns;
  float own[kLaneColumns] = {};
  float sum = 0;
  for (uint32_t i = WarpIndex(); i < count; i += kMergeWarps) {
    const float* const from = records + uint64_t{i} * call.record_floats;
    const float factor = from[0] == kNegativeInfinity ? 0.0f : Exp2(from[0] - base);
    sum = Fma(factor, from[1], sum);
    WEIR_UNROLL
    for (uint32_t k = 0; k < kLaneColumns; ++k) {
      const uint32_t c = LaneIndex() + k * kWarpThreads;
      if (c < columns) own[k] = Fma(factor, from[kRecordHead + c], own[k]);
    }
  }
  WEIR_UNROLL
  for (uint32_t k = 0; k < kLaneColumns; ++k) {
    values[WarpIndex()][LaneIndex() + k * kWarpThreads] = own[k];
  }
  if (LaneIndex() == 0) sums[WarpIndex()] = sum;
  SyncBlock();
  const uint32_t c = ThreadIndex();
  if (c >= columns) return;
  float value = 0;
  sum = 0;
  for (uint32_t w = 0; w < kMergeWarps; ++w) {
    value += values[w][c];
    sum += sums[w];
  }
  const uint32_t head = tile.kv_head * call.group + row % call.group;
  args.output[token * args.output_stride + uint64_t{head} * columns + c] = value / sum;
}
static_assert(kMergeThreads >= kMostCudaHeadColumns);

// ---- launching

constexpr uint32_t kFewTokens = 8;
constexpr uint32_t kDecodeSplit = 256;
constexpr uint32_t kPromptSplit = 1024;
// Fewer tiles than this of a prompt are split. A constant, so that results are the same on all
// GPUs.
constexpr uint32_t kManyTiles = 128;
constexpr uint32_t kNoSplit = 1u << 31;

// The most splits of a tile.
uint32_t SplitsOf(const AttentionArgs& args, uint32_t tile_tokens, uint32_t split_positions) {
  uint64_t splits = CeilDiv(args.positions_end, split_positions);
  if (args.window != 0) {
    const uint64_t seen = uint64_t{args.window} + tile_tokens - 1;
    const uint64_t in_window = CeilDiv(seen, split_positions) + 1;
    if (in_window < splits) splits = in_window;
  }
  return static_cast<uint32_t>(splits);
}

AttentionCall MakeCall(const AttentionArgs& args, uint32_t block_rows, bool few) {
  const KvLayout& layout = args.layout;
  AttentionCall call = {};
  call.args = args;
  call.group = args.heads / layout.kv_heads;
  call.rows = args.tokens * call.group;
  call.tile_rows = call.rows < block_rows ? call.rows : block_rows;
  call.row_tiles = static_cast<uint32_t>(CeilDiv(call.rows, call.tile_rows));
  const uint64_t tiles = uint64_t{call.row_tiles} * layout.kv_heads;
  call.split_positions = few ? kDecodeSplit : tiles < kManyTiles ? kPromptSplit : kNoSplit;
  call.key_padded = static_cast<uint32_t>(CeilDiv(layout.key_columns, 16) * 16);
  call.value_padded = static_cast<uint32_t>(CeilDiv(layout.value_columns, 16) * 16);
  call.record_floats = kRecordHead + static_cast<uint32_t>(CeilDiv(layout.value_columns, 4)) * 4;
  call.aligned = layout.key_columns % 8 == 0 && layout.value_columns % 8 == 0;
  return call;
}

// Splits become longer until the records of a tile fit; returns how many tiles' records do.
uint64_t FitRecords(const CudaStream& stream, AttentionCall& call) {
  const uint32_t tile_tokens = (call.tile_rows - 1) / call.group + 2;
  for (;; call.split_positions *= 2) {
    call.splits = SplitsOf(call.args, tile_tokens, call.split_positions);
    const uint64_t tile_bytes =
        uint64_t{call.tile_rows} * call.splits * call.record_floats * sizeof(float);
    const uint64_t fitting = stream.scratch_bytes() / tile_bytes;
    if (fitting > 0 || call.splits == 1) return fitting;
  }
}

// Tiles [first, first + tiles) of all KV heads, and the merging of their splits.
void LaunchTiles(CudaStream& stream, const AttentionKernel& kernel, AttentionCall& call,
                 uint32_t first, uint32_t tiles) {
  call.first_tile = first;
  LaunchShape shape;
  shape.blocks_x = tiles;
  shape.blocks_y = call.splits;
  shape.threads = kAttentionThreads;
  shape.shared_bytes = kernel.shared_bytes(call.key_padded, call.value_padded);
  Launch(stream, shape, kernel.function, call);
  if (call.records == nullptr) return;
  shape.blocks_x = call.tile_rows;
  shape.blocks_y = tiles;
  shape.threads = kMergeThreads;
  shape.shared_bytes = 0;
  Launch(stream, shape, MergeKernel, call);
}

}  // namespace

AttentionKernel DecodeAttentionKernel(uint32_t value_columns) {
  WEIR_CHECK(value_columns <= kMostCudaHeadColumns);
  if (value_columns <= Narrow::kColumns) {
    return {DecodeNarrowKernel, Narrow::kRows, AttentionSharedBytes<Narrow>};
  }
  if (value_columns <= Usual::kColumns) {
    return {DecodeUsualKernel, Usual::kRows, AttentionSharedBytes<Usual>};
  }
  return {DecodeWideKernel, Wide::kRows, AttentionSharedBytes<Wide>};
}

void AttentionCuda(CudaStream& stream, const AttentionArgs& args) {
  const KvLayout& layout = args.layout;
  WEIR_CHECK(layout.kv_heads > 0 && args.heads > 0 && args.heads % layout.kv_heads == 0);
  WEIR_CHECK(layout.page_tokens > 0 && layout.key_columns > 0);
  WEIR_CHECK(layout.order == KvOrder::kByToken);
  WEIR_CHECK(layout.formats == KvFormats{});
  WEIR_CHECK(layout.key_columns <= kMostCudaHeadColumns &&
             layout.value_columns <= kMostCudaHeadColumns);
  if (args.tokens == 0 || layout.value_columns == 0) return;
  WEIR_CHECK(args.positions_end > 0);
  const bool few = args.tokens <= kFewTokens;
  const AttentionKernel kernel = few ? DecodeAttentionKernel(layout.value_columns)
                                     : PromptAttentionKernel(layout.value_columns);
  AttentionCall call = MakeCall(args, kernel.rows, few);
  const uint64_t fitting = FitRecords(stream, call);
  // One split needs no record; its result is the same.
  call.records = call.splits == 1 ? nullptr : reinterpret_cast<float*>(stream.scratch());
  const uint32_t tiles = call.row_tiles * layout.kv_heads;
  const uint64_t most = call.splits == 1 || fitting > tiles ? tiles : fitting;
  for (uint64_t first = 0; first < tiles; first += most) {
    const uint64_t count = tiles - first < most ? tiles - first : most;
    LaunchTiles(stream, kernel, call, static_cast<uint32_t>(first), static_cast<uint32_t>(count));
  }
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
