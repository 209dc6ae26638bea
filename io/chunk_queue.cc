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
  if (stuck_ > 0) GiveUpPending(now_ns);
}

ChunkQueue::Chunk* ChunkQueue::Next(int64_t now_ns) {
  if (!has_pending()) return nullptr;
  OpState* const state = pending_[pending_first_];
  ReadOp* const op = state->op;
  Chunk* const chunk = free_chunks_.back();
  free_chunks_.pop_back();
  ++chunks_in_flight_;
  const uint64_t chunk_bytes = AlignUp(options_.chunk_bytes, op->file->alignment_bytes());
  *chunk = Chunk();
  chunk->op = op;
  chunk->start_bytes = state->next_start_bytes;
  chunk->start_ns = now_ns;
  const uint64_t bytes = std::min(chunk_bytes, op->bytes - chunk->start_bytes);
  chunk->progress = ReadProgress::Begin(*op->file, op->offset_bytes + chunk->start_bytes, bytes);
  ++state->outstanding;
  state->next_start_bytes += bytes;
  if (state->next_start_bytes == op->bytes) {
    state->is_split = true;
    DropFirstPending();
  }
  return chunk;
}

void ChunkQueue::DropFirstPending() {
  pending_first_ = (pending_first_ + 1) % pending_.size();
  --pending_count_;
}

ReadStep ChunkQueue::Complete(Chunk* chunk, int64_t result, int64_t now_ns) {
  if (chunk->is_abandoned) {
    *chunk = Chunk();
    free_chunks_.push_back(chunk);
    --chunks_in_flight_;
    --stuck_;
    return ReadStep::kFailed;
  }
  ReadStep step = Advance(&chunk->progress, result, &stats_);
  if (chunk->is_overdue && step != ReadStep::kDone) {  // cancelled, or too late for another attempt
    chunk->progress.error = kNoAnswer;
    step = ReadStep::kFailed;
  }
  if (step == ReadStep::kAgain) {
    chunk->start_ns = now_ns;
    chunk->is_answered = false;
    return step;
  }
  EndChunk(chunk, step, now_ns);
  *chunk = Chunk();
  free_chunks_.push_back(chunk);
  --chunks_in_flight_;
  return step;
}

void ChunkQueue::EndChunk(Chunk* chunk, ReadStep step, int64_t now_ns) {
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
    DropFirstPending();
  }
  --state->outstanding;
  if (state->outstanding == 0 && state->is_split) FinishOp(state, now_ns);
}

int64_t ChunkQueue::DeadlineNs(const Chunk& chunk) const {
  return chunk.start_ns + (chunk.is_overdue ? kCancelGraceNs : options_.CurrentTimeoutNs());
}

int64_t ChunkQueue::NextDeadlineNs() const {
  int64_t next_ns = std::numeric_limits<int64_t>::max();
  if (chunks_in_flight_ == stuck_) return next_ns;
  for (const Chunk& chunk : chunks_) {
    if (chunk.op != nullptr && !chunk.is_answered) next_ns = std::min(next_ns, DeadlineNs(chunk));
  }
  return next_ns;
}

ChunkQueue::Chunk* ChunkQueue::FindOverdue(int64_t now_ns) {
  if (chunks_in_flight_ == stuck_) return nullptr;
  for (Chunk& chunk : chunks_) {
    const bool is_waiting = chunk.op != nullptr && !chunk.is_answered;
    if (is_waiting && now_ns >= DeadlineNs(chunk)) return &chunk;
  }
  return nullptr;
}

void ChunkQueue::GrantGrace(Chunk* chunk, int64_t now_ns) {
  chunk->is_overdue = true;
  chunk->start_ns = now_ns;
}

void ChunkQueue::Abandon(Chunk* chunk, int64_t now_ns) {
  chunk->progress.error = kNoAnswer;
  ++stuck_;
  EndChunk(chunk, ReadStep::kFailed, now_ns);
  chunk->op = nullptr;
  chunk->is_abandoned = true;
  GiveUpPending(now_ns);
}

void ChunkQueue::GiveUpPending(int64_t now_ns) {
  while (pending_count_ > 0) {
    OpState* const state = pending_[pending_first_];
    state->is_split = true;
    if (state->next_start_bytes <= state->end_bytes) {
      state->end_bytes = state->next_start_bytes;
      state->error = kNoAnswer;
    }
    DropFirstPending();
    if (state->outstanding == 0) FinishOp(state, now_ns);
  }
}

void ChunkQueue::FinishOp(OpState* state, int64_t now_ns) {
  ReadOp* const op = state->op;
  op->got_bytes = state->end_bytes;
  op->done_ns = now_ns;
  op->status = FinalStatus(*op, state->end_bytes, state->error, options_.CurrentTimeoutNs());
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
