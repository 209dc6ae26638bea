// The one form to which every block format decodes before it is multiplied:
//
//   w = scale * (u - zero) + offset        u: uint8; scale, offset: one float32 per group
//
// over groups of 16 or 32 consecutive elements. `zero` is a constant of the format; a format has
// either a zero point or offsets, never both. Evaluated in float32 in this order (no fused
// operations), it is bit-equal to the reference decoding of each format.
#ifndef WEIR_KERNELS_GROUP_FORM_H_
#define WEIR_KERNELS_GROUP_FORM_H_

#include <cstdint>

#include "io/base.h"
#include "kernels/dtype.h"

namespace weir {

struct GroupForm {
  uint32_t group_elements;  // 16 or 32
  uint32_t zero_shift;      // zero = 1 << zero_shift; 0: no zero point
  bool has_offset;
  uint8_t max_value;  // of u
};

constexpr GroupForm GroupFormOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {32, 3, false, 15};
    case DType::kQ4_1:
      return {32, 0, true, 15};
    case DType::kQ5_0:
      return {32, 4, false, 31};
    case DType::kQ5_1:
      return {32, 0, true, 31};
    case DType::kQ8_0:
      return {32, 7, false, 255};
    case DType::kQ2_K:
      return {16, 0, true, 3};
    case DType::kQ3_K:
      return {16, 2, false, 7};
    case DType::kQ4_K:
      return {32, 0, true, 15};
    case DType::kQ5_K:
      return {32, 0, true, 31};
    case DType::kQ6_K:
      return {16, 5, false, 63};
    case DType::kIQ4_NL:
      return {32, 7, false, 255};
    case DType::kIQ4_XS:
      return {32, 7, false, 255};
    case DType::kMXFP4:
      return {32, 4, false, 28};
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      break;
  }
  return {0, 0, false, 0};  // a float format: no groups
}

// Whether products with 16-bit activations multiply a group's integer product by the integer scale
// that the format gives the group, and only then by the block's: `scale` above is the product of
// the two. Saves a conversion and a multiplication where groups are short; the integers stay below
// 2^31.
constexpr bool HasIntegerScales(DType dtype) { return dtype == DType::kQ6_K; }

}  // namespace weir

#endif  // WEIR_KERNELS_GROUP_FORM_H_
