// How a call of the CPU's attention is cut into items, each a block of tokens and some query heads
// of one KV head. The cut changes with the number of workers; the results do not
// (kernels/attention_tile.h). Private to kernels/.
#ifndef WEIR_KERNELS_ATTENTION_ITEMS_H_
#define WEIR_KERNELS_ATTENTION_ITEMS_H_

#include <cstdint>

#include "kernels/attention_tile.h"
#include "kernels/ops_cpu.h"

namespace weir {

// A worker's scratch: its workspace, then records of finished partitions
// (kernels/attention_split.h).
inline constexpr uint64_t kAttentionWorkspaceBytes = 192 * kKiB;
inline constexpr uint64_t kAttentionRecordsBytes =
    CpuStream::kScratchBytes - kAttentionWorkspaceBytes;

AttentionWorkspace MakeAttentionWorkspace(uint8_t* scratch, const KvLayout& layout);

struct AttentionCut {
  uint32_t group;  // query heads of a KV head
  uint32_t item_tokens;
  uint32_t item_heads;
  uint32_t token_blocks;
  uint32_t head_blocks;  // per KV head
  uint64_t items;
};
AttentionCut CutAttention(const AttentionArgs& args, uint32_t item_tokens, uint32_t item_heads);

// The largest items of at most `rows` rows: they share most of the reading of keys and values.
AttentionCut LargestAttentionItems(const AttentionArgs& args, uint32_t rows);

// The positions that one token attends to.
PositionRange PositionsOf(const AttentionArgs& args, uint32_t token);

// The tokens and heads of one item, and the positions that any of them attends to.
struct ItemSpan {
  uint32_t kv_head;
  uint32_t first_token, last_token;  // past the end
  uint32_t first_head, last_head;    // of all the heads, past the end
  PositionRange positions;

  uint32_t rows() const { return (last_token - first_token) * (last_head - first_head); }
};
ItemSpan SpanOfItem(const AttentionArgs& args, const AttentionCut& cut, uint64_t item);

// Its rows, token after token.
struct ItemRows {
  uint32_t count = 0;
  AttentionRow row[kMaxAttentionRows];
  uint32_t token[kMaxAttentionRows];
  uint32_t head[kMaxAttentionRows];
};
ItemRows RowsOfItem(const AttentionArgs& args, const ItemSpan& span);

// Where the partition that holds `position` begins.
inline uint32_t PartitionBegin(uint32_t position) {
  return position / kPartitionPositions * kPartitionPositions;
}
// The part of `positions` in the partition that begins at `begin`; empty: begin >= end.
PositionRange InPartition(PositionRange positions, uint32_t begin);

inline float* AttentionOutputRow(const AttentionArgs& args, uint32_t token, uint32_t head) {
  return args.output + token * args.output_stride + uint64_t{head} * args.layout.value_columns;
}

}  // namespace weir

#endif  // WEIR_KERNELS_ATTENTION_ITEMS_H_
