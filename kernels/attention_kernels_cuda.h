// The CUDA attention kernels and what launching one needs to know, by the columns of a value.
#ifndef WEIR_KERNELS_ATTENTION_KERNELS_CUDA_H_
#define WEIR_KERNELS_ATTENTION_KERNELS_CUDA_H_

#include <cstdint>

#include "kernels/attention_stage_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {

struct AttentionKernel {
  void (*function)(AttentionCall call);
  uint32_t rows;  // of a block
  uint32_t (*shared_bytes)(uint32_t key_padded, uint32_t value_padded);
};

// For few tokens, whose time is that of reading keys and values.
AttentionKernel DecodeAttentionKernel(uint32_t value_columns);
// For many, whose time is that of the products.
AttentionKernel PromptAttentionKernel(uint32_t value_columns);

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_ATTENTION_KERNELS_CUDA_H_
