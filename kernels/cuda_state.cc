#include "kernels/cuda_state.h"

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {

absl::Status CudaErrorStatus(cudaError_t error, absl::string_view what) {
  const std::string text =
      absl::StrCat(what, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::ResourceExhaustedError(text);
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorNoKernelImageForDevice:
      return absl::FailedPreconditionError(text);
    default:
      return absl::InternalError(text);
  }
}

absl::Status CudaFailure::status() const {
  if (ok()) return absl::OkStatus();
  const std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

void CudaFailure::Set(const absl::Status& status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (failed_.load()) return;
  status_ = status;
  failed_.store(true);
}

bool CudaFailure::Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return true;
  Set(CudaErrorStatus(error, what));
  return false;
}

}  // namespace weir
