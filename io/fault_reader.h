// FaultReader: a Reader that misbehaves on purpose, from a seed, in every way that the contract
// says a Reader must survive. It wraps another Reader and keeps the contract itself, so whatever
// runs on it must give the same results as on the wrapped one.
//
// Where faults sit: each op is read in attempts, judged by the same io/retry_policy.h as real
// reads. An attempt may be replaced by an error number, or ask the wrapped Reader for less than
// what is left; the policy then retries or resumes. A finished op may be held back for a time
// (spikes) or until another op has overtaken it (reordering). Nothing sleeps: a delayed op becomes
// visible when the clock says so.
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
#include "io/reader.h"
#include "io/retry_policy.h"

namespace weir {

// Shares are probabilities in [0, 1].
struct FaultOptions {
  uint64_t seed = 1;
  double short_share = 0;         // of attempts that are cut short
  double again_share = 0;         // of attempts that meet EAGAIN or EINTR
  double spike_share = 0;         // of ops that are delayed
  int64_t spike_ns = 20'000'000;  // by so much
  double eio_share = 0;           // of ops that meet EIO 1 to kMaxEioRetries times, then succeed
  double eio_forever_share = 0;   // of ops that meet EIO every time, and so fail
  double reorder_share = 0;       // of ops that at least one later op overtakes, if there is one
};

// Comma-separated settings, each at most once, in any order; empty text means no faults:
//   seed=N          0 to 2^64-1
//   short=P         short_share; P is a percentage "5%" or a share "0.05"
//   again=P         again_share
//   spike=P[:TIME]  spike_share and spike_ns; TIME is a number and ns, us, ms or s: "20ms"
//   eio=P           eio_share
//   eio_forever=P   eio_forever_share
//   reorder=P       reorder_share
// For example "seed=7,short=5%,spike=5%:20ms,eio=1%,eio_forever=0".
absl::StatusOr<FaultOptions> ParseFaultOptions(std::string_view text);

// What was injected so far.
struct FaultStats {
  uint64_t short_attempts = 0;
  uint64_t busy_errors = 0;
  uint64_t eio_errors = 0;
  uint64_t spikes = 0;
  uint64_t reorders = 0;
};

class FaultReader final : public Reader {
 public:
  // Takes the wrapped Reader over; it must have nothing in flight. `clock` must outlive this. With
  // a virtual clock delayed ops appear only once it was moved, so call Wait with a timeout of 0.
  FaultReader(std::unique_ptr<Reader> wrapped, const FaultOptions& options, const Clock* clock);
  ~FaultReader() override;
  FaultReader(const FaultReader&) = delete;
  FaultReader& operator=(const FaultReader&) = delete;

  std::string_view name() const override { return name_; }  // "fault(uring)"
  uint32_t capacity() const override { return static_cast<uint32_t>(slots_.size()); }
  uint32_t in_flight() const override { return in_flight_; }
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
  };

  double Draw(const Slot& slot, uint64_t salt) const;  // uniform in [0, 1)
  void StartAttempts(Slot* slot);  // until one is in the wrapped Reader or the op has ended
  int InjectedError(Slot* slot);   // errno of this attempt, or 0
  void SubmitAttempt(Slot* slot);
  void OnAttemptDone(Slot* slot);
  void Finish(Slot* slot, absl::Status status, uint64_t got_bytes);
  void Harvest(int64_t timeout_ns);  // moves what the wrapped Reader finished along
  size_t Release(absl::Span<ReadOp*> done);
  size_t ReleaseReady(absl::Span<ReadOp*> done, int64_t now_ns);
  int64_t EarliestReleaseNs() const;  // of finished ops that are not held

  const FaultOptions options_;
  const Clock* const clock_;
  std::string name_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_slots_;
  std::vector<Slot*> finished_;  // in the order they ended
  std::vector<ReadOp*> inner_done_;
  std::atomic<bool> is_woken_ = false;
  uint32_t in_flight_ = 0;
  uint64_t next_sequence_ = 0;
  ReaderStats own_stats_;  // without what the wrapped Reader counts
  FaultStats fault_stats_;
  std::unique_ptr<Reader> wrapped_;  // last: its destructor waits for reads into slots' buffers
};

}  // namespace weir

#endif  // WEIR_IO_FAULT_READER_H_
