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
      places_(program.blocks.size()),
      occupants_(plan.slots),
      slot_contents_(plan.slots, 0),
      own_contents_(program.blocks.size(), 0),
      was_run_(program.steps.size(), false) {
  WEIR_CHECK(plan.placements.size() == program.blocks.size() && !program.steps.empty());
  for (BlockId block = 0; block < places_.size(); ++block) has_rows_ = has_rows_ || IsRows(block);
  CheckPlanLayout();
  EnterGroup(0);
  Hold(plan.overhead.total());
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

// Resident blocks lie inside the arena and apart from each other, and all of it fits the budget.
void SimBooks::CheckPlanLayout() {
  if (plan_.dram_bytes() > plan_.dram_budget_bytes) {
    Breach(Invariant::kPlan, "it exceeds its own budget");
  }
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (BlockId block = 0; block < places_.size(); ++block) {
    if (IsRows(block) || Streams(block)) continue;
    const uint64_t begin = plan_.placements[block].arena_offset_bytes;
    ranges.push_back({begin, begin + program_.blocks[block].memory_bytes});
  }
  std::sort(ranges.begin(), ranges.end());
  uint64_t end = 0;
  for (const auto& range : ranges) {
    if (range.first < end) Breach(Invariant::kPlan, "two resident blocks overlap in the arena");
    end = range.second;
  }
  if (end > plan_.resident_arena_bytes) {
    Breach(Invariant::kPlan, "a resident block reaches beyond the arena");
  }
}

uint64_t* SimBooks::ContentAt(BlockId block, SlotId slot) {
  return slot < plan_.slots ? &slot_contents_[slot] : &own_contents_[block];
}

void SimBooks::CheckDestination(const Transfer& transfer) {
  const Block& block = program_.blocks[transfer.block];
  const Place& place = places_[transfer.block];
  if (place.presence == Presence::kArriving) {
    Breach(Invariant::kPlace, block.label + " is being read already");
  }
  if (place.pins > 0)
    Breach(Invariant::kPinned, block.label + " is read again while a step uses it");
  if (!Streams(transfer.block)) {
    if (transfer.slot != Transfer::kOwnMemory) {
      Breach(Invariant::kPlace, block.label + " has memory of its own");
    }
    if (!IsRows(transfer.block) && place.presence == Presence::kPresent) {
      Breach(Invariant::kPlace, block.label + " is resident and read again");
    }
    return;
  }
  if (transfer.slot >= plan_.slots) {
    Breach(Invariant::kPlace,
           absl::StrCat(block.label, " goes to slot ", transfer.slot, " of ", plan_.slots));
    return;
  }
  if (block.memory_bytes > plan_.slot_bytes) {
    Breach(Invariant::kPlace, block.label + " is larger than a slot");
  }
  const std::optional<BlockId>& occupant = occupants_[transfer.slot];
  if (!occupant.has_value()) return;
  const Place& other = places_[*occupant];
  if (other.presence == Presence::kArriving) {
    Breach(Invariant::kPlace, absl::StrCat("slot ", transfer.slot, " is being read into already"));
  }
  if (other.pins > 0) {
    Breach(Invariant::kPinned,
           absl::StrCat("slot ", transfer.slot, " is overwritten while a step uses it"));
  }
}

void SimBooks::Hold(uint64_t bytes) {
  held_bytes_ += bytes;
  peak_held_bytes_ = std::max(peak_held_bytes_, held_bytes_);
  if (held_bytes_ > plan_.dram_budget_bytes) {
    Breach(Invariant::kBudget,
           absl::StrCat(held_bytes_, " bytes held, ", plan_.dram_budget_bytes, " allowed"));
  }
}

// Bytes count while a copy is in memory or on its way there; rows are part of the overhead.
void SimBooks::Vacate(BlockId block) {
  Place& place = places_[block];
  if (place.presence == Presence::kAbsent) return;
  if (place.presence == Presence::kPresent && !place.used) ++unused_transfers_;
  if (place.slot < plan_.slots) {
    if (occupants_[place.slot] == block) {
      occupants_[place.slot].reset();
      held_bytes_ -= plan_.slot_bytes;
    }
  } else if (!IsRows(block)) {
    held_bytes_ -= program_.blocks[block].memory_bytes;
  }
  place.presence = Presence::kAbsent;
  place.slot = Transfer::kOwnMemory;
  place.used = false;
}

void SimBooks::OnStart(const Transfer& transfer) {
  CheckDestination(transfer);
  const BlockId block = transfer.block;
  // Rows are gathered first thing in a pass, so this is where the next one begins.
  if (IsRows(block) && pass_began_) BeginPass();
  Vacate(block);
  if (transfer.slot < plan_.slots) {
    if (occupants_[transfer.slot].has_value()) Vacate(*occupants_[transfer.slot]);
    occupants_[transfer.slot] = block;
    Hold(plan_.slot_bytes);
  } else if (!IsRows(block)) {
    Hold(program_.blocks[block].memory_bytes);
  }
  places_[block].presence = Presence::kArriving;
  places_[block].slot = transfer.slot;
  *ContentAt(block, transfer.slot) = 0;
  ++transfers_in_flight_;
}

// The books change when an event is told, since only then does the scheduler know.
void SimBooks::OnTransferTold(BlockId block, bool good) {
  --transfers_in_flight_;
  if (!good) {
    pass_failed_ = true;
    Vacate(block);
    return;
  }
  places_[block].presence = Presence::kPresent;
  ++places_[block].reads;
  *ContentAt(block, places_[block].slot) = ++arrivals_;
}

void SimBooks::OnRun(StepId step) {
  Running running{.step = step, .seen = {}};
  for (BlockId block : program_.steps[step].needs) {
    Place& place = places_[block];
    if (place.presence != Presence::kPresent) {
      Breach(Invariant::kArrival,
             absl::StrCat("step ", step, " needs ", program_.blocks[block].label,
                          ", which is not in memory"));
    }
    ++place.pins;
    place.used = true;
    running.seen.push_back({block, place.slot, *ContentAt(block, place.slot)});
  }
  CheckOrder(step);
  running_.push_back(std::move(running));
}

void SimBooks::OnStepTold(StepId step) {
  WEIR_CHECK(!running_.empty() && running_.front().step == step);
  running_.pop_front();
  for (BlockId block : program_.steps[step].needs) {
    --places_[block].pins;
    // The next pass works on other tokens.
    if (IsRows(block)) Vacate(block);
  }
}

void SimBooks::CheckContents() {
  for (const Running& running : running_) {
    for (const Seen& seen : running.seen) {
      if (*ContentAt(seen.block, seen.slot) == seen.content) continue;
      Breach(Invariant::kPinned, absl::StrCat("the bytes of ", program_.blocks[seen.block].label,
                                              " changed while step ", running.step, " used them"));
    }
  }
}

StepId SimBooks::GroupEnd(StepId begin) const {
  StepId end = begin + 1;
  while (end < program_.steps.size() && program_.steps[end].joins_previous) ++end;
  return end;
}

void SimBooks::EnterGroup(StepId begin) {
  group_begin_ = begin;
  group_end_ = GroupEnd(begin);
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
                          group_end_ < program_.steps.size() && step < GroupEnd(group_end_);
  if (opens_next) {
    EnterGroup(group_end_);
    return MarkRun(step);
  }
  // Without rows a pass begins unseen, with one of its first steps. After an error it cannot be
  // told from the pass before whether they were run already.
  if (!has_rows_ && step < GroupEnd(0)) {
    if (in_group && pass_failed_) return;
    BeginPass();
    return MarkRun(step);
  }
  Breach(Invariant::kOrder,
         absl::StrCat("step ", step, " is run", in_group ? " again" : "", ", with ", group_left_,
                      " left of steps ", group_begin_, " to ", group_end_ - 1));
}

bool SimBooks::CouldRead() const {
  const auto used_up = [](const Place& place) {
    return place.presence == Presence::kPresent && place.used && place.pins == 0;
  };
  const bool slot_free = std::any_of(occupants_.begin(), occupants_.end(), [&](const auto& block) {
    return !block.has_value() || used_up(places_[*block]);
  });
  if (!slot_free) return false;
  for (BlockId block = 0; block < places_.size(); ++block) {
    const Place& place = places_[block];
    if (Streams(block) && (place.presence == Presence::kAbsent || used_up(place))) return true;
  }
  return false;
}

}  // namespace weir
