// What an accelerator's links deliver, measured the way the engine uses them: copies of one size
// between host memory and the device's, one after the other or queued back to back, from pinned and
// from ordinary memory, in one direction or both; and what pinning costs. The device's own memory
// is read by a kernel (kernels/cuda_stream.h), host memory by threads (hardware_probe.h).
//
// These calls block for about the time they are given. One thread; the device is used by nobody
// else meanwhile, or the figures are of both.
#ifndef WEIR_ENGINE_DEVICE_PROBE_H_
#define WEIR_ENGINE_DEVICE_PROBE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/base.h"
#include "kernels/device.h"

namespace weir {

enum class CopyDirection : uint8_t { kToDevice, kToHost };
enum class CopyMode : uint8_t {
  kOneAtATime,  // the host waits for each
  kQueued,      // enqueued ahead, up to kMostQueuedBytes and never fewer than 4
};
inline constexpr uint64_t kMostQueuedBytes = 64 * kMiB;

std::string_view CopyDirectionName(CopyDirection direction);  // "h2d", "d2h"
std::string_view CopyModeName(CopyMode mode);                 // "single", "queued"

// Memory that copies go through in turn, from its beginning again at the end: both at least as
// large as one copy; larger than the caches, or those are measured. Owned by the caller and touched
// before.
struct CopyMemory {
  absl::Span<uint8_t> host;
  absl::Span<uint8_t> device;  // addresses of the device
};

struct CopyProbe {
  uint64_t bytes = 0;  // of each copy; at least 1
  CopyDirection direction = CopyDirection::kToDevice;
  CopyMode mode = CopyMode::kQueued;
  int64_t limit_ns = 50'000'000;  // no copy is enqueued later; at least 4 are made
};

struct CopyRate {
  uint64_t copies = 0;
  uint64_t bytes = 0;  // of all copies
  double seconds = 0;  // from the first one's enqueuing to the last one's end
  double bytes_per_s = 0;
};

// InvalidArgument where a copy exceeds its memory; what the stream reports.
absl::StatusOr<CopyRate> ProbeCopies(Stream& stream, const CopyMemory& memory,
                                     const CopyProbe& probe);

// Queued copies of `bytes` in both directions at once, on a stream and in memory for each; the rate
// is of both together.
absl::StatusOr<CopyRate> ProbeBothWays(Stream& in, const CopyMemory& in_memory, Stream& out,
                                       const CopyMemory& out_memory, uint64_t bytes,
                                       int64_t limit_ns);

struct PinCost {
  uint64_t bytes = 0;
  bool is_touched = false;  // in huge pages where there are any, by `threads`, before pinning
  uint32_t threads = 0;
  double touch_s = 0;
  double pin_s = 0;
};

// Of a CUDA device's own memory, by a kernel that does nothing else.
struct DeviceReadRate {
  double bytes_per_s = 0;  // over memory larger than the caches
  double launch_s = 0;     // from one kernel to the next, of many that have nothing to do
};

// Of `bytes` of the device's memory, taken for this call. Other devices: Unimplemented, there is
// nothing of their own to measure.
absl::StatusOr<DeviceReadRate> ProbeDeviceRead(Device& device, uint64_t bytes, int64_t limit_ns);

// Maps memory, touches its pages with `threads` or not at all (then pinning has to), and pins it.
absl::StatusOr<PinCost> ProbePinning(Device& device, uint64_t bytes, bool touch, uint32_t threads);

// Medians of rounds that visit everything in turn.
struct RateSpread {
  double median_bytes_per_s = 0;
  double low_bytes_per_s = 0;
  double high_bytes_per_s = 0;
};

// Of one rate at least.
RateSpread SpreadOfRates(std::vector<double> rates);

struct CopyCell {
  CopyProbe probe;
  bool is_pinned = true;
  RateSpread rate;
};

struct DeviceProbeOptions {
  std::vector<uint64_t> copy_bytes = {64 * kKiB, 256 * kKiB, 1 * kMiB,  2 * kMiB,  4 * kMiB,
                                      8 * kMiB,  16 * kMiB,  64 * kMiB, 256 * kMiB};
  std::vector<uint64_t> pageable_bytes = {1 * kMiB, 16 * kMiB, 256 * kMiB};
  uint64_t both_ways_bytes = 16 * kMiB;   // of each copy
  uint64_t memory_bytes = 512 * kMiB;     // in each direction, of the host and of the device each
  uint64_t device_read_bytes = 4 * kGiB;  // of a CUDA device; at most a quarter of what is free
  uint64_t pin_bytes = 1 * kGiB;          // 0: the cost of pinning is not measured
  uint32_t threads = 1;                   // that touch memory and read DRAM
  int64_t limit_ns = 10'000'000'000;      // for all, about
  int rounds = 3;
};

struct DeviceProbeResult {
  std::vector<CopyCell> copies;           // pinned, then pageable ones, by size, direction and mode
  RateSpread both_ways;                   // of both directions together
  RateSpread dram_read;                   // by `threads`, of the copies' own host memory
  std::optional<RateSpread> device_read;  // of a CUDA device
  double launch_s = 0;                    // of these the median; 0: not measured
  std::vector<PinCost> pinning;  // touched and not; medians of the rounds by time of both steps
};

// Called after each step with how much is over, 0..1; false ends the probe (Cancelled).
using DeviceProbeProgress = std::function<bool(double share)>;

// InvalidArgument for options out of range, ResourceExhausted where the memory is not there.
absl::StatusOr<DeviceProbeResult> ProbeDevice(Device& device, const DeviceProbeOptions& options,
                                              const DeviceProbeProgress& progress);

}  // namespace weir

#endif  // WEIR_ENGINE_DEVICE_PROBE_H_
