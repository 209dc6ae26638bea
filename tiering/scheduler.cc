#include "tiering/scheduler.h"

#include <algorithm>

#include "io/base.h"

namespace weir {
namespace {

constexpr size_t kEventsPerWait = 64;

}  // namespace

Scheduler::Scheduler(const Program& program, const Plan& plan, Machine& machine, Trace* trace,
                     PassObserver* observer)
    : program_(program),
      plan_(plan),
      machine_(machine),
      trace_(trace),
      observer_(observer),
      blocks_(program.blocks.size()),
      pool_(plan.slots),
      events_(kEventsPerWait) {
  WEIR_CHECK(plan.placements.size() == program.blocks.size());
  WEIR_CHECK(machine.max_transfers() >= 2 && machine.max_steps() >= 1);
  for (StepId step = 0; step < program.steps.size(); ++step) {
    for (BlockId block : program.steps[step].needs) {
      if (program.blocks[block].kind == BlockKind::kWeights) uses_.push_back({step, block});
    }
  }
}

StepId Scheduler::EndStep(const PassSpec& pass) const {
  return pass.head ? static_cast<StepId>(program_.steps.size()) : program_.head_step;
}

size_t Scheduler::EndUse(const PassSpec& pass) const {
  const StepId end = EndStep(pass);
  const auto it = std::partition_point(uses_.begin(), uses_.end(),
                                       [end](const Use& use) { return use.step < end; });
  return static_cast<size_t>(it - uses_.begin());
}

bool Scheduler::Streams(BlockId block) const {
  return program_.blocks[block].kind == BlockKind::kWeights &&
         plan_.placements[block].home == Tier::kDisk;
}

bool Scheduler::IsResident(BlockId block) const {
  return plan_.placements[block].home == Tier::kHost && blocks_[block].state == State::kReady;
}

absl::Status Scheduler::RunPass(const PassSpec& pass, const PassSpec& next) {
  BeginPass(pass);
  next_ = next;
  const StepId end = EndStep(pass_);
  int64_t mark_ns = machine_.Now();
  while (error_.ok() && done_step_ < end) {
    Fetch();
    Launch();
    HandleEvents();
    const int64_t now_ns = machine_.Now();
    AccountTime(mark_ns, now_ns);
    mark_ns = now_ns;
  }
  if (!error_.ok()) return Abandon();
  // Slots that the last steps freed: the stream goes on while the caller samples.
  Fetch();
  ++stats_.passes;
  return absl::OkStatus();
}

// Takes over what was read ahead, or drops what this pass does not use.
void Scheduler::BeginPass(const PassSpec& pass) {
  const bool first = stats_.passes == 0 && !fetching_next_;
  const bool as_expected = fetching_next_ && next_ == pass;
  pass_ = pass;
  launch_step_ = 0;
  done_step_ = 0;
  error_ = absl::OkStatus();
  if (!first && !as_expected) {
    const size_t end = EndUse(pass);
    for (size_t use = end; use < uses_.size(); ++use) {
      BlockState& state = blocks_[uses_[use].block];
      if (!Streams(uses_[use].block) || state.state == State::kAbsent) continue;
      state.discard = true;
      if (state.state == State::kReady) Free(uses_[use].block);
    }
    fetch_use_ = std::min(fetching_next_ ? fetch_use_ : 0, end);
  }
  fetching_next_ = false;
  for (BlockId block : program_.steps[0].needs) {
    if (program_.blocks[block].kind == BlockKind::kRows) StartTransfer(block, Transfer::kOwnMemory);
  }
}

// Starts reads at the fetch cursor while slots and the machine allow.
void Scheduler::Fetch() {
  while (transfers_in_flight_ < machine_.max_transfers()) {
    const size_t end = EndUse(fetching_next_ ? next_ : pass_);
    if (fetch_use_ >= end) {
      if (fetching_next_) return;  // one pass ahead is the limit
      fetching_next_ = true;
      fetch_use_ = 0;
      continue;
    }
    if (!FetchAt(fetch_use_)) return;
    ++fetch_use_;
  }
}

// False when the cursor must wait: no slot is free, or the block is still in use by this pass.
bool Scheduler::FetchAt(size_t use) {
  const BlockId block = uses_[use].block;
  BlockState& state = blocks_[block];
  if (!Streams(block)) {
    if (state.state == State::kAbsent) StartTransfer(block, Transfer::kOwnMemory);
    return true;
  }
  if (state.state != State::kAbsent) {
    // Read ahead for an earlier use of this pass (kept after an abandoned one), or not yet used up.
    if (!fetching_next_ && !state.discard) return true;
    return false;
  }
  const std::optional<SlotId> slot = pool_.Acquire();
  if (!slot.has_value()) return false;
  StartTransfer(block, *slot);
  return true;
}

void Scheduler::StartTransfer(BlockId block, SlotId slot) {
  BlockState& state = blocks_[block];
  WEIR_CHECK(state.state == State::kAbsent && state.pins == 0);
  state.state = State::kFetching;
  state.discard = false;
  state.slot = slot;
  ++transfers_in_flight_;
  machine_.Start({.block = block, .slot = slot});
}

bool Scheduler::IsReady(StepId step) const {
  for (BlockId block : program_.steps[step].needs) {
    if (blocks_[block].state != State::kReady) return false;
  }
  return true;
}

void Scheduler::Launch() {
  const StepId end = EndStep(pass_);
  while (launch_step_ < end && steps_in_flight_ < machine_.max_steps() && IsReady(launch_step_)) {
    for (BlockId block : program_.steps[launch_step_].needs) ++blocks_[block].pins;
    ++steps_in_flight_;
    machine_.Run(launch_step_);
    ++launch_step_;
  }
}

void Scheduler::HandleEvents() {
  // Nothing in flight and steps left would be a wait for ever: a bug of ours, never of the world.
  WEIR_CHECK(transfers_in_flight_ > 0 || steps_in_flight_ > 0);
  const size_t count = machine_.Wait(absl::MakeSpan(events_));
  for (size_t i = 0; i < count; ++i) {
    switch (events_[i].kind) {
      case MachineEvent::Kind::kTransferDone:
        OnTransferDone(events_[i]);
        break;
      case MachineEvent::Kind::kStepDone:
        OnStepDone(events_[i]);
        break;
      case MachineEvent::Kind::kCancelled:
        if (error_.ok()) error_ = absl::CancelledError("interrupted");
        break;
    }
  }
}

void Scheduler::OnTransferDone(const MachineEvent& event) {
  BlockState& state = blocks_[event.id];
  WEIR_CHECK(state.state == State::kFetching);
  --transfers_in_flight_;
  if (trace_ != nullptr) {
    trace_->Add({Trace::Lane::kDisk, event.id, state.slot, event.begin_ns, event.end_ns});
  }
  if (!event.status.ok()) {
    if (error_.ok()) error_ = event.status;
    Free(event.id);
    return;
  }
  state.state = State::kReady;
  ++stats_.transfers;
  for (const Segment& segment : program_.blocks[event.id].segments) {
    stats_.transfer_bytes += segment.bytes;
  }
  if (state.discard) Free(event.id);
}

void Scheduler::OnStepDone(const MachineEvent& event) {
  WEIR_CHECK(event.id == done_step_ && steps_in_flight_ > 0);
  --steps_in_flight_;
  ++done_step_;
  if (trace_ != nullptr) {
    trace_->Add({Trace::Lane::kCompute, event.id, 0, event.begin_ns, event.end_ns});
  }
  for (BlockId block : program_.steps[event.id].needs) {
    BlockState& state = blocks_[block];
    WEIR_CHECK(state.state == State::kReady && state.pins > 0);
    --state.pins;
    const bool stays = !Streams(block) && program_.blocks[block].kind == BlockKind::kWeights;
    if (state.pins == 0 && !stays) Free(block);
  }
  if (observer_ != nullptr) observer_->OnStepsDone(done_step_, EndStep(pass_));
}

void Scheduler::Free(BlockId block) {
  BlockState& state = blocks_[block];
  WEIR_CHECK(state.pins == 0);
  if (state.discard) ++stats_.discarded;
  if (state.slot != Transfer::kOwnMemory) pool_.Release(state.slot);
  state = BlockState();
}

// The time since the last look belongs to what the machine was doing then.
void Scheduler::AccountTime(int64_t begin_ns, int64_t end_ns) {
  const int64_t passed_ns = end_ns - begin_ns;
  if (steps_in_flight_ > 0 || was_running_) {
    stats_.compute_ns += passed_ns;
  } else if (transfers_in_flight_ > 0) {
    stats_.disk_stall_ns += passed_ns;
  } else {
    stats_.other_ns += passed_ns;
  }
}

// Ends a failed pass: waits for what is in flight, since it writes into memory, and gives back every slot.
absl::Status Scheduler::Abandon() {
  const absl::Status error = error_;
  Drain();
  return error;
}

void Scheduler::Drain() {
  while (transfers_in_flight_ > 0 || steps_in_flight_ > 0) HandleEvents();
  for (BlockId block = 0; block < blocks_.size(); ++block) {
    const bool stays = !Streams(block) && program_.blocks[block].kind == BlockKind::kWeights;
    if (!stays && blocks_[block].state == State::kReady) Free(block);
  }
  WEIR_CHECK(pool_.in_use() == 0);
  fetch_use_ = 0;
  fetching_next_ = false;
}

}  // namespace weir
