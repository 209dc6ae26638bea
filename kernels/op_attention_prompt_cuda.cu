// Attention of more than 8 tokens: blocks of 64 rows, a warp to each 16 of them.
//
// Of D columns, a pair of a row and a position costs 2 D products and sums for its score, the query
// being two halves, and D for the value; a causal prompt of T tokens has T^2 / 2 pairs a head. For
// each 16 x 64 pairs a warp issues 24 D / 16 matrix products and loads 10 D / 16 quads of matrices
// from shared memory, whose bandwidth is then about as busy as the matrix units. Keys and values
// come through the L2 cache once for each tile of 64 rows.
#include "io/base.h"
#include "kernels/attention_block_cuda.h"
#include "kernels/attention_kernels_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

using Narrow = AttentionShape<64, 4, 64, 1>;  // 37 KiB of shared memory
using Usual = AttentionShape<128, 4, 64, 1>;  // 69 KiB
using Wide = AttentionShape<256, 2, 32, 1>;   // 67 KiB: no more than GPUs of all kinds have

WEIR_KERNEL(kAttentionThreads, 3) void PromptNarrowKernel(AttentionCall call) {
  AttendBlock<Narrow>(call);
}
WEIR_KERNEL(kAttentionThreads, 3) void PromptUsualKernel(AttentionCall call) {
  AttendBlock<Usual>(call);
}
WEIR_KERNEL(kAttentionThreads, 2) void PromptWideKernel(AttentionCall call) {
  AttendBlock<Wide>(call);
}

}  // namespace

AttentionKernel PromptAttentionKernel(uint32_t value_columns) {
  WEIR_CHECK(value_columns <= kMostCudaHeadColumns);
  if (value_columns <= Narrow::kColumns) {
    return {PromptNarrowKernel, Narrow::kRows, AttentionSharedBytes<Narrow>};
  }
  if (value_columns <= Usual::kColumns) {
    return {PromptUsualKernel, Usual::kRows, AttentionSharedBytes<Usual>};
  }
  return {PromptWideKernel, Wide::kRows, AttentionSharedBytes<Wide>};
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
