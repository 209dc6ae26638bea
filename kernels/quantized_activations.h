// How the CPU device lays out quantised activations: x = scale * q over groups of 32 columns, q in
// [-127, 127], with the sums of q that zero points and offsets of weights multiply. Private to the
// matrix products; others treat it as bytes (kernels/ops.h).
#ifndef WEIR_KERNELS_QUANTIZED_ACTIVATIONS_H_
#define WEIR_KERNELS_QUANTIZED_ACTIVATIONS_H_

#include <cstdint>

#include "io/base.h"

namespace weir {

// Byte offsets inside one token's record. `columns` is a multiple of 32.
class QuantizedLayout {
 public:
  explicit constexpr QuantizedLayout(uint64_t columns) : columns_(columns) {}

  constexpr uint64_t values() const { return 0; }                      // int8 [columns]
  constexpr uint64_t scales() const { return AlignUp(columns_, 64); }  // float [columns / 32]
  // float [columns / group]: scale * (sum of q over the group)
  constexpr uint64_t scaled_sums(uint32_t group) const {
    return scales() + Words() + (group == 16 ? Words() : 0);
  }
  // int32 [columns / group]: -(sum of q over the group)
  constexpr uint64_t negative_sums(uint32_t group) const {
    return scales() + 4 * Words() + (group == 16 ? Words() : 0);
  }
  constexpr uint64_t token_bytes() const { return AlignUp(scales() + 7 * Words(), 64); }

 private:
  constexpr uint64_t Words() const { return columns_ / 32 * 4; }  // of one array over groups of 32
  uint64_t columns_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_QUANTIZED_ACTIVATIONS_H_
