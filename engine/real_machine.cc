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

constexpr uint32_t kMaxSteps = 32;    // enqueued; on the CPU, and
constexpr uint32_t kManySteps = 512;  // on a GPU, where a step takes microseconds
constexpr uint32_t kMaxLongSteps = 4;
constexpr uint32_t kMaxCopies = 64;

size_t MostSegments(const Program& program) {
  size_t most = 1;
  for (const Block& block : program.blocks) most = std::max(most, block.segments.size());
  return most;
}

}  // namespace

RealMachine::RealMachine(const RealMachineOptions& options)
    : options_(options),
      max_transfers_(std::max(kMinTransfers, options.plan->slots + 2)),
      max_steps_(options.accelerator.has_value() && options.accelerator->runs_far_ahead
                     ? kManySteps
                     : kMaxSteps),
      block_memory_(options.program->blocks.size(), nullptr),
      progress_(options.program->blocks.size()),
      cpu_steps_({.stream = options.stream,
                  .capacity = max_steps_,
                  .wake = &RealMachine::Wake,
                  .wake_argument = this}) {
  const size_t pieces = max_transfers_ * MostSegments(*options.program) + options.max_rows;
  pieces_.resize(pieces);
  free_pieces_.reserve(pieces);
  for (Piece& piece : pieces_) free_pieces_.push_back(&piece);
  pending_.resize(pieces);
  done_ops_.resize(options.reader->capacity());
  done_blocks_.reserve(options.program->blocks.size());
  rows_.reserve(options.max_rows);
  if (options.accelerator.has_value()) MakeCopyMemory();
  PlaceResidentBlocks();
}

void RealMachine::PlaceResidentBlocks() {
  for (size_t i = 0; i < options_.program->blocks.size(); ++i) {
    const Placement& placement = options_.plan->placements[i];
    if (placement.home == Tier::kHost)
      block_memory_[i] = options_.arena + placement.arena_offset_bytes;
    if (placement.home == Tier::kDevice)
      device_block_memory_[i] = options_.accelerator->arena + placement.arena_offset_bytes;
  }
}

void RealMachine::MakeCopyMemory() {
  const MachineAccelerator& accelerator = *options_.accelerator;
  const Plan& plan = *options_.plan;
  const CompletionQueue::Options queue = {.stream = accelerator.compute,
                                          .capacity = max_steps_,
                                          .notify_each = !accelerator.runs_far_ahead,
                                          .wake = &RealMachine::Wake,
                                          .wake_argument = this};
  accelerator_steps_.emplace(queue);
  CompletionQueue::Options copies = queue;
  copies.stream = accelerator.copy;
  copies.capacity = max_copies_ = kMaxCopies;
  copies_.emplace(copies);
  device_block_memory_.resize(block_memory_.size(), nullptr);
  copy_progress_.resize(block_memory_.size());
  step_copies_.resize(max_steps_);
  std::vector<uint64_t> slots;
  for (uint64_t slot = 0; slot < plan.slots; ++slot) slots.push_back(slot * plan.slot_bytes);
  pinned_ring_.emplace(*accelerator.device, options_.ring, plan.slots * plan.slot_bytes, slots);
  std::vector<uint64_t> blocks;
  for (const Placement& placement : plan.placements) {
    if (placement.home == Tier::kHost) blocks.push_back(placement.arena_offset_bytes);
  }
  std::sort(blocks.begin(), blocks.end());
  pinned_arena_.emplace(*accelerator.device, options_.arena, plan.resident_arena_bytes, blocks);
}

void RealMachine::SetRows(absl::Span<const RowRead> rows) {
  WEIR_CHECK(rows.size() <= options_.max_rows);
  rows_.assign(rows.begin(), rows.end());
}

uint32_t RealMachine::max_steps() const {
  return options_.runner->HasLongSteps() ? kMaxLongSteps : max_steps_;
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

void RealMachine::StartCopy(const Copy& copy) {
  const int64_t begin_ns = clock_.NowNs();
  const MachineAccelerator& accelerator = *options_.accelerator;
  if (copy.device_slot != Copy::kOwnMemory) {
    device_block_memory_[copy.block] =
        accelerator.ring + copy.device_slot * options_.plan->accelerator->slot_bytes;
  }
  CopyProgress& progress = copy_progress_[copy.block];
  progress.status = EnsurePinned(copy.block);
  accelerator.copy->CopyIn(device_block_memory_[copy.block], block_memory_[copy.block],
                           options_.program->blocks[copy.block].memory_bytes);
  progress.event = accelerator.copy->Record();
  progress.number = copies_->pushed() + 1;
  // A host slot comes free.
  const bool wakes = options_.plan->placements[copy.block].home != Tier::kHost;
  copies_->Push(copy.block, wakes, begin_ns);
}

absl::Status RealMachine::EnsurePinned(BlockId block) {
  const bool in_arena = options_.plan->placements[block].home == Tier::kHost;
  return (in_arena ? *pinned_arena_ : *pinned_ring_).Ensure(block_memory_[block]);
}

absl::StatusOr<absl::Span<uint8_t>> RealMachine::PinForProbe() {
  const Plan& plan = *options_.plan;
  if (plan.slots > 0) return pinned_ring_->First();
  return pinned_arena_->First();
}

void RealMachine::Run(StepId step, ComputeDevice device) {
  const int64_t begin_ns = clock_.NowNs();
  if (device == ComputeDevice::kAccelerator) WaitForCopies(step);
  options_.runner->EnqueueStep(step, device);
  // With few enqueued the next must follow each that is done.
  const bool wakes = FreesSlot(step, device) || options_.runner->HasLongSteps();
  if (device == ComputeDevice::kCpu) {
    cpu_steps_.Push(step, wakes, begin_ns);
  } else {
    accelerator_steps_->Push(step, wakes, begin_ns);
    step_copies_[accelerator_steps_->pushed() % max_steps_] = copies_awaited_;
  }
}

// Copies complete in order, so that waiting for the latest is waiting for all.
void RealMachine::WaitForCopies(StepId step) {
  const CopyProgress* latest = nullptr;
  for (BlockId block : options_.program->steps[step].needs) {
    if (options_.program->blocks[block].kind == BlockKind::kRows) continue;
    const CopyProgress& progress = copy_progress_[block];
    if (latest == nullptr || progress.number > latest->number) latest = &progress;
  }
  if (latest == nullptr || latest->number <= copies_awaited_) return;
  options_.accelerator->compute->WaitFor(*options_.accelerator->copy, latest->event);
  copies_awaited_ = latest->number;
}

void RealMachine::Wake(void* machine) {
  static_cast<RealMachine*>(machine)->options_.reader->Wake();
}

bool RealMachine::FreesSlot(StepId step, ComputeDevice device) const {
  const std::vector<BlockId>& needs = options_.program->steps[step].needs;
  return std::any_of(needs.begin(), needs.end(), [this, device](BlockId block) {
    const Tier home = options_.plan->placements[block].home;
    if (options_.program->blocks[block].kind == BlockKind::kRows) return false;
    return device == ComputeDevice::kCpu ? home == Tier::kDisk : home != Tier::kDevice;
  });
}

size_t RealMachine::Wait(absl::Span<MachineEvent> events) {
  while (true) {
    SubmitPending();
    const size_t count = CollectEvents(events);
    if (count > 0) return count;
    if (accelerator_steps_.has_value()) {
      accelerator_steps_->NotifyLast();
      copies_->NotifyLast();
    }
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
  size_t count = 0;
  if (accelerator_steps_.has_value()) {
    count += CollectAcceleratorSteps(events);
    count += CollectCopies(/*known=*/0, events.subspan(count));
  }
  count += CollectCpuSteps(events.subspan(count));
  count += CollectTransfers(events.subspan(count));
  const bool cancelled =
      options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed);
  if (!cancelled) cancel_told_ = false;
  if (cancelled && !cancel_told_ && count < events.size()) {
    events[count++] = {.kind = MachineEvent::Kind::kCancelled, .id = 0, .status = absl::OkStatus()};
    cancel_told_ = true;  // once: what is in flight must still come to its end
  }
  return count;
}

size_t RealMachine::CollectTransfers(absl::Span<MachineEvent> events) {
  size_t told = 0;
  for (; told < done_blocks_.size() && told < events.size(); ++told) {
    const BlockId block = done_blocks_[told];
    events[told] = {.kind = MachineEvent::Kind::kTransferDone,
                    .id = block,
                    .status = std::move(progress_[block].status),
                    .begin_ns = progress_[block].begin_ns,
                    .end_ns = progress_[block].end_ns};
  }
  done_blocks_.erase(done_blocks_.begin(), done_blocks_.begin() + static_cast<ptrdiff_t>(told));
  return told;
}

size_t RealMachine::CollectCpuSteps(absl::Span<MachineEvent> events) {
  size_t count = 0;
  while (cpu_steps_.HasDone() && count < events.size()) {
    const CompletionQueue::Piece piece = cpu_steps_.Take(0);
    events[count++] = {.kind = MachineEvent::Kind::kStepDone,
                       .id = piece.id,
                       .status = AcceleratorStatus(),
                       .begin_ns = piece.begin_ns,
                       .end_ns = piece.end_ns};
  }
  return count;
}

// A step that is done had its copies before, whether or not their own notifications have come: they
// are told first.
size_t RealMachine::CollectAcceleratorSteps(absl::Span<MachineEvent> events) {
  size_t count = 0;
  while (accelerator_steps_->HasDone()) {
    const uint64_t copies = step_copies_[(accelerator_steps_->taken() + 1) % max_steps_];
    if (copies_->taken() < copies) count += CollectCopies(copies, events.subspan(count));
    if (count == events.size()) break;
    const bool is_recent = copies > 0 && copies + kMaxCopies > copies_->taken();
    const CompletionQueue::Piece piece =
        accelerator_steps_->Take(is_recent ? copies_->EndNs(copies) : 0);
    events[count++] = {.kind = MachineEvent::Kind::kStepDone,
                       .id = piece.id,
                       .status = AcceleratorStatus(),
                       .begin_ns = piece.begin_ns,
                       .end_ns = piece.end_ns};
  }
  return count;
}

// Those that are done, and those up to number `known` even if it was not noted yet.
size_t RealMachine::CollectCopies(uint64_t known, absl::Span<MachineEvent> events) {
  size_t count = 0;
  while (count < events.size() && (copies_->HasDone() || copies_->taken() < known)) {
    const CompletionQueue::Piece piece = copies_->Take(0);
    CopyProgress& progress = copy_progress_[piece.id];
    absl::Status status = std::move(progress.status);
    progress.status = absl::OkStatus();
    if (status.ok()) status = options_.accelerator->copy->status();
    events[count++] = {.kind = MachineEvent::Kind::kCopyDone,
                       .id = piece.id,
                       .status = std::move(status),
                       .begin_ns = piece.begin_ns,
                       .end_ns = piece.end_ns};
  }
  return count;
}

absl::Status RealMachine::AcceleratorStatus() const {
  if (!options_.accelerator.has_value()) return absl::OkStatus();
  return options_.accelerator->compute->status();
}

}  // namespace weir
