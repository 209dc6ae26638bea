// The multiplying functions of blocks of 32 elements (kernels/format_kernels-inl.h).
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/format_kernels_small_cpu.cc"
#include <cstdint>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/dot_rows_small-inl.h"
#include "kernels/format_kernels-inl.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

const FormatKernels* KernelsOfSmallBlocks(DType dtype, uint32_t planes) {
  switch (dtype) {
    WEIR_FORMAT_KERNELS_CASE(Q4_0)
    WEIR_FORMAT_KERNELS_CASE(Q4_1)
    WEIR_FORMAT_KERNELS_CASE(Q5_0)
    WEIR_FORMAT_KERNELS_CASE(Q5_1)
    WEIR_FORMAT_KERNELS_CASE(Q8_0)
    default:
      return nullptr;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
