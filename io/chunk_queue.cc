#include "io/chunk_queue.h"

#include <algorithm>

#include "io/base.h"

namespace weir {
namespace {

void CheckOp(const ReadOp& op) {
  WEIR_CHECK(op.file != nullptr);
  WEIR_CHECK(op.buffer != nullptr || op.bytes == 0);
  WEIR_CHECK(op.required_bytes <= op.bytes);
  uint64_t end_bytes = 0;
  WEIR_CHECK(CheckedAdd(op.offset_bytes, op.bytes, &end_bytes));
  WEIR_CHECK(end_bytes <= uint64_t{std::numeric_limits<int64_t>::max()});
  if (!op.file->is_direct()) return;
  const uint64_t mask = op.file->alignment_bytes() - 1;
  WEIR_CHECK((op.offset_bytes & mask) == 0);
  WEIR_CHECK((op.bytes & mask) == 0);
  WEIR_CHECK((reinterpret_cast<uintptr_t>(op.buffer) & mask) == 0);
}

}  // namespace

ChunkQueue::ChunkQueue(const ReaderOptions& options)
    : options_(options),
      op_states_(options.capacity),
      pending_(options.capacity),
      chunks_(options.depth),
      done_(options.capacity) {
  free_ops_.reserve(op_states_.size());
  for (OpState& state : op_states_) free_ops_.push_back(&state);
  free_chunks_.reserve(chunks_.size());
  for (Chunk& chunk : chunks_) free_chunks_.push_back(&chunk);
}

void ChunkQueue::Add(ReadOp* op, int64_t now_ns) {
  CheckOp(*op);
  WEIR_CHECK(in_flight_ < capacity());
  ++in_flight_;
  OpState* const state = free_ops_.back();
  free_ops_.pop_back();
  *state = OpState();
  state->op = op;
  state->end_bytes = op->bytes;
  op->status = absl::OkStatus();
  op->got_bytes = 0;
  op->submit_ns = now_ns;
  op->done_ns = 0;
  op->reader_state = state;
  pending_[(pending_first_ + pending_count_) % pending_.size()] = state;
  ++pending_count_;
}

ChunkQueue::Chunk* ChunkQueue::Next() {
  if (!has_pending()) return nullptr;
  OpState* const state = pending_[pending_first_];
  ReadOp* const op = state->op;
  Chunk* const chunk = free_chunks_.back();
  free_chunks_.pop_back();
  ++chunks_in_flight_;
  const uint64_t chunk_bytes = AlignUp(options_.chunk_bytes, op->file->alignment_bytes());
  chunk->op = op;
  chunk->start_bytes = state->next_start_bytes;
  const uint64_t bytes = std::min(chunk_bytes, op->bytes - chunk->start_bytes);
  chunk->progress = ReadProgress::Begin(*op->file, op->offset_bytes + chunk->start_bytes, bytes);
  ++state->outstanding;
  state->next_start_bytes += bytes;
  if (state->next_start_bytes == op->bytes) {
    state->is_split = true;
    pending_first_ = (pending_first_ + 1) % pending_.size();
    --pending_count_;
  }
  return chunk;
}

ReadStep ChunkQueue::Complete(Chunk* chunk, int64_t result, int64_t now_ns) {
  const ReadStep step = Advance(&chunk->progress, result, &stats_);
  if (step == ReadStep::kAgain) return step;
  OpState* const state = static_cast<OpState*>(chunk->op->reader_state);
  const ReadProgress& progress = chunk->progress;
  const uint64_t end_bytes = chunk->start_bytes + progress.got_bytes;
  if (progress.got_bytes < progress.bytes && end_bytes <= state->end_bytes) {
    state->end_bytes = end_bytes;
    state->error = progress.error;
  }
  // Nothing behind a failed chunk can be of use.
  if (step == ReadStep::kFailed && !state->is_split) {
    WEIR_CHECK(pending_[pending_first_] == state);
    state->is_split = true;
    pending_first_ = (pending_first_ + 1) % pending_.size();
    --pending_count_;
  }
  free_chunks_.push_back(chunk);
  --chunks_in_flight_;
  --state->outstanding;
  if (state->outstanding == 0 && state->is_split) FinishOp(state, now_ns);
  return step;
}

void ChunkQueue::FinishOp(OpState* state, int64_t now_ns) {
  ReadOp* const op = state->op;
  op->got_bytes = state->end_bytes;
  op->done_ns = now_ns;
  op->status = FinalStatus(*op, state->end_bytes, state->error);
  op->reader_state = nullptr;
  ++stats_.ops_done;
  if (!op->status.ok()) ++stats_.failures;
  free_ops_.push_back(state);
  done_[(done_first_ + done_count_) % done_.size()] = op;
  ++done_count_;
}

size_t ChunkQueue::TakeDone(absl::Span<ReadOp*> done) {
  const size_t count = std::min(done.size(), done_count_);
  for (size_t i = 0; i < count; ++i) {
    done[i] = done_[done_first_];
    done_first_ = (done_first_ + 1) % done_.size();
  }
  done_count_ -= count;
  in_flight_ -= static_cast<uint32_t>(count);
  return count;
}

}  // namespace weir
