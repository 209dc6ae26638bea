// The multiplying functions of blocks of 256 elements with scales within
// (kernels/format_kernels-inl.h).
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/format_kernels_k_cpu.cc"
#include <cstdint>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/dot_rows_k-inl.h"
#include "kernels/format_kernels-inl.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

const FormatKernels* KernelsOfKBlocks(DType dtype, uint32_t planes) {
  switch (dtype) {
    WEIR_FORMAT_KERNELS_CASE(Q2_K)
    WEIR_FORMAT_KERNELS_CASE(Q3_K)
    WEIR_FORMAT_KERNELS_CASE(Q4_K)
    WEIR_FORMAT_KERNELS_CASE(Q5_K)
    WEIR_FORMAT_KERNELS_CASE(Q6_K)
    default:
      return nullptr;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
