#include "tiering/scheduler.h"

#include <algorithm>

#include "io/base.h"

namespace weir {
namespace {

constexpr size_t kEventsPerWait = 64;
constexpr uint32_t kDrySteps = 2;  // enqueued: one that runs and one to follow

uint32_t DeviceSlots(const Plan& plan) {
  return plan.accelerator.has_value() ? plan.accelerator->slots : 0;
}

}  // namespace

Scheduler::Scheduler(const Program& program, const Plan& plan, Machine& machine, Trace* trace,
                     PassObserver* observer)
    : program_(program),
      plan_(plan),
      machine_(machine),
      trace_(trace),
      observer_(observer),
      host_(program.blocks.size(), plan.slots),
      device_(program.blocks.size(), DeviceSlots(plan)),
      events_(kEventsPerWait),
      launched_(program.steps.size(), false) {
  WEIR_CHECK(CheckPlanFits(program, plan, "plan").ok());
  WEIR_CHECK(!program.steps.empty() && program.head_step <= program.steps.size());
  WEIR_CHECK(!program.steps.front().joins_previous);
  WEIR_CHECK(program.head_step == program.steps.size() ||
             !program.steps[program.head_step].joins_previous);
  ListUses();
  overtook_.assign(uses_.size(), false);
  WEIR_CHECK(machine.max_transfers() > rows_.size() && machine.max_transfers() >= 2);
  WEIR_CHECK(machine.max_steps() >= 1);
  WEIR_CHECK(!plan.accelerator.has_value() || machine.max_copies() >= 1);
  for (std::vector<StepId>& steps : running_) steps.reserve(machine.max_steps());
}

// The cursors rely on every block being used once, and on rows being wanted first thing.
void Scheduler::ListUses() {
  std::vector<bool> seen(program_.blocks.size(), false);
  first_use_.reserve(program_.steps.size() + 1);
  for (StepId step = 0; step < program_.steps.size(); ++step) {
    first_use_.push_back(uses_.size());
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
  first_use_.push_back(uses_.size());
}

StepId Scheduler::EndStep(const PassSpec& pass) const {
  return pass.head ? static_cast<StepId>(program_.steps.size()) : program_.head_step;
}

bool Scheduler::IsRows(BlockId block) const {
  return program_.blocks[block].kind == BlockKind::kRows;
}

bool Scheduler::RunsOnAccelerator(BlockId block, const PassSpec& pass) const {
  return plan_.accelerator.has_value() &&
         (pass.wide || plan_.placements[block].compute_device == ComputeDevice::kAccelerator);
}

absl::Status Scheduler::RunPass(const PassSpec& pass, const std::optional<PassSpec>& next) {
  BeginPass(pass);
  next_ = next;
  const StepId end = EndStep(pass_);
  const int64_t pass_begin_ns = machine_.Now();
  int64_t mark_ns = pass_begin_ns;
  while (error_.ok() && steps_done_ < end) {
    Fetch();
    CopyAhead();
    Launch();
    int64_t& waited_ns = WaitedNs();
    HandleEvents();
    const int64_t now_ns = machine_.Now();
    waited_ns += now_ns - mark_ns;
    mark_ns = now_ns;
  }
  if (!error_.ok()) return Abandon();
  // Slots that the last steps freed: the streams go on while the caller samples.
  Fetch();
  CopyAhead();
  if (trace_ != nullptr) {
    trace_->Add(
        {Trace::Lane::kPass, static_cast<uint32_t>(stats_.passes), 0, pass_begin_ns, mark_ns});
  }
  ++stats_.passes;
  return absl::OkStatus();
}

void Scheduler::BeginPass(const PassSpec& pass) {
  const bool as_expected = fetching_next_ && next_ == pass;
  pass_ = pass;
  launch_step_ = 0;
  launched_.assign(launched_.size(), false);
  steps_done_ = 0;
  error_ = absl::OkStatus();
  if (!as_expected) {
    TakeOver(pass);
  } else if (!copying_next_) {
    RestartCopies(0);
  }
  fetching_next_ = false;
  copying_next_ = false;
  if (EndStep(pass) == 0) return;  // nothing would use the rows
  for (BlockId block : rows_) StartTransfer(block);
}

// Another pass begins than was read ahead for. What is there of it in an unbroken row from its
// first use on is kept. The rest is dropped: what lies further on would hold the slots that are
// wanted first, on the host behind a block that is missing, on the accelerator behind one that is
// not yet copied.
void Scheduler::TakeOver(const PassSpec& pass) {
  const size_t end = EndUse(pass);
  std::optional<size_t> first_copy;
  size_t use = 0;
  for (; use < end; ++use) {
    const BlockId block = uses_[use].block;
    if (!RunsOnAccelerator(block, pass)) {
      if (!host_.Holds(block)) break;
      DropCopy(block);  // made for a wide pass
      continue;
    }
    if (device_.Holds(block)) {
      if (first_copy.has_value() && HasDeviceSlot(block)) break;
      continue;
    }
    if (!host_.Holds(block)) break;
    if (!first_copy.has_value()) first_copy = use;
  }
  for (size_t rest = use; rest < uses_.size(); ++rest) {
    const BlockId block = uses_[rest].block;
    const bool stays = !HasDeviceSlot(block) && device_.Holds(block);
    if (!stays && HasHostSlot(block)) DropRead(block);
    if (!stays) DropCopy(block);
  }
  fetch_use_ = use;
  RestartCopies(first_copy.value_or(use));
}

void Scheduler::RestartCopies(size_t use) {
  copy_use_ = use;
  overtook_.assign(overtook_.size(), false);
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
  if (host_.IsArriving(block) && host_.IsLeaving(block)) {
    host_.Keep(block);  // under way for a pass that did not come, and wanted after all
    return true;
  }
  const bool stays = Home(block) != Tier::kDisk;
  if (stays && (host_.Holds(block) || device_.Holds(block))) return true;
  if (!host_.IsAbsent(block)) return false;
  if (HasHostSlot(block) && host_.free_slots() == 0) return false;
  if (!plan_.shape.reads_ahead && !IsDue(use)) return false;
  StartTransfer(block);
  return true;
}

// Nothing else happens, and the step that comes next wants the block.
bool Scheduler::IsDue(size_t use) const {
  const bool is_quiet = transfers_in_flight_ == rows_in_flight_ && copies_in_flight_ == 0 &&
                        running_[0].empty() && running_[1].empty();
  return is_quiet && !fetching_next_ && uses_[use].step <= launch_step_;
}

void Scheduler::StartTransfer(BlockId block) {
  const SlotId slot = host_.Begin(block, HasHostSlot(block));
  if (transfers_in_flight_++ == 0) disk_busy_begin_ns_ = machine_.Now();
  if (IsRows(block)) ++rows_in_flight_;
  machine_.Start({.block = block, .slot = slot});
}

// Starts copies at the copy cursor while device slots and the machine allow. While the block there
// has not been read yet, others of its group go first.
void Scheduler::CopyAhead() {
  while (copies_in_flight_ < machine_.max_copies()) {
    const PassSpec& pass = copying_next_ ? *next_ : pass_;
    if (copy_use_ >= EndUse(pass)) {
      if (copying_next_ || !next_.has_value()) return;
      copying_next_ = true;
      RestartCopies(0);
    } else if (IsCopied(copy_use_, pass)) {
      ++copy_use_;
    } else if (CanCopy(copy_use_)) {
      StartCopy(copy_use_++);
    } else if (HasArrived(copy_use_) || !Overtake(pass)) {
      return;
    }
  }
}

// Nothing is left to copy for this use.
bool Scheduler::IsCopied(size_t use, const PassSpec& pass) const {
  const BlockId block = uses_[use].block;
  return overtook_[use] || !RunsOnAccelerator(block, pass) ||
         (!HasDeviceSlot(block) && device_.Holds(block));
}

// Its bytes are on the host, and not for an earlier use: the fetch cursor is past this one.
bool Scheduler::HasArrived(size_t use) const {
  const bool is_fetched = copying_next_ == fetching_next_ ? use < fetch_use_ : fetching_next_;
  return is_fetched && host_.IsReady(uses_[use].block);
}

bool Scheduler::CanCopy(size_t use) const {
  const BlockId block = uses_[use].block;
  return HasArrived(use) && device_.IsAbsent(block) &&
         (!HasDeviceSlot(block) || device_.free_slots() > 0);
}

bool Scheduler::Overtake(const PassSpec& pass) {
  const StepId end = std::min(EndStep(pass), program_.group_end(uses_[copy_use_].step));
  for (StepId step = uses_[copy_use_].step + 1; step < end; ++step) {
    if (CopyWhole(step, pass)) return true;
  }
  return false;
}

// All or nothing: a step that overtook with some of its blocks could hold the slots that those
// before it need, and wait for another itself.
bool Scheduler::CopyWhole(StepId step, const PassSpec& pass) {
  uint32_t copies = 0;
  uint32_t slots = 0;
  for (size_t use = first_use_[step]; use < first_use_[step + 1]; ++use) {
    if (IsCopied(use, pass)) continue;
    const BlockId block = uses_[use].block;
    if (!HasArrived(use) || !device_.IsAbsent(block)) return false;
    ++copies;
    if (HasDeviceSlot(block)) ++slots;
  }
  const bool fits =
      slots <= device_.free_slots() && copies <= machine_.max_copies() - copies_in_flight_;
  if (copies == 0 || !fits) return false;
  for (size_t use = first_use_[step]; use < first_use_[step + 1]; ++use) {
    if (IsCopied(use, pass)) continue;
    StartCopy(use);
    overtook_[use] = true;
  }
  return true;
}

void Scheduler::StartCopy(size_t use) {
  const BlockId block = uses_[use].block;
  host_.Pin(block);
  const SlotId slot = device_.Begin(block, HasDeviceSlot(block));
  if (copies_in_flight_++ == 0) copy_busy_begin_ns_ = machine_.Now();
  machine_.StartCopy({.block = block, .device_slot = slot});
}

// On the accelerator a copy that was started is enough: the machine runs the step behind it.
bool Scheduler::IsReady(StepId step, ComputeDevice device) const {
  const std::vector<BlockId>& needs = program_.steps[step].needs;
  return std::all_of(needs.begin(), needs.end(), [this, device](BlockId block) {
    const bool on_host = device == ComputeDevice::kCpu || IsRows(block);
    return on_host ? host_.IsReady(block) : device_.Holds(block);
  });
}

bool Scheduler::HoldsSlot(StepId step, ComputeDevice device) const {
  const std::vector<BlockId>& needs = program_.steps[step].needs;
  return std::any_of(needs.begin(), needs.end(), [this, device](BlockId block) {
    if (IsRows(block)) return false;
    return device == ComputeDevice::kCpu ? HasHostSlot(block) : HasDeviceSlot(block);
  });
}

// Looks from the compute cursor on; what waits there may be overtaken by the rest of its group: by
// steps whose blocks hold slots at once, by others only when their device would run dry, since they
// are what it does while the next blocks are brought.
void Scheduler::Launch() {
  const StepId end = EndStep(pass_);
  const auto in_flight = [this] { return running_[0].size() + running_[1].size(); };
  for (StepId step = launch_step_; step < end && in_flight() < machine_.max_steps(); ++step) {
    if (step > launch_step_ && !program_.steps[step].joins_previous) return;
    const ComputeDevice device = StepDevice(program_, plan_, step, pass_.wide);
    const bool is_dry = running_[static_cast<size_t>(device)].size() < kDrySteps;
    const bool in_turn = step == launch_step_ || HoldsSlot(step, device) || is_dry;
    if (!launched_[step] && in_turn && IsReady(step, device)) LaunchStep(step, device);
    while (launch_step_ < end && launched_[launch_step_]) ++launch_step_;
  }
}

void Scheduler::LaunchStep(StepId step, ComputeDevice device) {
  for (BlockId block : program_.steps[step].needs) TierOf(block, device).Pin(block);
  running_[static_cast<size_t>(device)].push_back(step);
  launched_[step] = true;
  machine_.Run(step, device);
}

}  // namespace weir
