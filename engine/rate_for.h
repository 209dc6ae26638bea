// How fast work goes that is done again and again on the calling thread.
#ifndef WEIR_ENGINE_RATE_FOR_H_
#define WEIR_ENGINE_RATE_FOR_H_

#include <cstdint>

#include "io/clock.h"

namespace weir {

// Calls `work`, which returns how much it did, until `limit_ns` are over, and once at least; the
// rate per second.
template <typename Work>
double RateFor(int64_t limit_ns, const Work& work) {
  const RealClock clock;
  const int64_t begin_ns = clock.NowNs();
  double done = 0;
  int64_t ns;
  do {
    done += static_cast<double>(work());
    ns = clock.NowNs() - begin_ns;
  } while (ns < limit_ns || ns <= 0);
  return 1e9 * done / static_cast<double>(ns);
}

}  // namespace weir

#endif  // WEIR_ENGINE_RATE_FOR_H_
