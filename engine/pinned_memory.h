// PinnedMemory: host memory that copies to an accelerator leave from, pinned piece by piece right
// before the first copy out of each: while the first reads run, and only as far as it is used.
#ifndef WEIR_ENGINE_PINNED_MEMORY_H_
#define WEIR_ENGINE_PINNED_MEMORY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device.h"

namespace weir {

// One thread.
class PinnedMemory {
 public:
  // `begins`: offsets at which a piece may begin, page-aligned, ascending; a copy never crosses
  // one, and the first is 0. The memory and the device outlive this.
  PinnedMemory(Device& device, uint8_t* memory, uint64_t bytes,
               const std::vector<uint64_t>& begins);

  // Pins the piece that `data` lies in, the first time. Blocks for as long as that takes.
  absl::Status Ensure(const uint8_t* data);
  // Pins the first piece, and where it is.
  absl::StatusOr<absl::Span<uint8_t>> First();

 private:
  struct Piece {
    uint64_t begin_bytes = 0;
    uint64_t end_bytes = 0;
    std::unique_ptr<PinnedRange> range;
  };

  Device& device_;
  uint8_t* const memory_;
  std::vector<Piece> pieces_;
};

}  // namespace weir

#endif  // WEIR_ENGINE_PINNED_MEMORY_H_
