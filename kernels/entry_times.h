// EntryTimes: where the time of a CPU device's team goes, by label. A kernel that is enqueued under
// a label (CpuStream::SetLabel) adds to it; label 0 is everything without one: copies,
// notifications, waits for other streams.
//
// All time from `origin_ns` to `last_end_ns` is in exactly one counter, so that they add up to it:
// a kernel's time runs from the end of the kernel before it to its own end (when the last worker
// left it: waiting for colleagues is in it), unless nothing was enqueued when the one before ended.
// Then the time until worker 0 begins is time that the team waited before that label. What a
// sleeping colleague takes to wake up is in the kernel's time.
//
// Written by the team's workers, one at a time; read by a host thread only when it has waited for
// everything that was enqueued and nothing is enqueued meanwhile. Nothing is allocated after
// construction. Costs two reads of the clock an entry at most, and without one a team pays a test
// of a pointer.
#ifndef WEIR_KERNELS_ENTRY_TIMES_H_
#define WEIR_KERNELS_ENTRY_TIMES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "io/clock.h"

namespace weir {

struct EntryTime {
  uint64_t entries = 0;
  int64_t run_ns = 0;
  int64_t wait_ns = 0;  // nothing was enqueued, before these entries
};

class EntryTimes {
 public:
  // Labels are 0 to labels - 1. `clock` is borrowed and called by the workers.
  EntryTimes(uint32_t labels, const Clock* clock)
      : clock_(clock), origin_ns_(clock->NowNs()), last_end_ns_(origin_ns_), times_(labels) {}

  uint32_t labels() const { return static_cast<uint32_t>(times_.size()); }
  absl::Span<const EntryTime> times() const { return times_; }
  int64_t origin_ns() const { return origin_ns_; }
  int64_t last_end_ns() const { return last_end_ns_; }

  // The team's. A worker that found nothing enqueued begins an entry; before its colleagues end it.
  void BeginAfterWaiting() { begin_ns_ = clock_->NowNs(); }
  // The last worker has left an entry.
  void End(uint32_t label) {
    const int64_t now_ns = clock_->NowNs();
    const int64_t begin_ns = begin_ns_ > last_end_ns_ ? begin_ns_ : last_end_ns_;
    EntryTime& time = times_[label];
    ++time.entries;
    time.wait_ns += begin_ns - last_end_ns_;
    time.run_ns += now_ns - begin_ns;
    last_end_ns_ = now_ns;
  }

 private:
  const Clock* const clock_;
  const int64_t origin_ns_;
  int64_t last_end_ns_;
  int64_t begin_ns_ = 0;  // of the entry that runs, if the team waited for it
  std::vector<EntryTime> times_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_ENTRY_TIMES_H_
