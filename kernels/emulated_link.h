// The link of an emulated accelerator: one direction's clockwork, without a thread or a clock.
#ifndef WEIR_KERNELS_EMULATED_LINK_H_
#define WEIR_KERNELS_EMULATED_LINK_H_

#include <cstdint>
#include <mutex>

namespace weir {

// When a copy has the link, and when its last byte has arrived.
struct LinkWindow {
  int64_t begin_ns = 0;
  int64_t end_ns = 0;      // the next copy may begin
  int64_t arrival_ns = 0;  // end_ns + latency
};

// Copies have the link one after the other, each for bytes / rate. The latency is on top of that
// and does not occupy it, so that copies queued back to back use the whole rate. Any thread.
class EmulatedLink {
 public:
  // bytes_per_s > 0, latency_ns >= 0.
  EmulatedLink(double bytes_per_s, int64_t latency_ns)
      : bytes_per_s_(bytes_per_s), latency_ns_(latency_ns) {}

  // The next free time of the link from `ready_ns` on, which may lie in the past: what a copy had
  // done by now if nobody had overslept.
  LinkWindow Reserve(uint64_t bytes, int64_t ready_ns);

 private:
  const double bytes_per_s_;
  const int64_t latency_ns_;
  std::mutex mutex_;
  int64_t free_ns_ = INT64_MIN;
};

}  // namespace weir

#endif  // WEIR_KERNELS_EMULATED_LINK_H_
