#include "io/clock.h"

#include <ctime>

#include "io/base.h"

namespace weir {

namespace {

int64_t ReadClock(clockid_t id) {
  timespec now;
  WEIR_CHECK(clock_gettime(id, &now) == 0);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

int64_t RealClock::NowNs() const { return ReadClock(CLOCK_MONOTONIC); }

int64_t ThreadCpuNs() { return ReadClock(CLOCK_THREAD_CPUTIME_ID); }

void VirtualClock::AdvanceTo(int64_t now_ns) {
  WEIR_CHECK(now_ns >= now_ns_);
  now_ns_ = now_ns;
}

}  // namespace weir
