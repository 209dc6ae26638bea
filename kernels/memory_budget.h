// What may be allocated on an accelerator, and what is.
#ifndef WEIR_KERNELS_MEMORY_BUDGET_H_
#define WEIR_KERNELS_MEMORY_BUDGET_H_

#include <cstdint>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "kernels/device.h"

namespace weir {

// Any thread. Outlives the buffers that were taken from it.
class MemoryBudget {
 public:
  // `device` names it in messages.
  MemoryBudget(std::string device, uint64_t total_bytes)
      : device_(std::move(device)), total_bytes_(total_bytes) {}

  // ResourceExhausted, with what was asked, what is free and what to pass instead, when less than
  // `bytes`, and `slack_bytes` that nobody asked for, are left.
  absl::Status Take(uint64_t bytes, uint64_t slack_bytes);
  void Return(uint64_t bytes);
  DeviceMemory memory() const;

 private:
  const std::string device_;
  const uint64_t total_bytes_;
  mutable std::mutex mutex_;
  uint64_t taken_bytes_ = 0;
};

}  // namespace weir

#endif  // WEIR_KERNELS_MEMORY_BUDGET_H_
