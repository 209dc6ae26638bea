// Weights as float32, for every format: what embedding look-ups need and what products with float
// activations multiply.
#ifndef WEIR_KERNELS_DEQUANTIZE_H_
#define WEIR_KERNELS_DEQUANTIZE_H_

#include <cstdint>

#include "kernels/dtype.h"

namespace weir {

// Decodes a row of `elements` (a multiple of the format's block_elements: checked) that starts at
// any byte address, to out[elements]. Reads exactly RowBytes(dtype, elements). Bit-equal on every
// instruction set, and to the formats' reference decoding. The CPU must have AVX2 (checked).
void DequantizeRow(DType dtype, const uint8_t* row, uint64_t elements, float* out);

}  // namespace weir

#endif  // WEIR_KERNELS_DEQUANTIZE_H_
