#include "kernels/attention_items.h"

#include <algorithm>
#include <limits>

#include "io/base.h"

namespace weir {

AttentionWorkspace MakeAttentionWorkspace(uint8_t* scratch, const KvLayout& layout) {
  AttentionWorkspace work;
  const uint32_t padded = PaddedColumns(layout.value_columns);
  work.padded_columns = padded;
  work.scores = reinterpret_cast<float*>(scratch);
  const uint64_t row_floats = kTilePositions + 2 * uint64_t{padded};
  WEIR_CHECK(row_floats * sizeof(float) <= kAttentionWorkspaceBytes);
  work.rows = static_cast<uint32_t>(
      std::min<uint64_t>(kMaxAttentionRows, kAttentionWorkspaceBytes / sizeof(float) / row_floats));
  float* next = work.scores + uint64_t{work.rows} * kTilePositions;
  for (uint32_t r = 0; r < work.rows; ++r) {
    work.part[r] = {0, 0, next};
    work.total[r] = {0, 0, next + padded};
    next += 2 * padded;
  }
  return work;
}

AttentionCut CutAttention(const AttentionArgs& args, uint32_t item_tokens, uint32_t item_heads) {
  AttentionCut cut;
  cut.group = args.heads / args.layout.kv_heads;
  cut.item_tokens = item_tokens;
  cut.item_heads = item_heads;
  cut.token_blocks = static_cast<uint32_t>(CeilDiv(args.tokens, item_tokens));
  cut.head_blocks = static_cast<uint32_t>(CeilDiv(cut.group, item_heads));
  cut.items = uint64_t{cut.token_blocks} * args.layout.kv_heads * cut.head_blocks;
  return cut;
}

AttentionCut LargestAttentionItems(const AttentionArgs& args, uint32_t rows) {
  const uint32_t item_heads = std::min(args.heads / args.layout.kv_heads, rows);
  return CutAttention(args, std::min(args.tokens, std::max(1u, rows / item_heads)), item_heads);
}

PositionRange PositionsOf(const AttentionArgs& args, uint32_t token) {
  const uint32_t end = static_cast<uint32_t>(args.positions[token]) + 1;
  return {args.window != 0 && args.window < end ? end - args.window : 0, end};
}

ItemSpan SpanOfItem(const AttentionArgs& args, const AttentionCut& cut, uint64_t item) {
  const uint32_t head_block = static_cast<uint32_t>(item % cut.head_blocks);
  const uint32_t kv_heads = args.layout.kv_heads;
  const uint32_t token_block = static_cast<uint32_t>(item / cut.head_blocks / kv_heads);
  const uint32_t in_group = head_block * cut.item_heads;
  ItemSpan span;
  span.kv_head = static_cast<uint32_t>(item / cut.head_blocks % kv_heads);
  span.first_token = token_block * cut.item_tokens;
  span.last_token = std::min(args.tokens, span.first_token + cut.item_tokens);
  span.first_head = span.kv_head * cut.group + in_group;
  span.last_head = span.kv_head * cut.group + std::min(cut.group, in_group + cut.item_heads);
  span.positions = {std::numeric_limits<uint32_t>::max(), 0};
  for (uint32_t token = span.first_token; token < span.last_token; ++token) {
    const PositionRange own = PositionsOf(args, token);
    span.positions.begin = std::min(span.positions.begin, own.begin);
    span.positions.end = std::max(span.positions.end, own.end);
  }
  return span;
}

ItemRows RowsOfItem(const AttentionArgs& args, const ItemSpan& span) {
  ItemRows rows;
  for (uint32_t token = span.first_token; token < span.last_token; ++token) {
    const PositionRange positions = PositionsOf(args, token);
    const float* const queries = args.queries + token * args.queries_stride;
    for (uint32_t head = span.first_head; head < span.last_head; ++head) {
      const uint32_t i = rows.count++;
      rows.token[i] = token;
      rows.head[i] = head;
      rows.row[i] = {queries + uint64_t{head} * args.layout.key_columns, positions.begin,
                     positions.end};
    }
  }
  return rows;
}

PositionRange InPartition(PositionRange positions, uint32_t begin) {
  return {std::max(positions.begin, begin), std::min(positions.end, begin + kPartitionPositions)};
}

}  // namespace weir
