// The multiplying functions of formats whose values are codes of a table
// (kernels/format_kernels-inl.h).
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/format_kernels_codes_cpu.cc"
#include <cstdint>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/dot_rows_codes-inl.h"
#include "kernels/format_kernels-inl.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

const FormatKernels* KernelsOfCodeBlocks(DType dtype, uint32_t planes) {
  switch (dtype) {
    WEIR_FORMAT_KERNELS_CASE(IQ4_NL)
    WEIR_FORMAT_KERNELS_CASE(IQ4_XS)
    WEIR_FORMAT_KERNELS_CASE(MXFP4)
    default:
      return nullptr;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
