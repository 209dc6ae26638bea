// cuBLAS, loaded when a device is made: a program that links it would not start where it is
// missing. Private to kernels/.
#ifndef WEIR_KERNELS_CUDA_BLAS_H_
#define WEIR_KERNELS_CUDA_BLAS_H_

#include <cublas_v2.h>

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda_stream.h"

namespace weir {

class CudaBlas {
 public:
  // FailedPrecondition, with what the loader said of each name, when there is none.
  static absl::StatusOr<std::unique_ptr<CudaBlas>> Load();

  // A handle for `stream` on the current device. cuBLAS takes its workspace from `workspace`
  // (device memory, 256-byte aligned), which must live as long as the handle, and allocates none.
  absl::StatusOr<cublasHandle_t> NewHandle(cudaStream_t stream, uint8_t* workspace,
                                           uint64_t workspace_bytes) const;
  void FreeHandle(cublasHandle_t handle) const;

  // Enqueues the product on the handle's stream. One thread a handle.
  absl::Status Gemm(cublasHandle_t handle, const GemmArgs& args) const;

 private:
  CudaBlas() = default;
  absl::Status Find(void* library);
  absl::Status ErrorStatus(cublasStatus_t status, const char* what) const;

  // cublasGemmEx has an overload in C++: its type is written out.
  using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m,
                                    int n, int k, const void* alpha, const void* a, cudaDataType,
                                    int lda, const void* b, cudaDataType, int ldb, const void* beta,
                                    void* c, cudaDataType, int ldc, cublasComputeType_t,
                                    cublasGemmAlgo_t);
  decltype(&cublasCreate_v2) create_ = nullptr;
  decltype(&cublasDestroy_v2) destroy_ = nullptr;
  decltype(&cublasSetStream_v2) set_stream_ = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace_ = nullptr;
  decltype(&cublasGetStatusString) status_string_ = nullptr;
  GemmEx gemm_ex_ = nullptr;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_BLAS_H_
