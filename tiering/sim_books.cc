#include "tiering/sim_books.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {

std::string_view InvariantName(Invariant invariant) {
  switch (invariant) {
    case Invariant::kNone:
      return "none";
    case Invariant::kPlan:
      return "plan";
    case Invariant::kPlace:
      return "place";
    case Invariant::kBudget:
      return "budget";
    case Invariant::kPinned:
      return "pinned";
    case Invariant::kArrival:
      return "arrival";
    case Invariant::kOrder:
      return "order";
    case Invariant::kLimits:
      return "limits";
    case Invariant::kProgress:
      break;
  }
  return "progress";
}

uint64_t ReadBytes(const Block& block) {
  uint64_t total = 0;
  for (const Segment& segment : block.segments) total += segment.bytes;
  return total;
}

SimBooks::SimBooks(const Program& program, const Plan& plan)
    : program_(program),
      plan_(plan),
      host_(program, plan.slots, plan.slot_bytes, plan.overhead.total()),
      device_(program, plan.accelerator.has_value() ? plan.accelerator->slots : 0,
              plan.accelerator.has_value() ? plan.accelerator->slot_bytes : 0,
              plan.accelerator.has_value() ? plan.accelerator->overhead.total() : 0),
      was_run_(program.steps.size(), false) {
  WEIR_CHECK(plan.placements.size() == program.blocks.size() && !program.steps.empty());
  for (BlockId block = 0; block < program.blocks.size(); ++block) {
    has_rows_ = has_rows_ || IsRows(block);
  }
  CheckPlanLayout();
  EnterGroup(0);
  CheckBudgets();
}

void SimBooks::SetMoment(int64_t now_ns, uint64_t events) {
  now_ns_ = now_ns;
  events_ = events;
}

void SimBooks::Breach(Invariant invariant, const std::string& what) {
  if (!violation_.ok()) return;
  breached_ = invariant;
  violation_ =
      absl::InternalError(absl::StrCat(AbslView(InvariantName(invariant)), ": ", what, " (at ",
                                       now_ns_, " ns, after ", events_, " events)"));
}

// Resident blocks lie inside their arena and apart from each other, and all of it fits the budgets.
void SimBooks::CheckPlanLayout() {
  if (plan_.dram_bytes() > plan_.dram_budget_bytes) {
    Breach(Invariant::kPlan, "it exceeds its own budget");
  }
  CheckArena(Tier::kHost, plan_.resident_arena_bytes);
  if (!plan_.accelerator.has_value()) return;
  if (plan_.accelerator->hbm_bytes() > plan_.accelerator->hbm_budget_bytes) {
    Breach(Invariant::kPlan, "it exceeds its own budget of the accelerator's memory");
  }
  CheckArena(Tier::kDevice, plan_.accelerator->arena_bytes);
}

void SimBooks::CheckArena(Tier home, uint64_t arena_bytes) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (BlockId block = 0; block < program_.blocks.size(); ++block) {
    if (IsRows(block) || Home(block) != home) continue;
    const uint64_t begin = plan_.placements[block].arena_offset_bytes;
    ranges.push_back({begin, begin + program_.blocks[block].memory_bytes});
  }
  std::sort(ranges.begin(), ranges.end());
  uint64_t end = 0;
  for (const auto& range : ranges) {
    if (range.first < end) Breach(Invariant::kPlan, "two resident blocks overlap in the arena");
    end = range.second;
  }
  if (end > arena_bytes) Breach(Invariant::kPlan, "a resident block reaches beyond the arena");
}

void SimBooks::CheckDestination(const Transfer& transfer) {
  const Block& block = program_.blocks[transfer.block];
  const SimMemory::Place& place = host_.at(transfer.block);
  if (place.presence == Presence::kArriving) {
    Breach(Invariant::kPlace, block.label + " is being read already");
  }
  if (place.pins > 0) {
    Breach(Invariant::kPinned, block.label + " is read again while a step uses it");
  }
  if (place.copying) {
    Breach(Invariant::kPinned, block.label + " is read again while it is copied");
  }
  const bool is_resident = (!IsRows(transfer.block) && Home(transfer.block) == Tier::kHost &&
                            place.presence == Presence::kPresent) ||
                           (Home(transfer.block) == Tier::kDevice &&
                            device_.at(transfer.block).presence != Presence::kAbsent);
  if (is_resident) Breach(Invariant::kPlace, block.label + " is resident and read again");
  if (Streams(transfer.block)) return CheckSlot(host_, transfer.block, transfer.slot);
  if (transfer.slot != Transfer::kOwnMemory) {
    Breach(Invariant::kPlace, block.label + " has memory of its own");
  }
}

// A slot that a block is about to be brought into.
void SimBooks::CheckSlot(const SimMemory& memory, BlockId id, SlotId slot) {
  const Block& block = program_.blocks[id];
  const std::string name = NameOf(memory);
  if (slot >= memory.slots()) {
    Breach(Invariant::kPlace,
           absl::StrCat(block.label, " goes to ", name, "slot ", slot, " of ", memory.slots()));
    return;
  }
  if (block.memory_bytes > memory.slot_bytes()) {
    Breach(Invariant::kPlace, absl::StrCat(block.label, " is larger than a ", name, "slot"));
  }
  if (!memory.occupant(slot).has_value()) return;
  const SimMemory::Place& other = memory.at(*memory.occupant(slot));
  if (other.pins > 0) {
    Breach(Invariant::kPinned,
           absl::StrCat(name, "slot ", slot, " is overwritten while a step uses it"));
  }
  if (other.presence == Presence::kArriving) {
    Breach(Invariant::kPlace, absl::StrCat(name, "slot ", slot, " is being ",
                                           &memory == &host_ ? "read" : "copied", " into already"));
  }
  if (other.copying) {
    Breach(Invariant::kPinned,
           absl::StrCat(name, "slot ", slot, " is overwritten while it is copied"));
  }
}

void SimBooks::CheckBudgets() {
  if (host_.held_bytes() > plan_.dram_budget_bytes) {
    Breach(Invariant::kBudget,
           absl::StrCat(host_.held_bytes(), " bytes held, ", plan_.dram_budget_bytes, " allowed"));
  }
  if (!plan_.accelerator.has_value()) return;
  if (device_.held_bytes() > plan_.accelerator->hbm_budget_bytes) {
    Breach(Invariant::kBudget,
           absl::StrCat(device_.held_bytes(), " bytes of the accelerator's memory held, ",
                        plan_.accelerator->hbm_budget_bytes, " allowed"));
  }
}

void SimBooks::OnStart(const Transfer& transfer) {
  CheckDestination(transfer);
  // Rows are gathered first thing in a pass, so this is where the next one begins.
  if (IsRows(transfer.block) && pass_began_) BeginPass();
  host_.Occupy(transfer.block, transfer.slot);
  CheckBudgets();
  ++transfers_in_flight_;
}

// The books change when an event is told, since only then does the scheduler know.
void SimBooks::OnTransferTold(BlockId block, bool good) {
  --transfers_in_flight_;
  if (!good) {
    pass_failed_ = true;
    host_.Vacate(block);
    return;
  }
  SimMemory::Place& place = host_.at(block);
  place.presence = Presence::kPresent;
  ++place.arrivals;
  host_.content(block, place.slot) = ++arrivals_;
}

void SimBooks::CheckCopyDestination(const Copy& copy) {
  const Block& block = program_.blocks[copy.block];
  if (!plan_.accelerator.has_value() || IsRows(copy.block)) {
    return Breach(Invariant::kPlace, block.label + " is copied, and has no place to go to");
  }
  const SimMemory::Place& place = device_.at(copy.block);
  if (place.pins > 0) {
    Breach(Invariant::kPinned, block.label + " is copied again while a step uses it");
  }
  if (place.presence == Presence::kArriving) {
    Breach(Invariant::kPlace, block.label + " is being copied already");
  }
  if (Home(copy.block) != Tier::kDevice) return CheckSlot(device_, copy.block, copy.device_slot);
  if (place.presence == Presence::kPresent) {
    Breach(Invariant::kPlace, block.label + " is resident and copied again");
  }
  if (copy.device_slot != Copy::kOwnMemory) {
    Breach(Invariant::kPlace, block.label + " has device memory of its own");
  }
}

void SimBooks::CheckCopySource(BlockId block) {
  if (host_.at(block).presence == Presence::kPresent) return;
  Breach(Invariant::kArrival,
         program_.blocks[block].label + " is copied, but is not in host memory");
}

// A copy brings what is at its source when it starts, since that may not change before it is done.
void SimBooks::OnStartCopy(const Copy& copy) {
  CheckCopyDestination(copy);
  CheckCopySource(copy.block);
  SimMemory::Place& source = host_.at(copy.block);
  source.copying = true;
  source.used = true;
  const uint64_t content = host_.content(copy.block, source.slot);
  copies_.push_back({&host_, copy.block, source.slot, content});
  device_.Occupy(copy.block, copy.device_slot);
  device_.content(copy.block, copy.device_slot) = content;
  CheckBudgets();
}

void SimBooks::OnCopyTold(BlockId block) {
  WEIR_CHECK(!copies_.empty() && copies_.front().block == block);
  copies_.pop_front();
  host_.at(block).copying = false;
  SimMemory::Place& place = device_.at(block);
  place.presence = Presence::kPresent;
  ++place.arrivals;
}

void SimBooks::CheckDevice(StepId step, ComputeDevice device) {
  const ComputeDevice planned = StepDevice(program_, plan_, step, /*wide=*/false);
  const bool may_run =
      device == planned || (device == ComputeDevice::kAccelerator && plan_.accelerator.has_value());
  if (may_run) return;
  Breach(Invariant::kPlace, absl::StrCat("step ", step, " runs on the ",
                                         device == ComputeDevice::kCpu ? "CPU" : "accelerator",
                                         ", which the plan does not give it"));
}

// A step that is run begins to use one of its blocks.
void SimBooks::Use(BlockId block, ComputeDevice device, Running* running) {
  const bool on_host = device == ComputeDevice::kCpu || IsRows(block);
  SimMemory& memory = on_host ? host_ : device_;
  SimMemory::Place& place = memory.at(block);
  const bool is_there =
      place.presence == Presence::kPresent || (!on_host && place.presence == Presence::kArriving);
  if (!is_there) {
    Breach(Invariant::kArrival,
           absl::StrCat("step ", running->step, " needs ", program_.blocks[block].label,
                        on_host ? ", which is not in memory"
                                : ", whose copy to the accelerator was not started"));
  }
  ++place.pins;
  place.used = true;
  running->seen.push_back({&memory, block, place.slot, memory.content(block, place.slot)});
}

void SimBooks::OnRun(StepId step, ComputeDevice device) {
  CheckDevice(step, device);
  Running running{.step = step, .seen = {}};
  for (BlockId block : program_.steps[step].needs) Use(block, device, &running);
  CheckOrder(step);
  running_[static_cast<size_t>(device)].push_back(std::move(running));
}

void SimBooks::OnStepTold(StepId step, ComputeDevice device) {
  std::deque<Running>& running = running_[static_cast<size_t>(device)];
  WEIR_CHECK(!running.empty() && running.front().step == step);
  for (const Seen& seen : running.front().seen) {
    --seen.memory->at(seen.block).pins;
    // The next pass works on other tokens.
    if (IsRows(seen.block)) host_.Vacate(seen.block);
  }
  running.pop_front();
}

void SimBooks::CheckContents() {
  for (const std::deque<Running>& steps : running_) {
    for (const Running& running : steps) {
      for (const Seen& seen : running.seen) {
        if (seen.memory->content(seen.block, seen.slot) == seen.content) continue;
        Breach(Invariant::kPinned,
               absl::StrCat("the bytes of ", program_.blocks[seen.block].label,
                            " changed while step ", running.step, " used them"));
      }
    }
  }
  for (const Seen& seen : copies_) {
    if (seen.memory->content(seen.block, seen.slot) == seen.content) continue;
    Breach(Invariant::kPinned, absl::StrCat("the bytes of ", program_.blocks[seen.block].label,
                                            " changed while they were copied"));
  }
}

void SimBooks::EnterGroup(StepId begin) {
  group_begin_ = begin;
  group_end_ = program_.group_end(begin);
  group_left_ = group_end_ - group_begin_;
  for (StepId step = group_begin_; step < group_end_; ++step) was_run_[step] = false;
}

void SimBooks::BeginPass() {
  const bool at_end = group_end_ == program_.head_step || group_end_ == program_.steps.size();
  if (pass_began_ && !pass_failed_ && (group_left_ > 0 || !at_end)) {
    Breach(Invariant::kOrder,
           absl::StrCat("a pass begins, but the one before is not complete (", group_left_,
                        " left of steps ", group_begin_, " to ", group_end_ - 1, ")"));
  }
  EnterGroup(0);
  pass_began_ = false;
  pass_failed_ = false;
}

void SimBooks::MarkRun(StepId step) {
  was_run_[step] = true;
  --group_left_;
  pass_began_ = true;
}

void SimBooks::CheckOrder(StepId step) {
  const bool in_group = step >= group_begin_ && step < group_end_;
  if (in_group && !was_run_[step]) return MarkRun(step);
  const bool opens_next = !in_group && group_left_ == 0 && step >= group_end_ &&
                          group_end_ < program_.steps.size() &&
                          step < program_.group_end(group_end_);
  if (opens_next) {
    EnterGroup(group_end_);
    return MarkRun(step);
  }
  // Without rows a pass begins unseen, with one of its first steps. After an error it cannot be
  // told from the pass before whether they were run already.
  if (!has_rows_ && step < program_.group_end(0)) {
    if (in_group && pass_failed_) return;
    BeginPass();
    return MarkRun(step);
  }
  Breach(Invariant::kOrder,
         absl::StrCat("step ", step, " is run", in_group ? " again" : "", ", with ", group_left_,
                      " left of steps ", group_begin_, " to ", group_end_ - 1));
}

bool SimBooks::CouldRead() const {
  if (!host_.HasRoom()) return false;
  for (BlockId block = 0; block < program_.blocks.size(); ++block) {
    if (!Streams(block)) continue;
    const bool is_settled =
        Home(block) == Tier::kDevice && device_.at(block).presence != Presence::kAbsent;
    const bool is_gone = host_.at(block).presence == Presence::kAbsent || host_.IsUsedUp(block);
    if (is_gone && !is_settled) return true;
  }
  return false;
}

}  // namespace weir
