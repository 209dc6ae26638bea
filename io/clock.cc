#include "io/clock.h"

#include <ctime>

#include "io/base.h"

namespace weir {

int64_t RealClock::NowNs() const {
  timespec now;
  WEIR_CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void VirtualClock::AdvanceTo(int64_t now_ns) {
  WEIR_CHECK(now_ns >= now_ns_);
  now_ns_ = now_ns;
}

}  // namespace weir
