#include "tiering/sim_machine.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/split_mix.h"

namespace weir {
namespace {

constexpr uint32_t kMaxHangs = 100;
constexpr uint32_t kMinTransfers = 8;  // of engine/real_machine.cc
constexpr double kNanosPerSecond = 1e9;

SimHardware Completed(SimHardware hardware, const Plan& plan) {
  if (hardware.max_transfers == 0) hardware.max_transfers = std::max(kMinTransfers, plan.slots + 2);
  if (!plan.accelerator.has_value()) hardware.max_copies = 0;
  return hardware;
}

}  // namespace

int64_t StepNs(const SimHardware& hardware, const Program& program, StepId step) {
  if (!hardware.step_ns.empty()) return hardware.step_ns[step];
  const double bytes = static_cast<double>(program.steps[step].payload_bytes);
  return hardware.each_step_ns +
         std::llround(bytes / hardware.compute_bytes_per_s * kNanosPerSecond);
}

int64_t HostStepNs(const SimHardware& hardware, const Program& program, StepId step) {
  if (!hardware.host_step_ns.empty()) return hardware.host_step_ns[step];
  const double bytes = static_cast<double>(program.steps[step].payload_bytes);
  return hardware.each_step_ns +
         std::llround(bytes / hardware.host_compute_bytes_per_s * kNanosPerSecond);
}

SimMachine::SimMachine(const Program& program, const Plan& plan, const SimHardware& hardware,
                       const SimFaults& faults)
    : program_(program),
      hardware_(Completed(hardware, plan)),
      faults_(faults),
      has_accelerator_(plan.accelerator.has_value()),
      books_(program, plan),
      disk_({hardware.disk_bytes_per_s, hardware.read_timeout_ns}, faults) {
  WEIR_CHECK(hardware.step_ns.empty() ? hardware.compute_bytes_per_s > 0
                                      : hardware.step_ns.size() == program.steps.size());
  if (!has_accelerator_) return;
  WEIR_CHECK(hardware.link_bytes_per_s > 0);
  WEIR_CHECK(hardware.host_step_ns.empty() || hardware.host_step_ns.size() == program.steps.size());
  copy_end_ns_.assign(program.blocks.size(), 0);
}

void SimMachine::Record(uint64_t a, uint64_t b) {
  trace_hash_ = MixBits(trace_hash_ ^ MixBits(a + MixBits(b)));
  trace_hash_ = MixBits(trace_hash_ + static_cast<uint64_t>(clock_.NowNs()));
}

void SimMachine::Start(const Transfer& transfer) {
  WEIR_CHECK(transfer.block < program_.blocks.size());
  Record(uint64_t{transfer.block} << 32 | transfer.slot, 1);
  books_.SetMoment(Now(), stats_.events);
  if (books_.transfers_in_flight() >= hardware_.max_transfers) {
    books_.Breach(Invariant::kLimits, "too many transfers in flight");
  }
  books_.OnStart(transfer);
  books_.CheckContents();
  const Block& block = program_.blocks[transfer.block];
  const bool is_rows = block.kind == BlockKind::kRows;
  const int64_t latency_ns = is_rows ? hardware_.rows_latency_ns.value_or(hardware_.disk_latency_ns)
                                     : hardware_.disk_latency_ns;
  disk_.Begin(transfer, {.bytes = ReadBytes(block), .latency_ns = latency_ns, .is_urgent = is_rows},
              Now());
}

void SimMachine::StartCopy(const Copy& copy) {
  WEIR_CHECK(HasAccelerator() && copy.block < program_.blocks.size());
  Record(uint64_t{copy.block} << 32 | copy.device_slot, 6);
  books_.SetMoment(Now(), stats_.events);
  if (books_.copies_in_flight() >= hardware_.max_copies) {
    books_.Breach(Invariant::kLimits, "too many copies in flight");
  }
  books_.OnStartCopy(copy);
  books_.CheckContents();
  const double bytes = static_cast<double>(program_.blocks[copy.block].memory_bytes);
  const int64_t flowing_ns = std::max(Now() + hardware_.link_latency_ns, link_free_ns_);
  const int64_t begin_ns = std::max(Now(), link_free_ns_);
  link_free_ns_ = flowing_ns + std::llround(bytes / hardware_.link_bytes_per_s * kNanosPerSecond);
  copy_end_ns_[copy.block] = link_free_ns_;
  copies_.push_back({copy.block, begin_ns, flowing_ns, link_free_ns_});
}

void SimMachine::EnterGroupOf(StepId step) {
  StepId begin = step;
  while (begin > 0 && program_.steps[begin].joins_previous) --begin;
  if (begin == group_begin_) return;
  group_begin_ = begin;
  before_group_ns_ = std::max(before_group_ns_, group_ns_);
  group_ns_ = 0;
}

// Whatever is before the step's group has been run, so that all these times are known.
int64_t SimMachine::BeginOf(StepId step, ComputeDevice device) const {
  const bool on_cpu = device == ComputeDevice::kCpu;
  int64_t begin_ns = std::max({clock_.NowNs(), compute_free_ns_[static_cast<size_t>(device)],
                               before_group_ns_ + (on_cpu ? CrossingNs() : 0)});
  if (on_cpu) return begin_ns;
  for (BlockId block : program_.steps[step].needs) {
    begin_ns = std::max(begin_ns, copy_end_ns_[block]);
  }
  return begin_ns;
}

void SimMachine::Run(StepId step, ComputeDevice device) {
  const bool on_cpu = device == ComputeDevice::kCpu;
  WEIR_CHECK(step < program_.steps.size() && (on_cpu || HasAccelerator()));
  Record(step, on_cpu ? 2 : 7);
  books_.SetMoment(Now(), stats_.events);
  if (books_.steps_in_flight() >= hardware_.max_steps) {
    books_.Breach(Invariant::kLimits, "too many steps in flight");
  }
  books_.OnRun(step, device);
  EnterGroupOf(step);
  const bool beside = on_cpu && HasAccelerator();
  const int64_t one_ns =
      beside ? HostStepNs(hardware_, program_, step) : StepNs(hardware_, program_, step);
  const int64_t begin_ns = BeginOf(step, device);
  const int64_t end_ns = begin_ns + std::llround(static_cast<double>(one_ns) * step_scale_);
  compute_free_ns_[static_cast<size_t>(device)] = end_ns;
  group_ns_ = std::max(group_ns_, end_ns + (beside ? CrossingNs() : 0));
  steps_[static_cast<size_t>(device)].push_back({step, begin_ns, end_ns});
}

std::optional<int64_t> SimMachine::NextInside() const {
  std::optional<int64_t> next_ns = disk_.NextChange(clock_.NowNs());
  const auto also = [&next_ns](int64_t at_ns) {
    next_ns = std::min(next_ns.value_or(INT64_MAX), at_ns);
  };
  if (!copies_.empty()) also(copies_.front().end_ns);
  for (const std::deque<QueuedStep>& steps : steps_) {
    if (!steps.empty()) also(steps.front().end_ns);
  }
  return next_ns;
}

void SimMachine::Flow(int64_t to_ns) {
  disk_.Flow(clock_.NowNs(), to_ns);
  clock_.AdvanceTo(to_ns);
}

void SimMachine::SettleCopies(int64_t now_ns) {
  while (!copies_.empty() && copies_.front().end_ns <= now_ns) {
    const QueuedCopy& copy = copies_.front();
    stats_.link_busy_ns += copy.end_ns - copy.flowing_ns;
    told_.push_back({.event = {.kind = MachineEvent::Kind::kCopyDone,
                               .id = copy.block,
                               .status = absl::OkStatus(),
                               .begin_ns = copy.begin_ns,
                               .end_ns = copy.end_ns},
                     .tell_ns = now_ns});
    copies_.pop_front();
  }
}

void SimMachine::SettleSteps(ComputeDevice device, int64_t now_ns) {
  std::deque<QueuedStep>& steps = steps_[static_cast<size_t>(device)];
  const bool beside = device == ComputeDevice::kCpu && HasAccelerator();
  while (!steps.empty() && steps.front().end_ns <= now_ns) {
    const QueuedStep& step = steps.front();
    (beside ? stats_.host_compute_busy_ns : stats_.compute_busy_ns) += step.end_ns - step.begin_ns;
    told_.push_back({.event = {.kind = MachineEvent::Kind::kStepDone,
                               .id = step.step,
                               .status = absl::OkStatus(),
                               .begin_ns = step.begin_ns,
                               .end_ns = step.end_ns},
                     .tell_ns = now_ns,
                     .device = device});
    steps.pop_front();
  }
}

// Reads in the order of starting, then copies, then steps: those that waited for a copy are told
// behind it.
void SimMachine::Settle() {
  const int64_t now_ns = clock_.NowNs();
  ended_.clear();
  disk_.Settle(now_ns, &ended_);
  for (const SimDisk::Ended& ended : ended_) QueueTransfer(ended);
  SettleCopies(now_ns);
  SettleSteps(ComputeDevice::kCpu, now_ns);
  SettleSteps(ComputeDevice::kAccelerator, now_ns);
}

absl::Status SimMachine::StatusOf(const SimDisk::Ended& ended) const {
  if (ended.end == SimDisk::End::kGood) return absl::OkStatus();
  const Block& block = program_.blocks[ended.transfer.block];
  const Segment segment = block.segments.empty() ? Segment() : block.segments.front();
  const std::string what =
      absl::StrCat("file ", segment.file, ": reading block \"", block.label, "\" failed at offset ",
                   segment.offset_bytes, ": wanted ", segment.required_bytes, " bytes, got 0: ");
  if (ended.end == SimDisk::End::kEio) {
    return absl::DataLossError(
        absl::StrCat(what, "simulated EIO, also after ", kSimMaxEioRetries, " retries"));
  }
  return absl::DeadlineExceededError(absl::StrCat(
      what, "no answer within ", static_cast<double>(hardware_.read_timeout_ns) / kNanosPerSecond,
      " s from the simulated disk"));
}

void SimMachine::QueueTransfer(const SimDisk::Ended& ended) {
  Told told{.event = {.kind = MachineEvent::Kind::kTransferDone,
                      .id = ended.transfer.block,
                      .status = StatusOf(ended),
                      .begin_ns = ended.begin_ns,
                      .end_ns = ended.end_ns},
            .transfer = ended.number,
            .tell_ns = ended.end_ns};
  const auto draw = [&](SimDraw what) { return DrawShare(faults_, ended.number, 0, what); };
  if (draw(SimDraw::kLate) < faults_.late_share) {
    const double late_ns = draw(SimDraw::kLateTime) * static_cast<double>(faults_.late_ns);
    told.tell_ns += std::llround(late_ns);
    ++stats_.late_reads;
  }
  if (draw(SimDraw::kReorder) < faults_.reorder_share) {
    told.is_held = true;
    ++stats_.late_reads;
  }
  told_.push_back(std::move(told));
}

void SimMachine::AdvanceTo(int64_t to_ns) {
  while (true) {
    const std::optional<int64_t> next_ns = NextInside();
    if (!next_ns.has_value() || *next_ns > to_ns) break;
    Flow(*next_ns);
    Settle();
  }
  if (to_ns > clock_.NowNs()) Flow(to_ns);
}

void SimMachine::Elapse(int64_t duration_ns) { AdvanceTo(clock_.NowNs() + duration_ns); }

bool SimMachine::HasTold() const {
  const int64_t now_ns = clock_.NowNs();
  return std::any_of(told_.begin(), told_.end(), [now_ns](const Told& told) {
    return !told.is_held && told.tell_ns <= now_ns;
  });
}

// Another was told, or none is left that could be.
void SimMachine::ReleaseHeld() {
  for (Told& told : told_) told.is_held = false;
}

// Something is in flight, and every read ends by its deadline at the latest.
void SimMachine::AdvanceToNextTold() {
  while (!HasTold()) {
    int64_t next_ns = NextInside().value_or(INT64_MAX);
    for (const Told& told : told_) {
      if (!told.is_held) next_ns = std::min(next_ns, told.tell_ns);
    }
    if (next_ns == INT64_MAX) {
      WEIR_CHECK(!told_.empty());
      ReleaseHeld();
      continue;
    }
    AdvanceTo(next_ns);
  }
}

void SimMachine::Tell(const Told& told) {
  const MachineEvent& event = told.event;
  const bool is_transfer = event.kind == MachineEvent::Kind::kTransferDone;
  const bool is_step = event.kind == MachineEvent::Kind::kStepDone;
  Record(uint64_t{event.id} << 1 | (event.status.ok() ? 1 : 0), is_transfer ? 3 : is_step ? 4 : 8);
  ++stats_.events;
  books_.SetMoment(clock_.NowNs(), stats_.events);
  books_.CheckContents();
  if (is_transfer) return TellTransfer(event);
  if (is_step) {
    ++stats_.steps;
    if (told.device == ComputeDevice::kCpu && HasAccelerator()) ++stats_.host_steps;
    return books_.OnStepTold(event.id, told.device);
  }
  ++stats_.copies;
  stats_.copy_bytes += program_.blocks[event.id].memory_bytes;
  books_.OnCopyTold(event.id);
}

void SimMachine::TellTransfer(const MachineEvent& event) {
  books_.OnTransferTold(event.id, event.status.ok());
  if (!event.status.ok()) {
    ++stats_.failed_transfers;
    return;
  }
  ++stats_.transfers;
  stats_.transfer_bytes += ReadBytes(program_.blocks[event.id]);
}

size_t SimMachine::TellCancelled(MachineEvent* event) {
  Record(0, 5);
  books_.OnCancelTold();
  *event = {.kind = MachineEvent::Kind::kCancelled, .status = absl::OkStatus()};
  return 1;
}

// Waiting on would never end; a scheduler that is told of a cancellation gives up.
size_t SimMachine::TellHang(const std::string& what, MachineEvent* event) {
  books_.SetMoment(clock_.NowNs(), stats_.events);
  books_.Breach(Invariant::kProgress, what);
  WEIR_CHECK(++hangs_ < kMaxHangs);
  return TellCancelled(event);
}

size_t SimMachine::Wait(absl::Span<MachineEvent> events) {
  WEIR_CHECK(!events.empty());
  if (books_.transfers_in_flight() == 0 && books_.CouldRead()) ++stats_.idle_disk_waits;
  if (books_.transfers_in_flight() == 0 && books_.copies_in_flight() == 0 &&
      books_.steps_in_flight() == 0) {
    return TellHang("Wait with nothing in flight would never return", events.data());
  }
  if (stats_.events >= event_limit_) {
    return TellHang(absl::StrCat("no end after ", stats_.events, " events"), events.data());
  }
  const bool may_cancel = !cancel_told_ && faults_.cancel_at_event.has_value();
  if (may_cancel && stats_.events >= *faults_.cancel_at_event) {
    cancel_told_ = true;
    return TellCancelled(events.data());
  }
  AdvanceToNextTold();
  size_t count = 0;
  bool transfer_told = false;
  for (auto it = told_.begin(); it != told_.end() && count < events.size();) {
    if (may_cancel && stats_.events >= *faults_.cancel_at_event) break;
    if (it->is_held || it->tell_ns > clock_.NowNs()) {
      ++it;
      continue;
    }
    transfer_told = transfer_told || it->event.kind == MachineEvent::Kind::kTransferDone;
    Tell(*it);
    events[count++] = std::move(it->event);
    it = told_.erase(it);
  }
  if (transfer_told) ReleaseHeld();
  return count;
}

SimStats SimMachine::stats() const {
  SimStats stats = stats_;
  stats.unused_transfers = books_.unused_transfers();
  stats.unused_copies = books_.unused_copies();
  stats.peak_held_bytes = books_.peak_held_bytes();
  if (HasAccelerator()) stats.peak_device_bytes = books_.peak_device_bytes();
  stats.disk_busy_ns = disk_.busy_ns();
  stats.faults = disk_.fault_stats();
  return stats;
}

absl::Status SimMachine::CheckIdle() const {
  if (!books_.violation().ok()) return books_.violation();
  const uint32_t transfers = books_.transfers_in_flight();
  const uint32_t copies = books_.copies_in_flight();
  const uint32_t steps = books_.steps_in_flight();
  if (transfers + copies + steps == 0 && told_.empty()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(transfers, " transfers, ", copies, " copies and ", steps,
                                          " steps are in flight"));
}

}  // namespace weir
