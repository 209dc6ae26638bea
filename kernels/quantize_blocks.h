// Weights from float32 to the formats that weir can write: the other way round than
// kernels/dequantize.h.
//
// The layouts are ggml's (kernels/quant_blocks.h, docs/formats.md); how scales are chosen is free,
// and is our own: for each block the sum of squared errors is made small by alternating between
// rounding to the nearest codes and solving for the scale (and offset) that suits these codes best,
// from several starting points. All weights of a block count alike, because nothing is known here
// of the activations that they will meet.
#ifndef WEIR_KERNELS_QUANTIZE_BLOCKS_H_
#define WEIR_KERNELS_QUANTIZE_BLOCKS_H_

#include <cstdint>
#include <string>

#include "kernels/dtype.h"

namespace weir {

// F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K.
bool CanQuantizeTo(DType dtype);
// Their names, for messages.
std::string QuantizableFormats();

// The largest magnitude that the format takes: of block formats and F16 what float16 holds.
float LargestQuantizable(DType dtype);

// Index of the first of values[elements] that the format cannot hold (NaN, an infinity, or beyond
// LargestQuantizable); `elements` when all are well.
uint64_t FindUnquantizable(DType dtype, const float* values, uint64_t elements);

// Encodes values[elements], all of which FindUnquantizable passes (checked), to
// RowBytes(dtype, elements) at `row`, any address. `elements` is whole blocks (checked). F16 and
// BF16: nearest, ties to even. The same bytes on every instruction set, whatever else is encoded
// beside them. The CPU must have AVX2 (checked). Any thread; nothing is allocated.
void QuantizeRow(DType dtype, const float* values, uint64_t elements, uint8_t* row);

}  // namespace weir

#endif  // WEIR_KERNELS_QUANTIZE_BLOCKS_H_
