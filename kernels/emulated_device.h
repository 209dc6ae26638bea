// The CPU posing as an accelerator behind a link of a chosen rate and latency, so that all three
// tiers run and are tested without a GPU. What is measured on it says nothing about a GPU: its
// name, which is to be printed with every figure, says that it is emulated.
//
// Compute streams are CpuStreams (kind kCpu) of a team of workers of its own: ops run on them as on
// the CPU device. A copy stream (kind kEmulated) is a thread of its own. Memory is ordinary memory;
// only the contract (kernels/device.h) keeps the host from touching it.
//
// The link: one in each direction, shared by all streams. A copy occupies it for bytes / rate and
// is complete a latency later, never sooner; copies queued back to back follow each other without a
// gap on the modelled clock, whenever threads wake up. Where the host cannot copy as fast as the
// link is said to be, the host's rate is what there is.
#ifndef WEIR_KERNELS_EMULATED_DEVICE_H_
#define WEIR_KERNELS_EMULATED_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace weir {

struct EmulatedDeviceOptions {
  uint32_t threads = 1;            // workers of the compute streams; at least 1
  std::string isa;                 // as CpuDeviceOptions::isa, and as there the process's
  double h2d_bytes_per_s = 0;      // host to device; more than 0
  double d2h_bytes_per_s = 0;      // device to host; 0: as h2d
  int64_t latency_ns = 0;          // of a copy, either way; 0 to 1 s
  uint64_t memory_bytes = 0;       // what may be allocated; more than 0
  uint32_t queue_capacity = 4096;  // of the team and of each copy stream, as on the CPU device
  uint32_t other_threads = 0;      // as CpuDeviceOptions: workers of a CPU device beside this one
};

// Errors as MakeCpuDevice.
absl::StatusOr<std::unique_ptr<Device>> MakeEmulatedDevice(const EmulatedDeviceOptions& options);

}  // namespace weir

#endif  // WEIR_KERNELS_EMULATED_DEVICE_H_
