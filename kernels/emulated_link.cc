#include "kernels/emulated_link.h"

#include <algorithm>
#include <cmath>

namespace weir {

LinkWindow EmulatedLink::Reserve(uint64_t bytes, int64_t ready_ns) {
  const int64_t busy_ns = std::llround(static_cast<double>(bytes) / bytes_per_s_ * 1e9);
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t begin_ns = std::max(free_ns_, ready_ns);
  free_ns_ = begin_ns + busy_ns;
  return {.begin_ns = begin_ns, .end_ns = free_ns_, .arrival_ns = free_ns_ + latency_ns_};
}

}  // namespace weir
