// FaultReader: a Reader that misbehaves on purpose, from a seed, in every way that the contract
// says a Reader must survive. It wraps another Reader and keeps the contract itself, so whatever
// runs on it must give the same results as on the wrapped one.
//
// Where faults sit: each op is read in attempts, judged by the same io/retry_policy.h as real
// reads. An attempt may be replaced by an error number, or ask the wrapped Reader for less than
// what is left; the policy then retries or resumes. A finished op may be held back for a time
// (spikes, a slow disk) or until another op has overtaken it (reordering). A stuck op is never
// started; like one that is held back for longer than the timeout it ends with DeadlineExceeded,
// and from then on it is counted by stuck() for good, although nothing writes to its memory.
// Nothing sleeps: a delayed op becomes visible when the clock says so.
//
// Every draw depends on the seed, the number of the op in order of Submit and the attempt alone, so
// equal seeds and equal submissions meet equal faults whatever the disk's timing.
#ifndef WEIR_IO_FAULT_READER_H_
#define WEIR_IO_FAULT_READER_H_

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/clock.h"
#include "io/fault_options.h"
#include "io/reader.h"
#include "io/retry_policy.h"

namespace weir {

// What was injected so far.
struct FaultStats {
  uint64_t short_attempts = 0;
  uint64_t busy_errors = 0;
  uint64_t eio_errors = 0;
  uint64_t spikes = 0;
  uint64_t slowed = 0;
  uint64_t reorders = 0;
  uint64_t stuck = 0;
};

class FaultReader final : public Reader {
 public:
  // Takes the wrapped Reader over; it must have nothing in flight. `clock` must outlive this. With
  // a virtual clock delayed ops appear only once it was moved, so call Wait with a timeout of 0.
  // Of `limits` the timeout and the cancel flag count, as for the wrapped Reader.
  FaultReader(std::unique_ptr<Reader> wrapped, const FaultOptions& options, const Clock* clock,
              const ReaderOptions& limits = {});
  ~FaultReader() override;
  FaultReader(const FaultReader&) = delete;
  FaultReader& operator=(const FaultReader&) = delete;

  std::string_view name() const override { return name_; }  // "fault(uring)"
  uint32_t capacity() const override { return static_cast<uint32_t>(slots_.size()); }
  uint32_t in_flight() const override { return in_flight_; }
  uint32_t stuck() override { return stuck_ + wrapped_->stuck(); }
  void Submit(ReadOp* op) override;
  size_t Wait(absl::Span<ReadOp*> done, int64_t timeout_ns) override;
  void Wake() override;
  // short_reads and retries include the injected ones.
  ReaderStats stats() const override;
  FaultStats fault_stats() const { return fault_stats_; }

 private:
  // One op of the caller's, from Submit until Wait hands it back.
  struct Slot {
    ReadOp inner;  // the attempt under way in the wrapped Reader
    ReadOp* op = nullptr;
    ReadProgress progress;  // of the whole op
    uint64_t sequence = 0;  // number of the op in order of Submit
    uint64_t attempt = 0;
    uint32_t eio_left = 0;   // injected failures still to come
    int64_t release_ns = 0;  // by clock_; not handed back earlier
    bool is_held = false;    // until another op was handed back
    bool is_stuck = false;   // never read
  };

  double Draw(const Slot& slot, uint64_t salt) const;  // uniform in [0, 1)
  void StartAttempts(Slot* slot);  // until one is in the wrapped Reader or the op has ended
  int InjectedError(Slot* slot);   // errno of this attempt, or 0
  void SubmitAttempt(Slot* slot);
  void OnAttemptDone(Slot* slot);
  void Finish(Slot* slot, absl::Status status, uint64_t got_bytes);
  void Delay(Slot* slot);  // decides when a finished op may be handed back
  int64_t SlowedUntilNs(const ReadOp& op, int64_t now_ns);
  int64_t DeadlineNs(const Slot& slot) const;
  void GiveUp(Slot* slot);
  void Harvest(int64_t timeout_ns);  // moves what the wrapped Reader finished along
  size_t Release(absl::Span<ReadOp*> done);
  size_t ReleaseReady(absl::Span<ReadOp*> done, int64_t now_ns);
  int64_t EarliestReleaseNs() const;  // of what waits in finished_ for a time

  const FaultOptions options_;
  const ReaderOptions limits_;
  const Clock* const clock_;
  std::string name_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_slots_;
  std::vector<Slot*> finished_;  // in the order they ended; stuck ones from the beginning
  std::vector<ReadOp*> inner_done_;
  std::atomic<bool> is_woken_ = false;
  uint32_t in_flight_ = 0;
  uint32_t stuck_ = 0;
  uint64_t next_sequence_ = 0;
  int64_t last_finish_ns_ = 0;  // of the wrapped Reader's ops, for slow disks
  int64_t healthy_ns_ = 0;      // spent on those before the disk was slow
  uint64_t healthy_bytes_ = 0;
  int64_t slow_until_ns_ = 0;  // when a slow disk would be done with what it has
  ReaderStats own_stats_;      // without what the wrapped Reader counts
  FaultStats fault_stats_;
  std::unique_ptr<Reader> wrapped_;  // last: its destructor waits for reads into slots' buffers
};

}  // namespace weir

#endif  // WEIR_IO_FAULT_READER_H_
