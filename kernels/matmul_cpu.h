// The two matrix products of the CPU device, each over a range of rows: what a worker runs. Private
// to the ops. Arguments are those of MatMul (kernels/ops.h), already checked.
#ifndef WEIR_KERNELS_MATMUL_CPU_H_
#define WEIR_KERNELS_MATMUL_CPU_H_

#include <cstdint>

#include "kernels/ops.h"

namespace weir {

// Rows that are decoded together: ranges of rows had better begin at multiples.
inline constexpr uint32_t kTileRows = 16;

// Quantised activations with weights in a block format. With dot(g) the exact integer product of
// group g's u - zero with q, and s, o, a the weight's scale, its offset and the activation's scale:
//   sum = 0;  for g ascending: sum = fma(float(dot(g)), s * a, sum)
//             and, in formats with offsets,  sum = fma(o, a * float(sum of q in g), sum)
//   output = (sum + bias) [+ output]
// With 16-bit activations and a format whose groups have integer scales c of their own
// (HasIntegerScales), dot(g) is multiplied by c first, and s is the block's scale alone.
// So every instruction set, T and cut of the weight gives the same bits. Rows [begin, end).
// `scratch`: CpuStream::kScratchBytes.
void MultiplyQuantizedRows(const MatMulArgs& args, uint32_t begin, uint32_t end, uint8_t* scratch);

// Float activations with weights in any format. Columns are taken in chunks of kFloatChunk; inside
// a chunk, column c is added by fma to one of 16 sums, number c mod 16, which are then added up by
// halving (8 to 8, 4 to 4, 2 to 2, 1 to 1), and the chunks' results in order:
//   output = (sum + bias) [+ output]
// likewise the same bits everywhere.
inline constexpr uint32_t kFloatChunk = 512;
void MultiplyFloatRows(const MatMulArgs& args, uint32_t begin, uint32_t end, uint8_t* scratch);

// The last step of both: output[t, row] from `sum`.
inline void StoreOutput(const MatMulArgs& args, uint32_t token, uint32_t row, float sum) {
  float* output = args.output + uint64_t{token} * args.output_stride + row;
  if (args.bias != nullptr) sum += args.bias[row];
  *output = args.accumulate ? *output + sum : sum;
}

}  // namespace weir

#endif  // WEIR_KERNELS_MATMUL_CPU_H_
