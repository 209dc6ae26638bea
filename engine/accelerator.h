// Which accelerator a run uses, and making it.
#ifndef WEIR_ENGINE_ACCELERATOR_H_
#define WEIR_ENGINE_ACCELERATOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace weir {

enum class AcceleratorKind : uint8_t { kNone, kEmulated, kCuda };

struct AcceleratorOptions {
  AcceleratorKind kind = AcceleratorKind::kNone;
  uint32_t ordinal = 0;  // kCuda: the N of cuda:N
  // kEmulated: the link, as EmulatedDeviceOptions has it.
  double h2d_bytes_per_s = 0;
  double d2h_bytes_per_s = 0;  // 0: as h2d
  int64_t latency_ns = 0;
  // kEmulated: steps are enqueued as far ahead as for a GPU, to whom that is nothing.
  bool runs_far_ahead = false;
  // Passes of one token whose weights all stay on the accelerator run as graphs, where it has them.
  bool graphs = true;
  // In place of the device that `kind` would be: another one of that kind, with so much memory.
  std::function<absl::StatusOr<std::unique_ptr<Device>>(uint64_t memory_bytes)> make = {};

  bool is_used() const { return kind != AcceleratorKind::kNone; }
};

// Host threads of an accelerator and beside it.
struct AcceleratorThreads {
  uint32_t threads = 1;        // of an emulated one
  uint32_t other_threads = 0;  // of the CPU device beside it
  std::string isa;
};

// What of `memory_bytes` kernels and libraries take for themselves.
uint64_t AcceleratorScratchBytes(const AcceleratorOptions& options, uint64_t memory_bytes);

// The device allocates `memory_bytes` at most, scratch included. Errors as MakeEmulatedDevice and
// MakeCudaDevice; not for kNone (checked).
absl::StatusOr<std::unique_ptr<Device>> MakeAccelerator(const AcceleratorOptions& options,
                                                        uint64_t memory_bytes,
                                                        const AcceleratorThreads& threads);

}  // namespace weir

#endif  // WEIR_ENGINE_ACCELERATOR_H_
