// Time as a parameter: the real monotonic clock, or a virtual one that tests and the simulator
// move.
#ifndef WEIR_IO_CLOCK_H_
#define WEIR_IO_CLOCK_H_

#include <cstdint>

namespace weir {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t NowNs() const = 0;  // monotonic nanoseconds; the origin has no meaning
};

// CLOCK_MONOTONIC. Thread-safe.
class RealClock final : public Clock {
 public:
  int64_t NowNs() const override;
};

// CPU time that the calling thread has taken: CLOCK_THREAD_CPUTIME_ID.
int64_t ThreadCpuNs();

// Moves only when told. One thread.
class VirtualClock final : public Clock {
 public:
  int64_t NowNs() const override { return now_ns_; }
  void AdvanceTo(int64_t now_ns);  // never backwards (checked)

 private:
  int64_t now_ns_ = 0;
};

}  // namespace weir

#endif  // WEIR_IO_CLOCK_H_
