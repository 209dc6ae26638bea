#include "engine/real_machine.h"

#include <algorithm>
#include <utility>

#include "io/base.h"

namespace weir {
namespace {

// How long a Wait may be deaf to the cancel flag.
constexpr int64_t kPollNs = 50'000'000;

// Bytes wanted in flight; with blocks of a few MiB this is a handful of transfers.
constexpr uint32_t kMinTransfers = 8;

size_t MostSegments(const Program& program) {
  size_t most = 1;
  for (const Block& block : program.blocks) most = std::max(most, block.segments.size());
  return most;
}

}  // namespace

RealMachine::RealMachine(const RealMachineOptions& options)
    : options_(options),
      max_transfers_(std::max(kMinTransfers, options.plan->slots + 2)),
      block_memory_(options.program->blocks.size(), nullptr),
      progress_(options.program->blocks.size()),
      step_ids_(kStepRing),
      step_frees_slot_(kStepRing),
      step_begin_ns_(kStepRing),
      step_end_ns_(kStepRing) {
  const size_t pieces = max_transfers_ * MostSegments(*options.program) + options.max_rows;
  pieces_.resize(pieces);
  free_pieces_.reserve(pieces);
  for (Piece& piece : pieces_) free_pieces_.push_back(&piece);
  pending_.resize(pieces);
  done_ops_.resize(options.reader->capacity());
  done_blocks_.reserve(options.program->blocks.size());
  rows_.reserve(options.max_rows);
  for (size_t i = 0; i < options.program->blocks.size(); ++i) {
    const Placement& placement = options.plan->placements[i];
    if (placement.home == Tier::kHost)
      block_memory_[i] = options.arena + placement.arena_offset_bytes;
  }
}

void RealMachine::SetRows(absl::Span<const RowRead> rows) {
  WEIR_CHECK(rows.size() <= options_.max_rows);
  rows_.assign(rows.begin(), rows.end());
}

void RealMachine::Start(const Transfer& transfer) {
  const Block& block = options_.program->blocks[transfer.block];
  BlockProgress& progress = progress_[transfer.block];
  WEIR_CHECK(progress.pieces_left == 0);
  progress.status = absl::OkStatus();
  progress.begin_ns = clock_.NowNs();
  progress.end_ns = progress.begin_ns;
  if (block.kind == BlockKind::kRows) {
    progress.pieces_left = static_cast<uint32_t>(rows_.size());
    for (const RowRead& row : rows_) {
      const Segment segment = {.offset_bytes = row.offset_bytes,
                               .bytes = row.bytes,
                               .required_bytes = row.required_bytes};
      AddPiece(transfer.block, *row.file, segment, row.memory, /*urgent=*/true);
    }
    if (rows_.empty()) done_blocks_.push_back(transfer.block);
  } else {
    if (transfer.slot != Transfer::kOwnMemory) {
      block_memory_[transfer.block] = options_.ring + transfer.slot * options_.plan->slot_bytes;
    }
    uint8_t* memory = block_memory_[transfer.block];
    progress.pieces_left = static_cast<uint32_t>(block.segments.size());
    for (const Segment& segment : block.segments) {
      AddPiece(transfer.block, *options_.files[segment.file], segment,
               memory + segment.memory_offset_bytes, /*urgent=*/false);
    }
  }
  SubmitPending();
}

void RealMachine::AddPiece(BlockId block, const File& file, const Segment& segment, uint8_t* memory,
                           bool urgent) {
  WEIR_CHECK(!free_pieces_.empty());
  Piece* piece = free_pieces_.back();
  free_pieces_.pop_back();
  piece->block = block;
  piece->op = ReadOp();
  piece->op.file = &file;
  piece->op.offset_bytes = segment.offset_bytes;
  piece->op.buffer = memory;
  piece->op.bytes = segment.bytes;
  piece->op.required_bytes = segment.required_bytes;
  piece->op.tag = static_cast<uint64_t>(piece - pieces_.data());
  if (urgent) {
    pending_begin_ = (pending_begin_ + pending_.size() - 1) % pending_.size();
    pending_[pending_begin_] = piece;
  } else {
    pending_[(pending_begin_ + pending_count_) % pending_.size()] = piece;
  }
  ++pending_count_;
}

void RealMachine::SubmitPending() {
  while (pending_count_ > 0 && options_.reader->in_flight() < options_.reader->capacity()) {
    options_.reader->Submit(&pending_[pending_begin_]->op);
    pending_begin_ = (pending_begin_ + 1) % pending_.size();
    --pending_count_;
  }
}

void RealMachine::StartCopy(const Copy&) { WEIR_CHECK(false); }  // there is no accelerator

void RealMachine::Run(StepId step, ComputeDevice device) {
  WEIR_CHECK(device == ComputeDevice::kCpu);
  const size_t at = steps_run_.load(std::memory_order_relaxed) % kStepRing;
  step_ids_[at] = step;
  step_frees_slot_[at] = FreesSlot(step) ? 1 : 0;
  step_begin_ns_[at] = clock_.NowNs();
  steps_run_.fetch_add(1);  // before the step can be done: see OnStepComplete
  options_.runner->EnqueueStep(step);
  options_.stream->NotifyWhenComplete(&RealMachine::OnStepComplete, this);
}

// The scheduler's thread is woken when there is something for it to do: a slot came free for the
// next read, half of the queue has run and wants to be refilled, or nothing is left to run. Waking
// it after every step would take a core from the workers a hundred times a token. The last step in
// the queue always finds itself last, since steps_run_ grows before a step is enqueued.
void RealMachine::OnStepComplete(void* machine) {
  auto* self = static_cast<RealMachine*>(machine);
  const uint64_t done = self->steps_done_.load(std::memory_order_relaxed);
  const size_t at = done % kStepRing;
  self->step_end_ns_[at].store(self->clock_.NowNs(), std::memory_order_relaxed);
  const bool frees_slot = self->step_frees_slot_[at] != 0;
  self->steps_done_.store(done + 1);
  const uint64_t left = self->steps_run_.load() - (done + 1);
  if (frees_slot || left == 0 || left == kMaxSteps / 2) self->options_.reader->Wake();
}

bool RealMachine::FreesSlot(StepId step) const {
  const std::vector<BlockId>& needs = options_.program->steps[step].needs;
  return std::any_of(needs.begin(), needs.end(), [this](BlockId block) {
    return options_.plan->placements[block].home == Tier::kDisk;
  });
}

size_t RealMachine::Wait(absl::Span<MachineEvent> events) {
  while (true) {
    SubmitPending();
    const size_t count = CollectEvents(events);
    if (count > 0) return count;
    const size_t got = options_.reader->Wait(absl::MakeSpan(done_ops_), kPollNs);
    for (size_t i = 0; i < got; ++i) FinishPiece(&pieces_[done_ops_[i]->tag]);
  }
}

void RealMachine::FinishPiece(Piece* piece) {
  BlockProgress& progress = progress_[piece->block];
  if (progress.status.ok()) progress.status = std::move(piece->op.status);
  progress.end_ns = std::max(progress.end_ns, piece->op.done_ns);
  free_pieces_.push_back(piece);
  if (--progress.pieces_left == 0) done_blocks_.push_back(piece->block);
}

size_t RealMachine::CollectEvents(absl::Span<MachineEvent> events) {
  size_t count = CollectSteps(events);
  size_t told = 0;
  for (; told < done_blocks_.size() && count < events.size(); ++told) {
    const BlockId block = done_blocks_[told];
    events[count++] = {.kind = MachineEvent::Kind::kTransferDone,
                       .id = block,
                       .status = std::move(progress_[block].status),
                       .begin_ns = progress_[block].begin_ns,
                       .end_ns = progress_[block].end_ns};
  }
  done_blocks_.erase(done_blocks_.begin(), done_blocks_.begin() + static_cast<ptrdiff_t>(told));
  const bool cancelled =
      options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed);
  if (!cancelled) cancel_told_ = false;
  if (cancelled && !cancel_told_ && count < events.size()) {
    events[count++] = {.kind = MachineEvent::Kind::kCancelled, .id = 0, .status = absl::OkStatus()};
    cancel_told_ = true;  // once: what is in flight must still come to its end
  }
  return count;
}

size_t RealMachine::CollectSteps(absl::Span<MachineEvent> events) {
  const uint64_t done = steps_done_.load(std::memory_order_acquire);
  size_t count = 0;
  while (steps_told_ < done && count < events.size()) {
    const size_t at = steps_told_ % kStepRing;
    const int64_t end_ns = step_end_ns_[at].load(std::memory_order_relaxed);
    // A step begins when it was enqueued, or when the one before it ended.
    const size_t before = (at + kStepRing - 1) % kStepRing;
    const int64_t previous_end_ns =
        steps_told_ == 0 ? 0 : step_end_ns_[before].load(std::memory_order_relaxed);
    events[count++] = {.kind = MachineEvent::Kind::kStepDone,
                       .id = step_ids_[at],
                       .status = absl::OkStatus(),
                       .begin_ns = std::max(step_begin_ns_[at], previous_end_ns),
                       .end_ns = end_ns};
    ++steps_told_;
  }
  return count;
}

}  // namespace weir
