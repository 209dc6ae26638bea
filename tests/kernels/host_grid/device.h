// A CUDA device without a GPU: its kernels run as fibers on the calling thread (fibers.h), at once,
// so a stream's work is always complete. Its memory is ordinary memory, each buffer an allocation
// of exactly its size, so that the address sanitizer sees a kernel that leaves it.
#ifndef WEIR_TESTS_KERNELS_HOST_GRID_DEVICE_H_
#define WEIR_TESTS_KERNELS_HOST_GRID_DEVICE_H_

#include <memory>

#include "kernels/cuda_stream.h"
#include "kernels/device.h"

namespace weir::host_grid {

struct HostGridOptions {
  // As a kernel's grid may depend on it. Few, so that blocks loop.
  uint32_t multiprocessors = 2;
  // Of a stream. Less than a real one has (CudaStream::kLeastScratchBytes) makes ops cut their
  // work.
  uint64_t scratch_bytes = CudaStream::kLeastScratchBytes;
};

std::unique_ptr<Device> MakeHostGridDevice(const HostGridOptions& options);

}  // namespace weir::host_grid

#endif  // WEIR_TESTS_KERNELS_HOST_GRID_DEVICE_H_
