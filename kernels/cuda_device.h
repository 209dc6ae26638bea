// NVIDIA GPUs as devices. Where weir was built without the CUDA toolkit both functions return
// Unimplemented (kernels/no_cuda_device.cc); a program with CUDA starts without a driver or a GPU
// all the same, and is told here why there is none.
//
// Memory comes from cudaMalloc within a budget. Beside the budget the driver takes its context, the
// code of the kernels and of cuBLAS, and up to 2 MiB for each allocation by rounding:
// CudaDeviceInfo::free_bytes before and after tells how much.
//
// Streams do not wait for the legacy default stream. A stream has a ring of events, so that Record
// may be called any number of times; with more than 1024 marks that have not come, it blocks. Every
// stream has a thread that waits for its marks in order and calls notifications: no callback stalls
// the stream. A stream that waits for another kind of device's waits for a word in pinned memory,
// which a notification of the other stream raises; so it waits for all that is enqueued there
// already. The GPU has 8 hardware queues: a process should make no more streams.
//
// An error that comes up while kernels or copies run is the device's: all its streams report it
// (Stream::status) and complete whatever is enqueued.
#ifndef WEIR_KERNELS_CUDA_DEVICE_H_
#define WEIR_KERNELS_CUDA_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "io/base.h"
#include "kernels/device.h"

namespace weir {

struct CudaDeviceInfo {
  uint32_t ordinal = 0;  // the N of cuda:N
  std::string name;      // "NVIDIA H100 80GB HBM3"
  std::string pci_bus;   // "0000:1b:00.0"
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;  // of all programs together, beside this process's context
  uint32_t compute_major = 0;
  uint32_t compute_minor = 0;
  uint32_t multiprocessors = 0;
  uint32_t driver_version = 0;  // what the driver supports: 13000 is CUDA 13.0
  uint32_t runtime_version = 0;
};

// At least one. Takes a context on each (some 0.3 s and 300 MiB, kept for MakeCudaDevice).
// Unimplemented: built without CUDA. Unavailable: no driver, or no GPU that it shows.
// FailedPrecondition: the driver is too old or does not work. Messages say what to do.
absl::StatusOr<std::vector<CudaDeviceInfo>> ListCudaDevices();

struct CudaDeviceOptions {
  uint32_t ordinal = 0;
  uint64_t memory_bytes = 0;  // what may be allocated; 0: what is free less kCudaMarginBytes
  // Each compute stream's memory for temporaries (CudaStream::scratch), at least
  // CudaStream::kLeastScratchBytes. NewStream takes it, and kCudaBlasBytes, from memory_bytes.
  uint64_t scratch_bytes = 64 * kMiB;
};
inline constexpr uint64_t kCudaBlasBytes = 32 * kMiB;     // cuBLAS's workspace of a compute stream
inline constexpr uint64_t kCudaMarginBytes = 512 * kMiB;  // for code that is loaded at first use

// Errors of ListCudaDevices, and: InvalidArgument for options that cannot be; FailedPrecondition
// when the build has no kernels for this GPU, or cuBLAS is missing; ResourceExhausted when
// memory_bytes are not free.
absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const CudaDeviceOptions& options);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DEVICE_H_
