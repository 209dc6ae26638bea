#include "engine/accelerator.h"

#include <algorithm>

#include "io/base.h"
#include "kernels/cuda_device.h"
#include "kernels/cuda_stream.h"
#include "kernels/emulated_device.h"

namespace weir {
namespace {

constexpr uint64_t kMostCudaScratchBytes = 64 * kMiB;
// The driver rounds allocations up: the run's memory, the scratch and cuBLAS's.
constexpr uint64_t kCudaRoundingBytes = 3 * 2 * kMiB;

// A small budget is for weights.
uint64_t CudaScratchBytes(uint64_t memory_bytes) {
  return std::clamp(AlignDown(memory_bytes / 32, kMiB), CudaStream::kLeastScratchBytes,
                    kMostCudaScratchBytes);
}

}  // namespace

uint64_t AcceleratorScratchBytes(const AcceleratorOptions& options, uint64_t memory_bytes) {
  if (options.kind != AcceleratorKind::kCuda) return 0;
  return CudaScratchBytes(memory_bytes) + kCudaBlasBytes + kCudaRoundingBytes;
}

absl::StatusOr<std::unique_ptr<Device>> MakeAccelerator(const AcceleratorOptions& options,
                                                        uint64_t memory_bytes,
                                                        const AcceleratorThreads& threads) {
  WEIR_CHECK(options.is_used());
  if (options.make) return options.make(memory_bytes);
  if (options.kind == AcceleratorKind::kCuda) {
    return MakeCudaDevice({.ordinal = options.ordinal,
                           .memory_bytes = memory_bytes,
                           .scratch_bytes = CudaScratchBytes(memory_bytes)});
  }
  return MakeEmulatedDevice({.threads = threads.threads,
                             .isa = threads.isa,
                             .h2d_bytes_per_s = options.h2d_bytes_per_s,
                             .d2h_bytes_per_s = options.d2h_bytes_per_s,
                             .latency_ns = options.latency_ns,
                             .memory_bytes = memory_bytes,
                             .other_threads = threads.other_threads});
}

}  // namespace weir
