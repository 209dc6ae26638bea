// What the parts of a CUDA device share: which GPU, what failed first, the driver's and cuBLAS's
// entry points. Private to kernels/.
#ifndef WEIR_KERNELS_CUDA_STATE_H_
#define WEIR_KERNELS_CUDA_STATE_H_

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/cuda_blas.h"

namespace weir {

// "cudaMalloc: out of memory (cudaErrorMemoryAllocation)". ResourceExhausted for memory,
// FailedPrecondition for a driver that does not do, else Internal.
absl::Status CudaErrorStatus(cudaError_t error, absl::string_view what);

// The first error of a device. Any thread.
class CudaFailure {
 public:
  bool ok() const { return !failed_.load(); }
  absl::Status status() const;
  // Keeps `status` unless there was an error before it.
  void Set(const absl::Status& status);
  // True for success; else sets it.
  bool Check(cudaError_t error, const char* what);

 private:
  std::atomic<bool> failed_{false};
  mutable std::mutex mutex_;
  absl::Status status_;
};

struct CudaState {
  int ordinal = 0;
  uint32_t multiprocessors = 0;
  bool launches_early = false;  // LaunchShape::early (kernels/cuda_stream.h)
  // cuStreamWaitValue32, which only the driver has.
  PFN_cuStreamWaitValue32_v11070 wait_value = nullptr;
  std::unique_ptr<CudaBlas> blas;
  CudaFailure failure;

  // CUDA's calls are about the calling thread's current device: every entry from outside begins
  // with this.
  void MakeCurrent() { failure.Check(cudaSetDevice(ordinal), "cudaSetDevice"); }
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_STATE_H_
