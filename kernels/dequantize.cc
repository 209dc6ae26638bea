#include "kernels/dequantize.h"

#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dequantize.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/dequantize-inl.h"
#include "kernels/targets.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

void DequantizeElements(DType dtype, const uint8_t* row, uint32_t elements, float* out) {
#if WEIR_IS_KERNEL_TARGET
  DequantizeBlocks(dtype, row, elements, out);
#else
  (void)dtype, (void)row, (void)elements, (void)out;
  WEIR_CHECK(false && "the CPU lacks AVX2");
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {

HWY_EXPORT(DequantizeElements);

void DequantizeRow(DType dtype, const uint8_t* row, uint64_t elements, float* out) {
  constexpr uint64_t kPiece = uint64_t{1} << 30;  // elements; a multiple of every block
  const DTypeInfo& info = GetDTypeInfo(dtype);
  WEIR_CHECK(elements % info.block_elements == 0);
  for (uint64_t i = 0; i < elements; i += kPiece) {
    const uint32_t count = static_cast<uint32_t>(elements - i < kPiece ? elements - i : kPiece);
    HWY_DYNAMIC_DISPATCH(DequantizeElements)(dtype, row + RowBytes(dtype, i), count, out + i);
  }
}

}  // namespace weir
#endif  // HWY_ONCE
