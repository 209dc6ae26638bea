// Which host memory a device has pinned: refuses what is pinned already.
#ifndef WEIR_KERNELS_PINNED_RANGES_H_
#define WEIR_KERNELS_PINNED_RANGES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace weir {

// Any thread. Outlives the ranges that it gave out.
class PinnedRanges {
 public:
  PinnedRanges() = default;
  PinnedRanges(const PinnedRanges&) = delete;
  PinnedRanges& operator=(const PinnedRanges&) = delete;

  // AlreadyExists when a byte of [data, data + bytes) is in a range that still lives,
  // InvalidArgument when there are no bytes.
  absl::Status Add(const uint8_t* data, uint64_t bytes);
  void Remove(const uint8_t* data);
  // Adds the range as long as the result lives.
  absl::StatusOr<std::unique_ptr<PinnedRange>> Pin(const uint8_t* data, uint64_t bytes);

 private:
  std::mutex mutex_;
  std::map<uint64_t, uint64_t> end_by_begin_;  // addresses; disjoint
};

}  // namespace weir

#endif  // WEIR_KERNELS_PINNED_RANGES_H_
