#include "tiering/sim_machine.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr uint32_t kMaxHangs = 100;
constexpr double kByteDust = 1e-3;  // what rounding may leave of a read
constexpr double kNanosPerSecond = 1e9;

uint64_t ReadBytes(const Block& block) {
  uint64_t total = 0;
  for (const Segment& segment : block.segments) total += segment.bytes;
  return total;
}

absl::Status SimulatedReadError(const Block& block) {
  const Segment segment = block.segments.empty() ? Segment() : block.segments.front();
  return absl::DataLossError(absl::StrCat("file ", segment.file, ": reading block \"", block.label,
                                          "\" failed at offset ", segment.offset_bytes, ": wanted ",
                                          segment.required_bytes, " bytes, got 0 (simulated EIO)"));
}

}  // namespace

SimMachine::SimMachine(const Program& program, const Plan& plan, const SimHardware& hardware,
                       const SimFaults& faults)
    : program_(program),
      plan_(plan),
      hardware_(hardware),
      faults_(faults),
      random_(faults.seed),
      places_(program.blocks.size()),
      occupants_(plan.slots) {
  WEIR_CHECK(hardware.disk_bytes_per_s > 0 && hardware.compute_bytes_per_s > 0);
  WEIR_CHECK(plan.placements.size() == program.blocks.size());
  CheckPlanLayout();
}

void SimMachine::Violate(const std::string& what) {
  if (!violation_.ok()) return;
  violation_ = absl::InternalError(
      absl::StrCat("at ", clock_.NowNs(), " ns, after ", stats_.events, " events: ", what));
}

// Resident blocks lie inside the arena and apart from each other, and all of it fits the budget.
void SimMachine::CheckPlanLayout() {
  if (plan_.dram_bytes() > plan_.dram_budget_bytes) Violate("the plan exceeds its own budget");
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (BlockId block = 0; block < places_.size(); ++block) {
    if (program_.blocks[block].kind != BlockKind::kWeights || Streams(block)) continue;
    const uint64_t begin = plan_.placements[block].arena_offset_bytes;
    ranges.push_back({begin, begin + program_.blocks[block].memory_bytes});
  }
  std::sort(ranges.begin(), ranges.end());
  uint64_t end = 0;
  for (const auto& range : ranges) {
    if (range.first < end) Violate("two resident blocks overlap in the arena");
    end = range.second;
  }
  if (end > plan_.resident_arena_bytes) Violate("a resident block reaches beyond the arena");
}

bool SimMachine::Streams(BlockId block) const {
  return program_.blocks[block].kind == BlockKind::kWeights &&
         plan_.placements[block].home == Tier::kDisk;
}

double SimMachine::Random() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

void SimMachine::CheckDestination(const Transfer& transfer) {
  const Block& block = program_.blocks[transfer.block];
  const Place& place = places_[transfer.block];
  if (place.presence == Presence::kArriving) Violate(block.label + " is being read already");
  if (place.pins > 0) Violate(block.label + " is read again while a step uses it");
  if (Streams(transfer.block)) {
    if (transfer.slot >= plan_.slots) {
      Violate(absl::StrCat(block.label, " goes to slot ", transfer.slot, " of ", plan_.slots));
      return;
    }
    if (block.memory_bytes > plan_.slot_bytes) Violate(block.label + " is larger than a slot");
    const std::optional<BlockId>& occupant = occupants_[transfer.slot];
    if (!occupant.has_value()) return;
    const Place& other = places_[*occupant];
    if (other.presence == Presence::kArriving) {
      Violate(absl::StrCat("slot ", transfer.slot, " is being read into already"));
    }
    if (other.pins > 0) {
      Violate(absl::StrCat("slot ", transfer.slot, " is overwritten while a step uses it"));
    }
    return;
  }
  if (transfer.slot != Transfer::kOwnMemory) Violate(block.label + " has memory of its own");
  if (block.kind == BlockKind::kWeights && place.presence == Presence::kPresent) {
    Violate(block.label + " is resident and read again");
  }
}

void SimMachine::Vacate(BlockId block) {
  Place& place = places_[block];
  if (place.presence == Presence::kPresent && !place.used) ++stats_.unused_transfers;
  if (place.slot < plan_.slots && occupants_[place.slot] == block) occupants_[place.slot].reset();
  place.presence = Presence::kAbsent;
  place.slot = Transfer::kOwnMemory;
  place.used = false;
}

void SimMachine::Occupy(const Transfer& transfer) {
  Vacate(transfer.block);
  if (transfer.slot < plan_.slots) {
    if (occupants_[transfer.slot].has_value()) Vacate(*occupants_[transfer.slot]);
    occupants_[transfer.slot] = transfer.block;
  }
  places_[transfer.block].presence = Presence::kArriving;
  places_[transfer.block].slot = transfer.slot;
  CountHeldBytes();
}

void SimMachine::CountHeldBytes() {
  uint64_t held = plan_.overhead.total();
  for (const auto& occupant : occupants_) held += occupant.has_value() ? plan_.slot_bytes : 0;
  for (BlockId block = 0; block < places_.size(); ++block) {
    const bool resident = program_.blocks[block].kind == BlockKind::kWeights && !Streams(block);
    if (resident && places_[block].presence != Presence::kAbsent) {
      held += program_.blocks[block].memory_bytes;
    }
  }
  stats_.peak_held_bytes = std::max(stats_.peak_held_bytes, held);
  if (held > plan_.dram_budget_bytes) {
    Violate(absl::StrCat(held, " bytes held, ", plan_.dram_budget_bytes, " allowed"));
  }
}

void SimMachine::Start(const Transfer& transfer) {
  WEIR_CHECK(transfer.block < places_.size());
  CheckDestination(transfer);
  if (transfers_in_flight_ >= hardware_.max_transfers) Violate("too many transfers in flight");
  Occupy(transfer);
  ++transfers_in_flight_;
  const bool spikes = Random() < faults_.spike_share;
  const bool fails = Random() < faults_.error_share ||
                     faults_.error_at_transfer == std::optional<uint64_t>(started_transfers_);
  ++started_transfers_;
  const int64_t latency_ns = hardware_.disk_latency_ns + (spikes ? faults_.spike_ns : 0);
  reads_.push_back({.transfer = transfer,
                    .left_bytes = static_cast<double>(ReadBytes(program_.blocks[transfer.block])),
                    .begin_ns = Now(),
                    .flowing_ns = Now() + latency_ns,
                    .fails = fails});
}

void SimMachine::Run(StepId step) {
  WEIR_CHECK(step < program_.steps.size());
  if (steps_in_flight_ >= hardware_.max_steps) Violate("too many steps in flight");
  const bool begins_pass = step == 0 && steps_in_flight_ == 0;
  if (step != next_step_ && !begins_pass) {
    Violate(absl::StrCat("step ", step, " is run, not ", next_step_));
  }
  next_step_ = step + 1;
  for (BlockId block : program_.steps[step].needs) {
    Place& place = places_[block];
    if (place.presence != Presence::kPresent) {
      Violate(absl::StrCat("step ", step, " needs ", program_.blocks[block].label,
                           ", which is not in memory"));
    }
    ++place.pins;
    place.used = true;
  }
  ++steps_in_flight_;
  const double bytes = static_cast<double>(program_.steps[step].payload_bytes);
  const double busy_ns = bytes / hardware_.compute_bytes_per_s * kNanosPerSecond;
  const int64_t begin_ns = std::max(Now(), compute_free_ns_);
  compute_free_ns_ = begin_ns + hardware_.step_ns + std::llround(busy_ns);
  steps_.push_back({step, begin_ns, compute_free_ns_});
}

std::optional<int64_t> SimMachine::NextInside() const {
  std::optional<int64_t> next;
  const auto consider = [&next](int64_t when_ns) {
    next = std::min(next.value_or(when_ns), when_ns);
  };
  if (!steps_.empty()) consider(steps_.front().end_ns);
  const int64_t now_ns = clock_.NowNs();
  const auto flowing = std::count_if(reads_.begin(), reads_.end(), [now_ns](const Read& read) {
    return read.flowing_ns <= now_ns;
  });
  const double ns_per_byte =
      static_cast<double>(flowing) / hardware_.disk_bytes_per_s * kNanosPerSecond;
  for (const Read& read : reads_) {
    if (read.flowing_ns > now_ns) {
      consider(read.flowing_ns);
    } else {
      const double left_ns = std::ceil(read.left_bytes * ns_per_byte);
      consider(now_ns + std::max<int64_t>(1, static_cast<int64_t>(left_ns)));
    }
  }
  return next;
}

void SimMachine::Flow(int64_t to_ns) {
  const int64_t now_ns = clock_.NowNs();
  const int64_t passed_ns = to_ns - now_ns;
  uint32_t flowing = 0;
  for (const Read& read : reads_) flowing += read.flowing_ns <= now_ns ? 1 : 0;
  if (flowing > 0) {
    stats_.disk_busy_ns += passed_ns;
    const double each_bytes =
        static_cast<double>(passed_ns) / kNanosPerSecond * hardware_.disk_bytes_per_s / flowing;
    for (Read& read : reads_) {
      if (read.flowing_ns <= now_ns) read.left_bytes -= each_bytes;
    }
  }
  if (!steps_.empty() && steps_.front().begin_ns <= now_ns) stats_.compute_busy_ns += passed_ns;
  clock_.AdvanceTo(to_ns);
}

// Ends what has ended by now, in the order of starting.
void SimMachine::Settle() {
  const int64_t now_ns = clock_.NowNs();
  const auto ended = [now_ns](const Read& read) {
    return read.flowing_ns <= now_ns && read.left_bytes <= kByteDust;
  };
  for (const Read& read : reads_) {
    if (ended(read)) EndRead(read);
  }
  reads_.erase(std::remove_if(reads_.begin(), reads_.end(), ended), reads_.end());
  while (!steps_.empty() && steps_.front().end_ns <= now_ns) {
    const QueuedStep& step = steps_.front();
    told_.push_back({.event = {.kind = MachineEvent::Kind::kStepDone,
                               .id = step.step,
                               .status = absl::OkStatus(),
                               .begin_ns = step.begin_ns,
                               .end_ns = step.end_ns},
                     .tell_ns = now_ns});
    steps_.pop_front();
  }
}

void SimMachine::EndRead(const Read& read) {
  const int64_t now_ns = clock_.NowNs();
  const bool late = Random() < faults_.late_share;
  const int64_t late_ns = late ? std::llround(Random() * static_cast<double>(faults_.late_ns)) : 0;
  told_.push_back(
      {.event = {.kind = MachineEvent::Kind::kTransferDone,
                 .id = read.transfer.block,
                 .status = read.fails ? SimulatedReadError(program_.blocks[read.transfer.block])
                                      : absl::OkStatus(),
                 .begin_ns = read.begin_ns,
                 .end_ns = now_ns},
       .tell_ns = now_ns + late_ns});
}

void SimMachine::AdvanceTo(int64_t to_ns) {
  while (true) {
    const std::optional<int64_t> next_ns = NextInside();
    if (!next_ns.has_value() || *next_ns > to_ns) break;
    Flow(*next_ns);
    Settle();
  }
  Flow(to_ns);
}

void SimMachine::Elapse(int64_t duration_ns) { AdvanceTo(clock_.NowNs() + duration_ns); }

bool SimMachine::HasTold(int64_t now_ns) const {
  return std::any_of(told_.begin(), told_.end(),
                     [now_ns](const Told& told) { return told.tell_ns <= now_ns; });
}

bool SimMachine::SlotIsFree(SlotId slot) const {
  if (!occupants_[slot].has_value()) return true;
  const Place& place = places_[*occupants_[slot]];
  return place.presence == Presence::kPresent && place.used && place.pins == 0;
}

bool SimMachine::DiskIdlesNeedlessly() const {
  if (transfers_in_flight_ > 0) return false;
  bool slot_free = false;
  for (SlotId slot = 0; slot < plan_.slots; ++slot) slot_free = slot_free || SlotIsFree(slot);
  if (!slot_free) return false;
  for (BlockId block = 0; block < places_.size(); ++block) {
    const Place& place = places_[block];
    const bool consumed = place.used && place.pins == 0;
    if (Streams(block) && (place.presence == Presence::kAbsent || consumed)) return true;
  }
  return false;
}

// The books change when an event is told, since only then does the scheduler know.
void SimMachine::Tell(const MachineEvent& event) {
  ++stats_.events;
  if (event.kind == MachineEvent::Kind::kTransferDone) {
    --transfers_in_flight_;
    if (!event.status.ok()) {
      ++stats_.failed_transfers;
      Vacate(event.id);
      return;
    }
    ++stats_.transfers;
    stats_.transfer_bytes += ReadBytes(program_.blocks[event.id]);
    places_[event.id].presence = Presence::kPresent;
    ++places_[event.id].reads;
    return;
  }
  --steps_in_flight_;
  ++stats_.steps;
  for (BlockId block : program_.steps[event.id].needs) {
    --places_[block].pins;
    // The next pass works on other tokens.
    if (program_.blocks[block].kind == BlockKind::kRows) Vacate(block);
  }
}

size_t SimMachine::Wait(absl::Span<MachineEvent> events) {
  WEIR_CHECK(!events.empty());
  if (DiskIdlesNeedlessly()) ++stats_.idle_disk_waits;
  const bool cancels = !cancel_told_ && faults_.cancel_at_event.has_value() &&
                       stats_.events >= *faults_.cancel_at_event;
  if (transfers_in_flight_ == 0 && steps_in_flight_ == 0) {
    Violate("Wait with nothing in flight would never return");
    WEIR_CHECK(++hangs_ < kMaxHangs);
    events[0] = {.kind = MachineEvent::Kind::kCancelled, .status = absl::OkStatus()};
    return 1;
  }
  if (cancels) {
    cancel_told_ = true;
    events[0] = {.kind = MachineEvent::Kind::kCancelled, .status = absl::OkStatus()};
    return 1;
  }
  while (!HasTold(clock_.NowNs())) {
    int64_t next_ns = INT64_MAX;
    if (const std::optional<int64_t> inside_ns = NextInside()) next_ns = *inside_ns;
    for (const Told& told : told_) next_ns = std::min(next_ns, told.tell_ns);
    WEIR_CHECK(next_ns != INT64_MAX);
    AdvanceTo(next_ns);
  }
  size_t count = 0;
  for (auto it = told_.begin(); it != told_.end() && count < events.size();) {
    const bool before_cancel = cancel_told_ || !faults_.cancel_at_event.has_value() ||
                               stats_.events < *faults_.cancel_at_event;
    if (!before_cancel) break;
    if (it->tell_ns > clock_.NowNs()) {
      ++it;
      continue;
    }
    Tell(it->event);
    events[count++] = it->event;
    it = told_.erase(it);
  }
  return count;
}

absl::Status SimMachine::CheckIdle() const {
  if (!violation_.ok()) return violation_;
  if (transfers_in_flight_ == 0 && steps_in_flight_ == 0 && told_.empty()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(transfers_in_flight_, " transfers and ", steps_in_flight_,
                                          " steps are in flight"));
}

}  // namespace weir
