// What of kernels/ cannot be run on the fake runtime, replaced: cuBLAS, and the kernels.
#include "kernels/cuda_blas.h"
#include "kernels/cuda_probe.h"
#include "kernels/ops_cuda.h"

namespace weir {

absl::StatusOr<std::unique_ptr<CudaBlas>> CudaBlas::Load() {
  return std::unique_ptr<CudaBlas>(new CudaBlas());
}
absl::StatusOr<cublasHandle_t> CudaBlas::NewHandle(cudaStream_t, uint8_t*, uint64_t) const {
  return nullptr;
}
void CudaBlas::FreeHandle(cublasHandle_t) const {}
absl::Status CudaBlas::Gemm(cublasHandle_t, const GemmArgs&) const { return absl::OkStatus(); }

namespace cuda {

const void* ProbeFunction() { return nullptr; }
const CudaOps& Ops() {
  static constexpr CudaOps kNone = {};
  return kNone;
}

}  // namespace cuda
}  // namespace weir
