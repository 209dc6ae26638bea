#include "io/base.h"
#include "kernels/attention_items.h"
#include "kernels/attention_split.h"
#include "kernels/ops_cpu.h"

namespace weir {
namespace {

// One worker does an item from its first position to its last. `after` is its next item.
void RunWholeItem(const AttentionArgs& args, const ItemSpan& item, const AttentionAhead& after,
                  AttentionWorkspace& work) {
  const ItemRows rows = RowsOfItem(args, item);
  for (uint32_t r = 0; r < rows.count; ++r) ClearSoftmax(work.total[r], work.padded_columns);
  for (uint32_t begin = PartitionBegin(item.positions.begin); begin < item.positions.end;) {
    const uint32_t end = begin + kPartitionPositions;
    const AttentionAhead ahead =
        end < item.positions.end ? AttentionAhead{item.kv_head, InPartition(item.positions, end)}
                                 : after;
    AttendPartition(args, item.kv_head, rows.row, rows.count, begin, end, ahead, work);
    for (uint32_t r = 0; r < rows.count; ++r) {
      MergeSoftmax(work.total[r], work.part[r], work.padded_columns);
    }
    begin = end;
  }
  for (uint32_t r = 0; r < rows.count; ++r) {
    WriteAttention(work.total[r], args.layout.value_columns,
                   AttentionOutputRow(args, rows.token[r], rows.head[r]));
  }
}

void RunAttention(const AttentionArgs& args, uint32_t worker, uint32_t workers, CpuStream& stream) {
  AttentionWorkspace work = MakeAttentionWorkspace(stream.scratch(worker), args.layout);
  AttentionCut cut = LargestAttentionItems(args, work.rows);
  if (SplitsAttention(args, cut, stream)) {
    return RunSplitAttention(args, cut, worker, stream, work);
  }
  while (cut.items < workers && (cut.item_tokens > 1 || cut.item_heads > 1)) {
    cut = cut.item_tokens > 1 ? CutAttention(args, (cut.item_tokens + 1) / 2, cut.item_heads)
                              : CutAttention(args, 1, (cut.item_heads + 1) / 2);
  }
  // Later tokens see more positions: dealing the items out in turn evens that.
  for (uint64_t item = worker; item < cut.items; item += workers) {
    AttentionAhead after = {};
    if (item + workers < cut.items) {
      const ItemSpan next = SpanOfItem(args, cut, item + workers);
      after = {next.kv_head, InPartition(next.positions, PartitionBegin(next.positions.begin))};
    }
    RunWholeItem(args, SpanOfItem(args, cut, item), after, work);
  }
}

}  // namespace

void AttentionCpu(CpuStream& stream, const AttentionArgs& args) {
  WEIR_CHECK(args.layout.kv_heads > 0 && args.heads % args.layout.kv_heads == 0);
  WEIR_CHECK(args.layout.page_tokens > 0 && args.layout.page_tokens % kKeyBlock == 0);
  WEIR_CHECK(args.layout.order == KvOrder::kByHead && args.heads > 0);
  if (args.tokens == 0) return;
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream& self) {
    RunAttention(args, worker, workers, self);
  });
}

}  // namespace weir
