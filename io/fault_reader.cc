#include "io/fault_reader.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/split_mix.h"

namespace weir {
namespace {

// What a draw is for; part of its key, so that each question has its own stream.
enum Salt : uint64_t {
  kSaltShort = 1,
  kSaltCut,
  kSaltBusy,
  kSaltBusyKind,
  kSaltSpike,
  kSaltEio,
  kSaltEioCount,
  kSaltEioForever,
  kSaltReorder,
  kSaltStuck,
  kSaltSlow,
};

constexpr uint64_t kTellingBytes = 16 * kKiB;  // of reads that say something of a disk's rate

constexpr uint32_t kForever = std::numeric_limits<uint32_t>::max();

}  // namespace

FaultReader::FaultReader(std::unique_ptr<Reader> wrapped, const FaultOptions& options,
                         const Clock* clock, const ReaderOptions& limits)
    : options_(options),
      limits_(limits),
      clock_(clock),
      name_(absl::StrCat("fault(", AbslView(wrapped->name()), ")")),
      slots_(wrapped->capacity()),
      inner_done_(wrapped->capacity()),
      wrapped_(std::move(wrapped)) {
  WEIR_CHECK(wrapped_->in_flight() == 0);
  free_slots_.reserve(slots_.size());
  finished_.reserve(slots_.size());
  for (Slot& slot : slots_) free_slots_.push_back(&slot);
}

FaultReader::~FaultReader() = default;

double FaultReader::Draw(const Slot& slot, uint64_t salt) const {
  uint64_t bits = MixBits(options_.seed);
  bits = MixBits(bits ^ slot.sequence);
  bits = MixBits(bits ^ slot.attempt);
  bits = MixBits(bits ^ salt);
  return UnitInterval(bits);
}

void FaultReader::Submit(ReadOp* op) {
  WEIR_CHECK(in_flight_ < capacity());
  WEIR_CHECK(op->file != nullptr && op->required_bytes <= op->bytes);
  ++in_flight_;
  Slot* const slot = free_slots_.back();
  free_slots_.pop_back();
  slot->op = op;
  slot->progress = ReadProgress::Begin(*op->file, op->offset_bytes, op->bytes);
  slot->sequence = next_sequence_++;
  slot->attempt = 0;
  slot->is_held = false;
  slot->is_stuck =
      slot->sequence == options_.stuck_at || Draw(*slot, kSaltStuck) < options_.stuck_share;
  slot->release_ns = 0;
  slot->eio_left = 0;
  const bool is_gone = slot->sequence >= options_.unplug_at || slot->sequence == options_.eio_at;
  if (is_gone || Draw(*slot, kSaltEioForever) < options_.eio_forever_share) {
    slot->eio_left = kForever;
  } else if (Draw(*slot, kSaltEio) < options_.eio_share) {
    slot->eio_left = 1 + static_cast<uint32_t>(Draw(*slot, kSaltEioCount) * kMaxEioRetries);
  }
  op->status = absl::OkStatus();
  op->got_bytes = 0;
  op->submit_ns = clock_->NowNs();
  op->done_ns = 0;
  op->reader_state = slot;
  if (stuck_ > 0) {
    slot->is_stuck = false;
    ++own_stats_.ops_done;
    GiveUp(slot);
    finished_.push_back(slot);
  } else if (slot->is_stuck) {
    slot->release_ns = std::numeric_limits<int64_t>::max();
    ++fault_stats_.stuck;
    ++own_stats_.ops_done;
    finished_.push_back(slot);
  } else {
    StartAttempts(slot);
  }
}

int64_t FaultReader::DeadlineNs(const Slot& slot) const {
  return slot.op->submit_ns + limits_.CurrentTimeoutNs();
}

// Ends an op that is in no Reader's hands.
void FaultReader::GiveUp(Slot* slot) {
  if (slot->op->status.ok()) ++own_stats_.failures;
  slot->op->got_bytes = 0;
  slot->op->status = FinalStatus(*slot->op, 0, kNoAnswer, limits_.CurrentTimeoutNs());
  slot->is_held = false;
  slot->release_ns = 0;
  if (std::exchange(slot->is_stuck, false)) ++stuck_;
}

int FaultReader::InjectedError(Slot* slot) {
  if (Draw(*slot, kSaltBusy) < options_.again_share) {
    ++fault_stats_.busy_errors;
    return Draw(*slot, kSaltBusyKind) < 0.5 ? EAGAIN : EINTR;
  }
  if (slot->eio_left == 0) return 0;
  if (slot->eio_left != kForever) --slot->eio_left;
  ++fault_stats_.eio_errors;
  return EIO;
}

void FaultReader::StartAttempts(Slot* slot) {
  while (const int error = InjectedError(slot)) {
    ++slot->attempt;
    if (Advance(&slot->progress, -error, &own_stats_) == ReadStep::kFailed) {
      const uint64_t got_bytes = slot->progress.got_bytes;
      return Finish(slot, FinalStatus(*slot->op, got_bytes, error, 0), got_bytes);
    }
  }
  SubmitAttempt(slot);
}

void FaultReader::SubmitAttempt(Slot* slot) {
  const ReadProgress& progress = slot->progress;
  const ReadOp& op = *slot->op;
  uint64_t bytes = progress.bytes - progress.resume_bytes;
  // The cut is aligned for direct files, and beyond what has arrived, so that reads move on.
  const uint64_t least_bytes =
      AlignUp(progress.got_bytes + 1, progress.alignment_bytes) - progress.resume_bytes;
  if (bytes > least_bytes && Draw(*slot, kSaltShort) < options_.short_share) {
    const double room = static_cast<double>(bytes - least_bytes);
    const uint64_t cut_bytes =
        AlignDown(static_cast<uint64_t>(Draw(*slot, kSaltCut) * room), progress.alignment_bytes);
    bytes = least_bytes + cut_bytes;
    ++fault_stats_.short_attempts;
  }
  ++slot->attempt;
  ReadOp& inner = slot->inner;
  inner.file = op.file;
  inner.offset_bytes = op.offset_bytes + progress.resume_bytes;
  inner.buffer = op.buffer + progress.resume_bytes;
  inner.bytes = bytes;
  const uint64_t required_bytes = std::max(op.required_bytes, progress.resume_bytes);
  inner.required_bytes = std::min(required_bytes - progress.resume_bytes, bytes);
  inner.tag = static_cast<uint64_t>(slot - slots_.data());
  wrapped_->Submit(&inner);
}

void FaultReader::OnAttemptDone(Slot* slot) {
  const ReadOp& inner = slot->inner;
  if (!inner.status.ok()) {
    const uint64_t got_bytes =
        std::max(slot->progress.got_bytes, slot->progress.resume_bytes + inner.got_bytes);
    return Finish(slot, inner.status, got_bytes);
  }
  // The wrapped Reader counted these bytes and its own short reads already.
  ReaderStats counted;
  const ReadStep step = Advance(&slot->progress, static_cast<int64_t>(inner.got_bytes), &counted);
  own_stats_.short_reads += counted.short_reads;
  if (step == ReadStep::kAgain) return StartAttempts(slot);
  Finish(slot, FinalStatus(*slot->op, slot->progress.got_bytes, 0, 0), slot->progress.got_bytes);
}

void FaultReader::Finish(Slot* slot, absl::Status status, uint64_t got_bytes) {
  slot->op->status = std::move(status);
  slot->op->got_bytes = got_bytes;
  Delay(slot);
  ++own_stats_.ops_done;
  if (!slot->op->status.ok()) ++own_stats_.failures;
  finished_.push_back(slot);
}

// The wrapped disk spends the time between two ops that end on the second of them (or, where it had
// nothing to do before, the time since that one's Submit). A disk slower by a factor spends so many
// times what it spent on a byte until then, on one op after the other; a disk that was slow from
// the beginning, what it spends now.
int64_t FaultReader::SlowedUntilNs(const ReadOp& op, int64_t now_ns) {
  const int64_t begin_ns = std::max(last_finish_ns_, op.submit_ns);
  auto took_ns = static_cast<double>(now_ns - begin_ns);
  if (healthy_bytes_ > 0) {
    const double share = static_cast<double>(op.bytes) / static_cast<double>(healthy_bytes_);
    took_ns = static_cast<double>(healthy_ns_) * share;
  }
  slow_until_ns_ = std::max(slow_until_ns_, begin_ns) +
                   static_cast<int64_t>(took_ns * options_.slow_from_factor);
  return slow_until_ns_;
}

void FaultReader::Delay(Slot* slot) {
  const int64_t now_ns = clock_->NowNs();
  if (slot->sequence >= options_.slow_from) {
    slot->release_ns = SlowedUntilNs(*slot->op, now_ns);
    ++fault_stats_.slowed;
  } else if (slot->op->bytes >= kTellingBytes) {
    healthy_ns_ += now_ns - std::max(last_finish_ns_, slot->op->submit_ns);
    healthy_bytes_ += slot->op->bytes;
  }
  last_finish_ns_ = now_ns;
  slot->attempt = 0;  // these draws are for the op, not for an attempt
  if (Draw(*slot, kSaltSlow) < options_.slow_share) {
    const auto took_ns = static_cast<double>(now_ns - slot->op->submit_ns);
    const auto more_ns = static_cast<int64_t>(took_ns * (options_.slow_factor - 1));
    slot->release_ns = std::max(slot->release_ns, now_ns + more_ns);
    ++fault_stats_.slowed;
  }
  if (Draw(*slot, kSaltSpike) < options_.spike_share) {
    slot->release_ns = std::max(slot->release_ns, now_ns) + options_.spike_ns;
    ++fault_stats_.spikes;
  }
  if (Draw(*slot, kSaltReorder) < options_.reorder_share) {
    slot->is_held = true;
    ++fault_stats_.reorders;
  }
}

void FaultReader::Harvest(int64_t timeout_ns) {
  const size_t count = wrapped_->Wait(absl::MakeSpan(inner_done_), timeout_ns);
  for (size_t i = 0; i < count; ++i) OnAttemptDone(&slots_[inner_done_[i]->tag]);
}

size_t FaultReader::ReleaseReady(absl::Span<ReadOp*> done, int64_t now_ns) {
  size_t count = 0;
  size_t kept = 0;
  for (Slot* const slot : finished_) {
    if (slot->release_ns > now_ns && now_ns >= DeadlineNs(*slot)) GiveUp(slot);
    if (slot->is_held || slot->release_ns > now_ns || count == done.size()) {
      finished_[kept++] = slot;
      continue;
    }
    slot->op->done_ns = now_ns;
    slot->op->reader_state = nullptr;
    done[count++] = std::exchange(slot->op, nullptr);
    free_slots_.push_back(slot);
  }
  finished_.resize(kept);
  in_flight_ -= static_cast<uint32_t>(count);
  if (count > 0) {
    for (Slot* const slot : finished_) slot->is_held = false;  // overtaken
  }
  return count;
}

size_t FaultReader::Release(absl::Span<ReadOp*> done) {
  const int64_t now_ns = clock_->NowNs();
  const size_t count = ReleaseReady(done, now_ns);
  if (count > 0 || finished_.empty() || finished_.size() < in_flight_) return count;
  const bool all_held = std::all_of(finished_.begin(), finished_.end(), [](const Slot* slot) {
    return slot->is_held || slot->is_stuck;
  });
  if (!all_held) return 0;
  // Nothing is left that could overtake them but each other: the last becomes the first.
  std::reverse(finished_.begin(), finished_.end());
  for (Slot* const slot : finished_) slot->is_held = false;
  return ReleaseReady(done, now_ns);
}

int64_t FaultReader::EarliestReleaseNs() const {
  int64_t earliest_ns = std::numeric_limits<int64_t>::max();
  for (const Slot* const slot : finished_) {
    if (slot->is_held) continue;
    earliest_ns = std::min({earliest_ns, slot->release_ns, DeadlineNs(*slot)});
  }
  return earliest_ns;
}

size_t FaultReader::Wait(absl::Span<ReadOp*> done, int64_t timeout_ns) {
  WEIR_CHECK(!done.empty());
  const int64_t start_ns = clock_->NowNs();
  while (true) {
    Harvest(0);
    const size_t count = Release(done);
    // After Harvest: a wake that it swallowed was noted here before the wrapped Reader saw it.
    const bool was_woken = is_woken_.exchange(false);
    if (count > 0 || was_woken) return count;
    const int64_t now_ns = clock_->NowNs();
    int64_t wait_ns = limits_.LongestSleepNs();
    if (timeout_ns >= 0) {
      wait_ns = std::min(wait_ns, timeout_ns - (now_ns - start_ns));
      if (wait_ns <= 0) return 0;
    }
    const int64_t earliest_ns = EarliestReleaseNs();
    if (earliest_ns != std::numeric_limits<int64_t>::max()) {
      const int64_t delay_ns = std::max<int64_t>(earliest_ns - now_ns, 0);
      wait_ns = std::min(wait_ns, delay_ns);
    }
    Harvest(wait_ns);
  }
}

void FaultReader::Wake() {
  is_woken_.store(true);
  wrapped_->Wake();
}

ReaderStats FaultReader::stats() const {
  ReaderStats stats = wrapped_->stats();
  stats.ops_done = own_stats_.ops_done;
  stats.failures = own_stats_.failures;
  stats.short_reads += own_stats_.short_reads;
  stats.retries += own_stats_.retries;
  return stats;
}

}  // namespace weir
