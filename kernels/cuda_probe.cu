#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_probe.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

WEIR_KERNEL(32, 1) void ProbeKernel() {}

}  // namespace

const void* ProbeFunction() { return reinterpret_cast<const void*>(&ProbeKernel); }

}  // namespace weir::WEIR_CUDA_NAMESPACE
