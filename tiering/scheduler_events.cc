// What the scheduler does with the machine's events, and how a pass ends early.
#include <algorithm>

#include "io/base.h"
#include "tiering/scheduler.h"

namespace weir {

bool Scheduler::IsResident(BlockId block) const {
  if (IsRows(block)) return false;
  switch (Home(block)) {
    case Tier::kDisk:
      return false;
    case Tier::kHost:
      return host_.IsReady(block);
    case Tier::kDevice:
      break;
  }
  return device_.IsReady(block);
}

bool Scheduler::IsAnythingInFlight() const {
  return transfers_in_flight_ > 0 || copies_in_flight_ > 0 || !running_[0].empty() ||
         !running_[1].empty();
}

// What a step that runs on `device` reads this block from.
Residency& Scheduler::TierOf(BlockId block, ComputeDevice device) {
  return device == ComputeDevice::kCpu || IsRows(block) ? host_ : device_;
}

bool Scheduler::AreCopiesDone(StepId step) const {
  const std::vector<BlockId>& needs = program_.steps[step].needs;
  return std::all_of(needs.begin(), needs.end(),
                     [this](BlockId block) { return IsRows(block) || device_.IsReady(block); });
}

// All of the step's bytes are on the host at least.
bool Scheduler::WaitsForCopiesOnly(StepId step) const {
  if (StepDevice(program_, plan_, step, pass_.wide) == ComputeDevice::kCpu) return false;
  const std::vector<BlockId>& needs = program_.steps[step].needs;
  return std::all_of(needs.begin(), needs.end(), [this](BlockId block) {
    return host_.IsReady(block) || (!IsRows(block) && device_.Holds(block));
  });
}

// Where the time until the next event belongs: some step computes, or what the next one waits for.
// On the accelerator the first step in flight may still wait for its copies, and so does the CPU's
// then, unless it is before that or in the same group.
int64_t& Scheduler::WaitedNs() {
  const std::vector<StepId>& on_cpu = running_[static_cast<size_t>(ComputeDevice::kCpu)];
  const std::vector<StepId>& on_accelerator =
      running_[static_cast<size_t>(ComputeDevice::kAccelerator)];
  if (on_cpu.empty() && on_accelerator.empty()) {
    return WaitsForCopiesOnly(launch_step_) ? stats_.copy_stall_ns : stats_.disk_stall_ns;
  }
  if (on_accelerator.empty() || AreCopiesDone(on_accelerator.front())) return stats_.compute_ns;
  const bool cpu_computes =
      !on_cpu.empty() && on_cpu.front() < program_.group_end(on_accelerator.front());
  return cpu_computes ? stats_.compute_ns : stats_.copy_stall_ns;
}

void Scheduler::HandleEvents() {
  // Nothing in flight and steps left would be a wait for ever: a bug of ours, never of the world.
  WEIR_CHECK(IsAnythingInFlight());
  const size_t count = machine_.Wait(absl::MakeSpan(events_));
  for (size_t i = 0; i < count; ++i) {
    switch (events_[i].kind) {
      case MachineEvent::Kind::kTransferDone:
        OnTransferDone(events_[i]);
        break;
      case MachineEvent::Kind::kCopyDone:
        OnCopyDone(events_[i]);
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
  const BlockId block = event.id;
  WEIR_CHECK(host_.IsArriving(block));
  if (--transfers_in_flight_ == 0) stats_.disk_busy_ns += event.end_ns - disk_busy_begin_ns_;
  if (IsRows(block)) --rows_in_flight_;
  if (trace_ != nullptr) {
    trace_->Add({Trace::Lane::kDisk, block, host_.slot(block), event.begin_ns, event.end_ns});
  }
  const bool leaving = host_.IsLeaving(block);
  if (!event.status.ok()) {
    if (error_.ok() && !leaving) error_ = event.status;
    host_.Fail(block);
    return;
  }
  host_.Arrive(block);
  ++stats_.transfers;
  for (const Segment& segment : program_.blocks[block].segments) {
    stats_.transfer_bytes += segment.bytes;
  }
  if (leaving) ++stats_.discarded;
}

// The host slot has done its part, unless the copy was in vain: then the CPU may want the bytes.
void Scheduler::OnCopyDone(const MachineEvent& event) {
  const BlockId block = event.id;
  WEIR_CHECK(device_.IsArriving(block) && copies_in_flight_ > 0);
  if (--copies_in_flight_ == 0) stats_.copy_busy_ns += event.end_ns - copy_busy_begin_ns_;
  if (trace_ != nullptr) {
    trace_->Add({Trace::Lane::kCopy, block, device_.slot(block), event.begin_ns, event.end_ns});
  }
  ++stats_.copies;
  stats_.copy_bytes += program_.blocks[block].memory_bytes;
  const bool in_vain = device_.IsLeaving(block);
  if (in_vain) ++stats_.copies_discarded;
  if (!event.status.ok()) {
    if (error_.ok()) error_ = event.status;
    if (!in_vain) device_.Leave(block);
  }
  device_.Arrive(block);
  if (!in_vain && HasHostSlot(block)) host_.Leave(block);
  host_.Unpin(block);
}

void Scheduler::OnStepDone(const MachineEvent& event) {
  const StepId step = event.id;
  const ComputeDevice device = StepDevice(program_, plan_, step, pass_.wide);
  std::vector<StepId>& running = running_[static_cast<size_t>(device)];
  WEIR_CHECK(!running.empty() && running.front() == step);
  running.erase(running.begin());
  ++steps_done_;
  DeviceStats& stats = stats_.devices[static_cast<size_t>(device)];
  ++stats.steps;
  stats.busy_ns += event.end_ns - event.begin_ns;
  if (trace_ != nullptr) {
    const bool on_cpu = device == ComputeDevice::kCpu;
    trace_->Add({on_cpu ? Trace::Lane::kCompute : Trace::Lane::kAccelerator, step, 0,
                 event.begin_ns, event.end_ns});
  }
  if (!event.status.ok() && error_.ok()) error_ = event.status;
  for (BlockId block : program_.steps[step].needs) {
    Residency& tier = TierOf(block, device);
    WEIR_CHECK(!tier.IsArriving(block));
    const bool stays =
        &tier == &host_ ? !HasHostSlot(block) && !IsRows(block) : !HasDeviceSlot(block);
    if (!stays) tier.Leave(block);
    tier.Unpin(block);
  }
  if (observer_ != nullptr) observer_->OnStepsDone(steps_done_, EndStep(pass_));
}

// What was read ahead and is wanted no more; what is still under way is dropped when it arrives.
void Scheduler::DropRead(BlockId block) {
  if (!host_.Holds(block)) return;
  if (host_.IsReady(block)) ++stats_.discarded;
  host_.Leave(block);
}

// The same of a copy in a device slot. With it goes what was read for it, unless the host has it.
void Scheduler::DropCopy(BlockId block) {
  if (!HasDeviceSlot(block) || !device_.Holds(block)) return;
  if (device_.IsReady(block)) {
    ++stats_.copies_discarded;
    if (HasHostSlot(block)) ++stats_.discarded;
  }
  device_.Leave(block);
}

// Ends a failed pass: waits for what is in flight, since it writes into memory, and gives back
// every slot.
absl::Status Scheduler::Abandon() {
  absl::Status error = error_;
  Drain();
  return error;
}

void Scheduler::Drain() {
  while (IsAnythingInFlight()) HandleEvents();
  for (BlockId block = 0; block < program_.blocks.size(); ++block) {
    if (IsRows(block) || HasHostSlot(block)) DropRead(block);
    DropCopy(block);
  }
  WEIR_CHECK(host_.slots_in_use() == 0 && device_.slots_in_use() == 0);
  fetch_use_ = 0;
  copy_use_ = 0;
  fetching_next_ = false;
  copying_next_ = false;
}

}  // namespace weir
