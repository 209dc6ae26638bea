#include "tiering/scheduler.h"

#include <algorithm>

#include "io/base.h"

namespace weir {
namespace {

constexpr size_t kEventsPerWait = 64;
constexpr uint32_t kDrySteps = 2;  // enqueued: one that runs and one to follow

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
      events_(kEventsPerWait),
      launched_(program.steps.size(), false) {
  WEIR_CHECK(CheckPlanFits(program, plan, "plan").ok());
  WEIR_CHECK(!program.steps.empty() && program.head_step <= program.steps.size());
  WEIR_CHECK(!program.steps.front().joins_previous);
  WEIR_CHECK(program.head_step == program.steps.size() ||
             !program.steps[program.head_step].joins_previous);
  ListUses();
  WEIR_CHECK(machine.max_transfers() > rows_.size() && machine.max_transfers() >= 2);
  WEIR_CHECK(machine.max_steps() >= 1);
}

// The cursors rely on every block being used once, and on rows being wanted first thing.
void Scheduler::ListUses() {
  std::vector<bool> seen(program_.blocks.size(), false);
  for (StepId step = 0; step < program_.steps.size(); ++step) {
    for (BlockId block : program_.steps[step].needs) {
      WEIR_CHECK(block < seen.size() && !seen[block]);
      seen[block] = true;
      WEIR_CHECK(!IsRows(block) || step == 0);
      if (IsRows(block)) {
        rows_.push_back(block);
      } else {
        uses_.push_back({step, block});
      }
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

bool Scheduler::IsRows(BlockId block) const {
  return program_.blocks[block].kind == BlockKind::kRows;
}

bool Scheduler::Streams(BlockId block) const {
  return !IsRows(block) && plan_.placements[block].home == Tier::kDisk;
}

bool Scheduler::IsResident(BlockId block) const {
  return !IsRows(block) && !Streams(block) && blocks_[block].state == State::kReady;
}

absl::Status Scheduler::RunPass(const PassSpec& pass, const std::optional<PassSpec>& next) {
  BeginPass(pass);
  next_ = next;
  const StepId end = EndStep(pass_);
  const int64_t pass_begin_ns = machine_.Now();
  int64_t mark_ns = pass_begin_ns;
  while (error_.ok() && steps_done_ < end) {
    Fetch();
    Launch();
    const bool running = steps_in_flight_ > 0;
    HandleEvents();
    const int64_t now_ns = machine_.Now();
    (running ? stats_.compute_ns : stats_.disk_stall_ns) += now_ns - mark_ns;
    mark_ns = now_ns;
  }
  if (!error_.ok()) return Abandon();
  // Slots that the last steps freed: the stream goes on while the caller samples.
  Fetch();
  if (trace_ != nullptr) {
    trace_->Add(
        {Trace::Lane::kPass, static_cast<uint32_t>(stats_.passes), 0, pass_begin_ns, mark_ns});
  }
  ++stats_.passes;
  return absl::OkStatus();
}

// Takes over what was read ahead, or drops what this pass does not use.
void Scheduler::BeginPass(const PassSpec& pass) {
  const bool as_expected = fetching_next_ && next_ == pass;
  pass_ = pass;
  launch_step_ = 0;
  launched_.assign(launched_.size(), false);
  steps_done_ = 0;
  error_ = absl::OkStatus();
  if (!as_expected) {
    const size_t end = EndUse(pass);
    for (size_t use = end; use < uses_.size(); ++use) {
      BlockState& state = blocks_[uses_[use].block];
      if (!Streams(uses_[use].block) || state.state == State::kAbsent) continue;
      state.discard = true;
      if (state.state == State::kReady) Discard(uses_[use].block);
    }
    fetch_use_ = std::min(fetching_next_ ? fetch_use_ : 0, end);
  }
  fetching_next_ = false;
  if (EndStep(pass) == 0) return;  // nothing would use the rows
  for (BlockId block : rows_) StartTransfer(block, Transfer::kOwnMemory);
}

// Starts reads at the fetch cursor while slots and the machine allow. Some transfers are kept back
// for the rows that the next pass gathers first thing.
void Scheduler::Fetch() {
  const size_t max_reads = machine_.max_transfers() - rows_.size();
  while (transfers_in_flight_ - rows_in_flight_ < max_reads) {
    const size_t end = EndUse(fetching_next_ ? *next_ : pass_);
    if (fetch_use_ >= end) {
      if (fetching_next_ || !next_.has_value()) return;  // one pass ahead is the limit
      fetching_next_ = true;
      fetch_use_ = 0;
      continue;
    }
    if (!FetchAt(fetch_use_)) return;
    ++fetch_use_;
  }
}

// False when the cursor must wait: no slot is free, or an earlier use still holds the block.
bool Scheduler::FetchAt(size_t use) {
  const BlockId block = uses_[use].block;
  BlockState& state = blocks_[block];
  if (!Streams(block)) {
    if (state.state == State::kAbsent) StartTransfer(block, Transfer::kOwnMemory);
    return true;
  }
  if (state.discard) {  // under way for a pass that did not come, and wanted after all
    state.discard = false;
    return true;
  }
  if (state.state != State::kAbsent) return false;
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
  if (transfers_in_flight_++ == 0) disk_busy_begin_ns_ = machine_.Now();
  if (IsRows(block)) ++rows_in_flight_;
  machine_.Start({.block = block, .slot = slot});
}

bool Scheduler::IsReady(StepId step) const {
  for (BlockId block : program_.steps[step].needs) {
    if (blocks_[block].state != State::kReady) return false;
  }
  return true;
}

bool Scheduler::HoldsSlot(StepId step) const {
  const std::vector<BlockId>& needs = program_.steps[step].needs;
  return std::any_of(needs.begin(), needs.end(), [this](BlockId block) { return Streams(block); });
}

// Looks from the compute cursor on; what waits there may be overtaken by the rest of its group: by
// steps whose blocks hold slots at once, by others only when compute would run dry, since they are
// what it does while the next blocks are read.
void Scheduler::Launch() {
  const StepId end = EndStep(pass_);
  for (StepId step = launch_step_; step < end && steps_in_flight_ < machine_.max_steps(); ++step) {
    if (step > launch_step_ && !program_.steps[step].joins_previous) return;
    const bool in_turn = step == launch_step_ || HoldsSlot(step) || steps_in_flight_ < kDrySteps;
    if (!launched_[step] && in_turn && IsReady(step)) LaunchStep(step);
    while (launch_step_ < end && launched_[launch_step_]) ++launch_step_;
  }
}

void Scheduler::LaunchStep(StepId step) {
  for (BlockId block : program_.steps[step].needs) ++blocks_[block].pins;
  ++steps_in_flight_;
  launched_[step] = true;
  machine_.Run(step, ComputeDevice::kCpu);
}

void Scheduler::HandleEvents() {
  // Nothing in flight and steps left would be a wait for ever: a bug of ours, never of the world.
  WEIR_CHECK(transfers_in_flight_ > 0 || steps_in_flight_ > 0);
  const size_t count = machine_.Wait(absl::MakeSpan(events_));
  for (size_t i = 0; i < count; ++i) {
    switch (events_[i].kind) {
      case MachineEvent::Kind::kCopyDone:
        WEIR_CHECK(false);  // none was started
        break;
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
  if (--transfers_in_flight_ == 0) stats_.disk_busy_ns += event.end_ns - disk_busy_begin_ns_;
  if (IsRows(event.id)) --rows_in_flight_;
  if (trace_ != nullptr) {
    trace_->Add({Trace::Lane::kDisk, event.id, state.slot, event.begin_ns, event.end_ns});
  }
  if (!event.status.ok()) {
    if (error_.ok() && !state.discard) error_ = event.status;
    Free(event.id);
    return;
  }
  state.state = State::kReady;
  ++stats_.transfers;
  for (const Segment& segment : program_.blocks[event.id].segments) {
    stats_.transfer_bytes += segment.bytes;
  }
  if (state.discard) Discard(event.id);
}

void Scheduler::OnStepDone(const MachineEvent& event) {
  WEIR_CHECK(launched_[event.id] && steps_in_flight_ > 0);
  --steps_in_flight_;
  ++steps_done_;
  if (trace_ != nullptr) {
    trace_->Add({Trace::Lane::kCompute, event.id, 0, event.begin_ns, event.end_ns});
  }
  for (BlockId block : program_.steps[event.id].needs) {
    BlockState& state = blocks_[block];
    WEIR_CHECK(state.state == State::kReady && state.pins > 0);
    --state.pins;
    if (state.pins == 0 && (Streams(block) || IsRows(block))) Free(block);
  }
  if (observer_ != nullptr) observer_->OnStepsDone(steps_done_, EndStep(pass_));
}

void Scheduler::Free(BlockId block) {
  BlockState& state = blocks_[block];
  WEIR_CHECK(state.pins == 0);
  if (state.slot != Transfer::kOwnMemory) pool_.Release(state.slot);
  state = BlockState();
}

void Scheduler::Discard(BlockId block) {
  ++stats_.discarded;
  Free(block);
}

// Ends a failed pass: waits for what is in flight, since it writes into memory, and gives back
// every slot.
absl::Status Scheduler::Abandon() {
  absl::Status error = error_;
  Drain();
  return error;
}

void Scheduler::Drain() {
  while (transfers_in_flight_ > 0 || steps_in_flight_ > 0) HandleEvents();
  for (BlockId block = 0; block < blocks_.size(); ++block) {
    if (blocks_[block].state == State::kReady && !IsResident(block)) Discard(block);
  }
  WEIR_CHECK(pool_.in_use() == 0);
  fetch_use_ = 0;
  fetching_next_ = false;
}

}  // namespace weir
