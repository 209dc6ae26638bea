// The driver's part of what tests/cuda/include/cuda_runtime_api.h is the runtime's of.
#ifndef WEIR_TESTS_CUDA_INCLUDE_CUDATYPEDEFS_H_
#define WEIR_TESTS_CUDA_INCLUDE_CUDATYPEDEFS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

// NOLINTBEGIN(readability-identifier-naming): the names are CUDA's.

enum CUresult { CUDA_SUCCESS };
using CUdeviceptr = unsigned long long;
inline constexpr unsigned CU_STREAM_WAIT_VALUE_GEQ = 0;
using PFN_cuStreamWaitValue32_v11070 = CUresult (*)(cudaStream_t, CUdeviceptr, uint32_t, unsigned);

// NOLINTEND(readability-identifier-naming)

#endif  // WEIR_TESTS_CUDA_INCLUDE_CUDATYPEDEFS_H_
