// A kernel that does nothing: whether the GPU can run what this program holds. Private to kernels/.
#ifndef WEIR_KERNELS_CUDA_PROBE_H_
#define WEIR_KERNELS_CUDA_PROBE_H_

#include "kernels/cuda_namespace.h"

namespace weir::WEIR_CUDA_NAMESPACE {

// As cudaLaunchKernel and cudaFuncGetAttributes take it.
const void* ProbeFunction();

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_CUDA_PROBE_H_
