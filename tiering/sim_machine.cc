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

SimMachine::SimMachine(const Program& program, const Plan& plan, const SimHardware& hardware,
                       const SimFaults& faults)
    : program_(program),
      hardware_(Completed(hardware, plan)),
      faults_(faults),
      books_(program, plan),
      disk_({hardware.disk_bytes_per_s, hardware.read_timeout_ns}, faults) {
  WEIR_CHECK(hardware.step_ns.empty() ? hardware.compute_bytes_per_s > 0
                                      : hardware.step_ns.size() == program.steps.size());
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

void SimMachine::StartCopy(const Copy&) { WEIR_CHECK(false); }  // there is no accelerator

void SimMachine::Run(StepId step, ComputeDevice device) {
  WEIR_CHECK(device == ComputeDevice::kCpu);
  WEIR_CHECK(step < program_.steps.size());
  Record(step, 2);
  books_.SetMoment(Now(), stats_.events);
  if (books_.steps_in_flight() >= hardware_.max_steps) {
    books_.Breach(Invariant::kLimits, "too many steps in flight");
  }
  books_.OnRun(step);
  const double took_ns = static_cast<double>(StepNs(hardware_, program_, step)) * step_scale_;
  const int64_t begin_ns = std::max(Now(), compute_free_ns_);
  compute_free_ns_ = begin_ns + std::llround(took_ns);
  steps_.push_back({step, begin_ns, compute_free_ns_});
}

std::optional<int64_t> SimMachine::NextInside() const {
  std::optional<int64_t> next_ns = disk_.NextChange(clock_.NowNs());
  if (!steps_.empty()) next_ns = std::min(next_ns.value_or(INT64_MAX), steps_.front().end_ns);
  return next_ns;
}

void SimMachine::Flow(int64_t to_ns) {
  const int64_t now_ns = clock_.NowNs();
  disk_.Flow(now_ns, to_ns);
  if (!steps_.empty() && steps_.front().begin_ns <= now_ns) {
    stats_.compute_busy_ns += to_ns - now_ns;
  }
  clock_.AdvanceTo(to_ns);
}

// Reads in the order of starting, then steps.
void SimMachine::Settle() {
  const int64_t now_ns = clock_.NowNs();
  ended_.clear();
  disk_.Settle(now_ns, &ended_);
  for (const SimDisk::Ended& ended : ended_) QueueTransfer(ended);
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

void SimMachine::Tell(const MachineEvent& event) {
  const bool is_transfer = event.kind == MachineEvent::Kind::kTransferDone;
  Record(uint64_t{event.id} << 1 | (event.status.ok() ? 1 : 0), is_transfer ? 3 : 4);
  ++stats_.events;
  books_.SetMoment(clock_.NowNs(), stats_.events);
  books_.CheckContents();
  if (!is_transfer) {
    ++stats_.steps;
    return books_.OnStepTold(event.id);
  }
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
  if (books_.transfers_in_flight() == 0 && books_.steps_in_flight() == 0) {
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
    Tell(it->event);
    events[count++] = std::move(it->event);
    it = told_.erase(it);
  }
  if (transfer_told) ReleaseHeld();
  return count;
}

SimStats SimMachine::stats() const {
  SimStats stats = stats_;
  stats.unused_transfers = books_.unused_transfers();
  stats.peak_held_bytes = books_.peak_held_bytes();
  stats.disk_busy_ns = disk_.busy_ns();
  stats.faults = disk_.fault_stats();
  return stats;
}

absl::Status SimMachine::CheckIdle() const {
  if (!books_.violation().ok()) return books_.violation();
  const uint32_t transfers = books_.transfers_in_flight();
  const uint32_t steps = books_.steps_in_flight();
  if (transfers == 0 && steps == 0 && told_.empty()) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(transfers, " transfers and ", steps, " steps are in flight"));
}

}  // namespace weir
