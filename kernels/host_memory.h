// Ordinary memory in large pieces, and how much of it there is.
#ifndef WEIR_KERNELS_HOST_MEMORY_H_
#define WEIR_KERNELS_HOST_MEMORY_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace weir {

// What this process may still take (kernels/memory_limits.h); nothing where the kernel does not
// say.
std::optional<uint64_t> AvailableHostBytes();

// Maps zeroed memory that is not resident yet: the caller touches it. Above a few MiB huge pages
// are asked for. ResourceExhausted, with asked and free, when it cannot be had. bytes may be 0.
absl::StatusOr<std::unique_ptr<Buffer>> MapHostMemory(uint64_t bytes, uint64_t alignment_bytes);

// Makes bytes [begin, begin + bytes) resident by writing to each of its pages; contents must be
// zero.
void TouchZeroPages(uint8_t* begin, uint64_t bytes);

}  // namespace weir

#endif  // WEIR_KERNELS_HOST_MEMORY_H_
