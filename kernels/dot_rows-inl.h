// kLanes rows of a weight times a few tokens: words are multiplied as they are decoded, in
// registers, so that no tile is written and read again for a few uses. How rows are loaded and
// values, scales and offsets come out of them is as in kernels/build_tile-inl.h and
// kernels/unpack-inl.h; the sums are those that kernels/matmul_cpu.h states, bit for bit.
#if defined(WEIR_KERNELS_DOT_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_DOT_ROWS_INL_H_
#undef WEIR_KERNELS_DOT_ROWS_INL_H_
#else
#define WEIR_KERNELS_DOT_ROWS_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/dot_rows_codes-inl.h"
#include "kernels/dot_rows_k-inl.h"
#include "kernels/dot_rows_small-inl.h"
#include "kernels/dot_words-inl.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

template <int kPlanes, int kTokens>
constexpr DotRowsFn GetDotRows(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return &DotQ4_0<kPlanes, kTokens>;
    case DType::kQ4_1:
      return &DotQ4_1<kPlanes, kTokens>;
    case DType::kQ5_0:
      return &DotQ5_0<kPlanes, kTokens>;
    case DType::kQ5_1:
      return &DotQ5_1<kPlanes, kTokens>;
    case DType::kQ8_0:
      return &DotQ8_0<kPlanes, kTokens>;
    case DType::kQ2_K:
      return &DotQ2_K<kPlanes, kTokens>;
    case DType::kQ3_K:
      return &DotQ3_K<kPlanes, kTokens>;
    case DType::kQ4_K:
      return &DotQ4_K<kPlanes, kTokens>;
    case DType::kQ5_K:
      return &DotQ5_K<kPlanes, kTokens>;
    case DType::kQ6_K:
      return &DotQ6_K<kPlanes, kTokens>;
    case DType::kIQ4_NL:
      return &DotIQ4_NL<kPlanes, kTokens>;
    case DType::kIQ4_XS:
      return &DotIQ4_XS<kPlanes, kTokens>;
    case DType::kMXFP4:
      return &DotMXFP4<kPlanes, kTokens>;
    default:
      return nullptr;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
