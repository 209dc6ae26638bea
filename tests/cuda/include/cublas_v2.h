// The types of cuBLAS that kernels/cuda_blas.h names. The fake runtime has a CudaBlas of its own.
#ifndef WEIR_TESTS_CUDA_INCLUDE_CUBLAS_V2_H_
#define WEIR_TESTS_CUDA_INCLUDE_CUBLAS_V2_H_

#include <cuda_runtime_api.h>

// NOLINTBEGIN(readability-identifier-naming): the names are cuBLAS's.

struct CublasHandle;
using cublasHandle_t = CublasHandle*;
enum cublasStatus_t { CUBLAS_STATUS_SUCCESS };
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT };
enum cudaDataType { CUDA_R_16F, CUDA_R_32F };

extern "C" {
cublasStatus_t cublasCreate_v2(cublasHandle_t* handle);
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle);
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t bytes);
const char* cublasGetStatusString(cublasStatus_t status);
}

// NOLINTEND(readability-identifier-naming)

#endif  // WEIR_TESTS_CUDA_INCLUDE_CUBLAS_V2_H_
