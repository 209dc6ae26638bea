#include "kernels/attention_split.h"

#include <algorithm>

#include "io/base.h"

namespace weir {
namespace {

constexpr uint32_t kMaxItems = 256;

// The items of a call and their partitions, counted from each item's own first one.
struct Items {
  Items(const AttentionArgs& args, const AttentionCut& cut)
      : count(static_cast<uint32_t>(cut.items)) {
    for (uint32_t i = 0; i < count; ++i) {
      span[i] = SpanOfItem(args, cut, i);
      const uint32_t first = PartitionBegin(span[i].positions.begin);
      partitions = std::max(partitions, static_cast<uint32_t>(CeilDiv(span[i].positions.end - first,
                                                                      kPartitionPositions)));
    }
  }
  // What of item `i` lies in its partition `p`.
  PositionRange Positions(uint32_t i, uint32_t p) const {
    const uint32_t begin = PartitionBegin(span[i].positions.begin) + p * kPartitionPositions;
    return InPartition(span[i].positions, begin);
  }
  uint64_t Work(uint32_t i, uint32_t p) const {
    const PositionRange positions = Positions(i, p);
    if (positions.begin >= positions.end) return 0;
    return uint64_t{positions.end - positions.begin} * span[i].rows();
  }

  uint32_t count;
  uint32_t partitions = 0;  // of the item that has most
  ItemSpan span[kMaxItems];
};

// Softmax states that outlive a phase, spread over the scratch of all workers: of each row its
// total, and its partitions of this round.
class Records {
 public:
  Records(const AttentionArgs& args, CpuStream& stream)
      : stream_(stream),
        heads_(args.heads),
        padded_(PaddedColumns(args.layout.value_columns)),
        per_worker_(kAttentionRecordsBytes / record_bytes()) {
    const uint64_t rows = uint64_t{args.tokens} * heads_;
    per_row_ =
        static_cast<uint32_t>(std::min<uint64_t>(per_worker_ * stream.threads() / rows, 1u << 30));
  }
  // A round's partitions; 0: not even one fits.
  uint32_t round() const { return per_row_ < 2 ? 0 : per_row_ - 1; }

  // The row's total so far, or, from 1 on, a partition of this round.
  SoftmaxState At(uint32_t token, uint32_t head, uint32_t index) {
    float* const record = Place(token, head, index);
    return {record[0], record[1], record + kHeadFloats};
  }
  void Put(uint32_t token, uint32_t head, uint32_t index, const SoftmaxState& state) {
    float* const record = Place(token, head, index);
    record[0] = state.max;
    record[1] = state.sum;
    if (state.weighted != record + kHeadFloats) {
      std::copy_n(state.weighted, padded_, record + kHeadFloats);
    }
  }

 private:
  static constexpr uint32_t kHeadFloats = 16;  // max and sum, and the weighted values stay aligned

  uint64_t record_bytes() const { return (kHeadFloats + padded_) * sizeof(float); }
  float* Place(uint32_t token, uint32_t head, uint32_t index) {
    const uint64_t number = (uint64_t{token} * heads_ + head) * per_row_ + index;
    uint8_t* const scratch = stream_.scratch(static_cast<uint32_t>(number / per_worker_));
    return reinterpret_cast<float*>(scratch + kAttentionWorkspaceBytes +
                                    number % per_worker_ * record_bytes());
  }

  CpuStream& stream_;
  uint32_t heads_;
  uint32_t padded_;
  uint64_t per_worker_;
  uint32_t per_row_;
};

// Partitions [first, last) of all items, partition after partition: the entries of a round.
struct Round {
  uint32_t first, last;
};

// The worker's entries lie together, so that it walks through memory, and the workers' parts have
// equal numbers of positions as far as entries allow.
template <typename Fn>
void ForOwnEntries(const Items& items, Round round, uint32_t worker, uint32_t workers,
                   const Fn& fn) {
  uint64_t all = 0;
  for (uint32_t p = round.first; p < round.last; ++p) {
    for (uint32_t i = 0; i < items.count; ++i) all += items.Work(i, p);
  }
  uint64_t before = 0;
  for (uint32_t p = round.first; p < round.last; ++p) {
    for (uint32_t i = 0; i < items.count; ++i) {
      const uint64_t work = items.Work(i, p);
      const uint64_t middle = before + work / 2;
      before += work;
      if (work > 0 && middle * workers / all == worker) fn(i, p);
    }
  }
}

void AttendRound(const AttentionArgs& args, const Items& items, Round round, uint32_t worker,
                 uint32_t workers, Records& records, AttentionWorkspace& work) {
  struct Entry {
    uint32_t item, partition;
  };
  const auto attend = [&](Entry entry, const AttentionAhead& ahead) {
    const ItemSpan& span = items.span[entry.item];
    const ItemRows rows = RowsOfItem(args, span);
    const uint32_t begin = PartitionBegin(items.Positions(entry.item, entry.partition).begin);
    AttendPartition(args, span.kv_head, rows.row, rows.count, begin, begin + kPartitionPositions,
                    ahead, work);
    for (uint32_t r = 0; r < rows.count; ++r) {
      records.Put(rows.token[r], rows.head[r], 1 + entry.partition - round.first, work.part[r]);
    }
  };
  Entry entry = {items.count, 0};  // none yet: each is done when the one after it is known
  ForOwnEntries(items, round, worker, workers, [&](uint32_t i, uint32_t p) {
    if (entry.item < items.count) attend(entry, {items.span[i].kv_head, items.Positions(i, p)});
    entry = {i, p};
  });
  if (entry.item < items.count) attend(entry, {});
}

// Merges the round's partitions of the worker's rows, in their order, and writes what is complete.
void MergeRound(const AttentionArgs& args, const Items& items, Round round, uint32_t worker,
                uint32_t workers, Records& records) {
  const uint32_t padded = PaddedColumns(args.layout.value_columns);
  uint32_t row = 0;
  for (uint32_t i = 0; i < items.count; ++i) {
    const ItemSpan& span = items.span[i];
    for (uint32_t r = 0; r < span.rows(); ++r, ++row) {
      if (row % workers != worker) continue;
      const uint32_t heads = span.last_head - span.first_head;
      const uint32_t token = span.first_token + r / heads;
      const uint32_t head = span.first_head + r % heads;
      SoftmaxState total = records.At(token, head, 0);
      if (round.first == 0) ClearSoftmax(total, padded);
      for (uint32_t p = round.first; p < round.last; ++p) {
        if (items.Work(i, p) == 0) continue;
        MergeSoftmax(total, records.At(token, head, 1 + p - round.first), padded);
      }
      records.Put(token, head, 0, total);
      if (round.last == items.partitions) {
        WriteAttention(total, args.layout.value_columns, AttentionOutputRow(args, token, head));
      }
    }
  }
}

}  // namespace

bool SplitsAttention(const AttentionArgs& args, const AttentionCut& cut, CpuStream& stream) {
  const uint32_t workers = stream.threads();
  if (workers < 2 || cut.items % workers == 0 || cut.items >= 4 * uint64_t{workers}) return false;
  if (2 * cut.items > kMaxItems || Records(args, stream).round() == 0) return false;
  for (uint64_t i = 0; i < cut.items; ++i) {
    const PositionRange positions = SpanOfItem(args, cut, i).positions;
    if (PartitionBegin(positions.begin) != PartitionBegin(positions.end - 1)) return true;
  }
  return false;
}

void RunSplitAttention(const AttentionArgs& args, const AttentionCut& cut, uint32_t worker,
                       CpuStream& stream, AttentionWorkspace& work) {
  const uint32_t workers = stream.threads();
  Items items(args, cut);
  if (items.count * items.partitions < 4 * workers && cut.item_heads > 1) {
    // Entries of fewer heads: keys and values are read once more, and by workers that would wait.
    items = Items(args, CutAttention(args, cut.item_tokens, (cut.item_heads + 1) / 2));
  }
  Records records(args, stream);
  for (uint32_t first = 0; first < items.partitions; first += records.round()) {
    const Round round = {first, std::min(items.partitions, first + records.round())};
    AttendRound(args, items, round, worker, workers, records, work);
    stream.Barrier();
    MergeRound(args, items, round, worker, workers, records);
    if (round.last < items.partitions) stream.Barrier();
  }
}

}  // namespace weir
