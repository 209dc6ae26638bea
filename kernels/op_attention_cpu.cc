#include <algorithm>
#include <limits>

#include "io/base.h"
#include "kernels/attention_tile.h"
#include "kernels/ops_cpu.h"

namespace weir {
namespace {

// A worker's scratch: its workspace, then records of finished partitions.
constexpr uint64_t kRecordsBytes = 128 * kKiB;
constexpr uint64_t kWorkspaceBytes = CpuStream::kScratchBytes - kRecordsBytes;

AttentionWorkspace MakeWorkspace(uint8_t* scratch, const KvLayout& layout) {
  AttentionWorkspace work;
  const uint32_t padded = PaddedColumns(layout.value_columns);
  work.padded_columns = padded;
  work.keys = reinterpret_cast<float*>(scratch);
  work.values = work.keys + uint64_t{layout.key_columns} * kTilePositions;
  work.scores = work.values + uint64_t{padded} * kTilePositions;
  const uint64_t tile_floats = static_cast<uint64_t>(work.scores - work.keys);
  const uint64_t row_floats = kTilePositions + 2 * uint64_t{padded};
  WEIR_CHECK((tile_floats + row_floats) * sizeof(float) <= kWorkspaceBytes);
  work.rows = static_cast<uint32_t>(std::min<uint64_t>(
      kMaxAttentionRows, (kWorkspaceBytes / sizeof(float) - tile_floats) / row_floats));
  float* next = work.scores + uint64_t{work.rows} * kTilePositions;
  for (uint32_t r = 0; r < work.rows; ++r) {
    work.part[r] = {0, 0, next};
    work.total[r] = {0, 0, next + padded};
    next += 2 * padded;
  }
  return work;
}

AttentionRow MakeRow(const AttentionArgs& args, uint32_t token, uint32_t head) {
  const uint32_t end = static_cast<uint32_t>(args.positions[token]) + 1;
  const uint32_t begin = args.window != 0 && args.window < end ? end - args.window : 0;
  const float* const queries = args.queries + token * args.queries_stride;
  return {queries + uint64_t{head} * args.layout.key_columns, begin, end};
}

// How a call is cut into items: a block of tokens, some query heads of one KV head. The cut changes
// with the number of workers; the results do not (attention_tile.h).
struct AttentionCut {
  uint32_t group;  // query heads of a KV head
  uint32_t item_tokens;
  uint32_t item_heads;
  uint32_t token_blocks;
  uint32_t head_blocks;  // per KV head
  uint64_t items;
};

AttentionCut CutInto(const AttentionArgs& args, uint32_t item_tokens, uint32_t item_heads) {
  AttentionCut cut;
  cut.group = args.heads / args.layout.kv_heads;
  cut.item_tokens = item_tokens;
  cut.item_heads = item_heads;
  cut.token_blocks = static_cast<uint32_t>(CeilDiv(args.tokens, item_tokens));
  cut.head_blocks = static_cast<uint32_t>(CeilDiv(cut.group, item_heads));
  cut.items = uint64_t{cut.token_blocks} * args.layout.kv_heads * cut.head_blocks;
  return cut;
}

// The largest items that fit a workspace: they share most of the conversion of keys and values.
AttentionCut LargestItems(const AttentionArgs& args, uint32_t rows) {
  const uint32_t group = args.heads / args.layout.kv_heads;
  const uint32_t item_heads = std::min(group, rows);
  return CutInto(args, std::min(args.tokens, std::max(1u, rows / item_heads)), item_heads);
}

// The rows of one item.
struct ItemRows {
  uint32_t kv_head;
  uint32_t count = 0;
  uint32_t begin = std::numeric_limits<uint32_t>::max();  // of all rows together
  uint32_t end = 0;
  AttentionRow row[kMaxAttentionRows];
  uint32_t token[kMaxAttentionRows];
  uint32_t head[kMaxAttentionRows];
};

ItemRows MakeItem(const AttentionArgs& args, const AttentionCut& cut, uint64_t item) {
  ItemRows rows;
  const uint32_t head_block = static_cast<uint32_t>(item % cut.head_blocks);
  rows.kv_head = static_cast<uint32_t>(item / cut.head_blocks % args.layout.kv_heads);
  const uint32_t token_block = static_cast<uint32_t>(item / cut.head_blocks / args.layout.kv_heads);
  const uint32_t first_token = token_block * cut.item_tokens;
  const uint32_t last_token = std::min(args.tokens, first_token + cut.item_tokens);
  const uint32_t first_head = head_block * cut.item_heads;
  const uint32_t last_head = std::min(cut.group, first_head + cut.item_heads);
  for (uint32_t token = first_token; token < last_token; ++token) {
    for (uint32_t h = first_head; h < last_head; ++h) {
      const uint32_t i = rows.count++;
      rows.token[i] = token;
      rows.head[i] = rows.kv_head * cut.group + h;
      rows.row[i] = MakeRow(args, token, rows.head[i]);
      rows.begin = std::min(rows.begin, rows.row[i].begin);
      rows.end = std::max(rows.end, rows.row[i].end);
    }
  }
  return rows;
}

// The partition that holds `position` begins here.
uint32_t FirstPartition(uint32_t position) {
  return position / kPartitionPositions * kPartitionPositions;
}

float* OutputRow(const AttentionArgs& args, uint32_t token, uint32_t head) {
  return args.output + token * args.output_stride + uint64_t{head} * args.layout.value_columns;
}

// One worker does an item from its first position to its last.
void RunWholeItem(const AttentionArgs& args, const AttentionCut& cut, uint64_t item,
                  AttentionWorkspace& work) {
  const ItemRows rows = MakeItem(args, cut, item);
  for (uint32_t r = 0; r < rows.count; ++r) {
    work.total[r].max = -std::numeric_limits<float>::infinity();
    work.total[r].sum = 0;
    std::fill_n(work.total[r].weighted, work.padded_columns, 0.0f);
  }
  for (uint32_t begin = FirstPartition(rows.begin); begin < rows.end;
       begin += kPartitionPositions) {
    AttendPartition(args, rows.kv_head, rows.row, rows.count, begin, begin + kPartitionPositions,
                    work);
    for (uint32_t r = 0; r < rows.count; ++r) {
      MergeSoftmax(work.total[r], work.part[r], work.padded_columns);
    }
  }
  for (uint32_t r = 0; r < rows.count; ++r) {
    WriteAttention(work.total[r], args.layout.value_columns,
                   OutputRow(args, rows.token[r], rows.head[r]));
  }
}

// Where the states of finished partitions lie between the two phases of a split call: [token, head,
// partition of the token], spread over the scratch of all workers.
class Records {
 public:
  Records(const AttentionArgs& args, CpuStream& stream)
      : stream_(stream), heads_(args.heads), padded_(PaddedColumns(args.layout.value_columns)) {
    for (uint32_t t = 0; t < args.tokens; ++t) {
      const AttentionRow row = MakeRow(args, t, 0);
      partitions_ = std::max(
          partitions_, (row.end - 1) / kPartitionPositions - row.begin / kPartitionPositions + 1);
    }
    per_worker_ = kRecordsBytes / record_bytes();
    fits_ = uint64_t{args.tokens} * heads_ * partitions_ <= per_worker_ * stream.threads();
  }
  uint32_t partitions() const { return partitions_; }  // at most, of one token
  bool fits() const { return fits_; }

  void Put(uint32_t token, uint32_t head, uint32_t partition, const SoftmaxState& state) {
    float* const record = At(token, head, partition);
    record[0] = state.max;
    record[1] = state.sum;
    std::copy_n(state.weighted, padded_, record + kHeadFloats);
  }
  SoftmaxState Get(uint32_t token, uint32_t head, uint32_t partition) {
    float* const record = At(token, head, partition);
    return {record[0], record[1], record + kHeadFloats};
  }

 private:
  static constexpr uint32_t kHeadFloats = 16;  // max and sum, and the weighted values stay aligned

  uint64_t record_bytes() const { return (kHeadFloats + padded_) * sizeof(float); }
  float* At(uint32_t token, uint32_t head, uint32_t partition) {
    const uint64_t index = (uint64_t{token} * heads_ + head) * partitions_ + partition;
    uint8_t* const scratch = stream_.scratch(static_cast<uint32_t>(index / per_worker_));
    return reinterpret_cast<float*>(scratch + kWorkspaceBytes +
                                    index % per_worker_ * record_bytes());
  }

  CpuStream& stream_;
  uint32_t heads_;
  uint32_t padded_;
  uint32_t partitions_ = 1;
  uint64_t per_worker_ = 0;
  bool fits_ = false;
};

// Few items and many positions (one token being generated): the workers share the partitions, and
// then the merging.
void RunSplit(const AttentionArgs& args, const AttentionCut& cut, Records& records, uint32_t worker,
              CpuStream& stream, AttentionWorkspace& work) {
  const uint32_t workers = stream.threads();
  for (uint64_t i = worker; i < cut.items * records.partitions(); i += workers) {
    const ItemRows rows = MakeItem(args, cut, i / records.partitions());
    // A row's partitions are counted from its own first one; here from the item's.
    const uint32_t begin = FirstPartition(rows.begin) +
                           static_cast<uint32_t>(i % records.partitions()) * kPartitionPositions;
    AttendPartition(args, rows.kv_head, rows.row, rows.count, begin, begin + kPartitionPositions,
                    work);
    for (uint32_t r = 0; r < rows.count; ++r) {
      records.Put(rows.token[r], rows.head[r], static_cast<uint32_t>(i % records.partitions()),
                  work.part[r]);
    }
  }
  stream.Barrier();
  for (uint64_t i = worker; i < uint64_t{args.tokens} * args.heads; i += workers) {
    const uint32_t token = static_cast<uint32_t>(i / args.heads);
    const uint32_t head = static_cast<uint32_t>(i % args.heads);
    SoftmaxState& total = work.total[0];
    total.max = -std::numeric_limits<float>::infinity();
    total.sum = 0;
    std::fill_n(total.weighted, work.padded_columns, 0.0f);
    for (uint32_t p = 0; p < records.partitions(); ++p) {
      MergeSoftmax(total, records.Get(token, head, p), work.padded_columns);
    }
    WriteAttention(total, args.layout.value_columns, OutputRow(args, token, head));
  }
}

void RunAttention(const AttentionArgs& args, uint32_t worker, uint32_t workers, CpuStream& stream) {
  AttentionWorkspace work = MakeWorkspace(stream.scratch(worker), args.layout);
  AttentionCut cut = LargestItems(args, work.rows);
  if (cut.items < 2 * uint64_t{workers} && workers > 1) {
    // One token per item, so that an item's partitions are each of its rows' partitions.
    const AttentionCut single = CutInto(args, 1, cut.item_heads);
    Records records(args, stream);
    if (records.fits() && records.partitions() > 1) {
      RunSplit(args, single, records, worker, stream, work);
      return;
    }
  }
  while (cut.items < workers && (cut.item_tokens > 1 || cut.item_heads > 1)) {
    cut = cut.item_tokens > 1 ? CutInto(args, (cut.item_tokens + 1) / 2, cut.item_heads)
                              : CutInto(args, 1, (cut.item_heads + 1) / 2);
  }
  // Later tokens see more positions: dealing the items out in turn evens that.
  for (uint64_t item = worker; item < cut.items; item += workers) {
    RunWholeItem(args, cut, item, work);
  }
}

}  // namespace

void AttentionCpu(CpuStream& stream, const AttentionArgs& args) {
  WEIR_CHECK(args.layout.kv_heads > 0 && args.heads % args.layout.kv_heads == 0);
  WEIR_CHECK(args.layout.page_tokens > 0 && args.heads > 0);
  if (args.tokens == 0) return;
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream& self) {
    RunAttention(args, worker, workers, self);
  });
}

}  // namespace weir
