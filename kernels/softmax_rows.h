// The softmax pass of attention that keeps its scores in memory: half of what
// the engine's own attention (kernels/ops.h) avoids. For the experiment that
// compares the two.
#ifndef WEIR_KERNELS_SOFTMAX_ROWS_H_
#define WEIR_KERNELS_SOFTMAX_ROWS_H_

#include <cstdint>

#include "kernels/cpu_device.h"

namespace weir {

// Of row r, a token's scores of positions [0, columns): those up to positions[r
// % tokens] become exp(s - max) / sum of such, with s = scale * score, then
// soft_cap * tanh(s / soft_cap) where soft_cap > 0; the others become 0.
struct SoftmaxRowsArgs {
  float* scores;             // [rows, columns], in place
  const int32_t* positions;  // [tokens], each < columns
  uint32_t rows;             // heads * tokens, a head's one behind the other
  uint32_t tokens;
  uint32_t columns;
  float scale;
  float soft_cap;  // 0: none
};
// Asynchronous, as ops are. A row does not depend on the number of threads.
void SoftmaxRows(CpuStream& stream, const SoftmaxRowsArgs& args);

}  // namespace weir

#endif  // WEIR_KERNELS_SOFTMAX_ROWS_H_
