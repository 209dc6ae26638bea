// Slow scalar references for weights and matrix products, written from the descriptions of the
// formats one element at a time and sharing no code with kernels/.
#ifndef WEIR_TESTS_KERNELS_REFERENCE_HELPER_H_
#define WEIR_TESTS_KERNELS_REFERENCE_HELPER_H_

#include <cstdint>
#include <vector>

#include "kernels/dtype.h"

namespace weir {

// One element of a row, in double precision: exact but for the formats' own roundings.
double ReferenceElement(DType dtype, const uint8_t* row, uint64_t index);

// What a block format stores of one element: w = scale * integer + offset.
struct ReferenceParts {
  float scale;
  int integer;
  float offset;  // 0 in formats without
  bool has_offset;
  // scale = block_scale * group_scale in formats whose products in 16 bits take them apart.
  float block_scale = 0;
  int group_scale = 0;
};
ReferenceParts ReferencePartsOf(DType dtype, const uint8_t* row, uint64_t index);

// Elements that share scale and offset; 0 for float formats.
uint32_t ReferenceGroupElements(DType dtype);

// float16 and bfloat16 by their definitions.
double ReferenceHalf(uint16_t bits);
double ReferenceBFloat(uint16_t bits);

// Random bytes of `rows` rows whose scales are finite and of moderate size (2^-10 to 2^-4), so that
// products neither overflow nor vanish.
std::vector<uint8_t> RandomWeights(DType dtype, uint64_t rows, uint64_t columns, uint64_t seed);

// Values of a normal distribution, some of them in runs of zeros and with outliers, as activations
// have.
std::vector<float> RandomActivations(uint64_t count, uint64_t seed);

// Activations quantised by definition: groups of 32, scale max|x| / most.
struct ReferenceQuantized {
  std::vector<int> values;    // [columns]
  std::vector<float> scales;  // [columns / 32]
  int most = 0;               // as it was given
};
ReferenceQuantized ReferenceQuantize(const float* input, uint64_t columns, int most);

// The sum that kernels/matmul_cpu.h promises, bit for bit.
// `parts`: of the row's elements, which share scales in groups of `group`.
float ReferenceQuantizedDot(const ReferenceParts* parts, uint32_t group,
                            const ReferenceQuantized& input);

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_REFERENCE_HELPER_H_
