#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {

const CudaOps& Ops() {
  static constexpr CudaOps kOps = {
      .quantize_activations = &QuantizeActivationsCuda,
      .mat_mul = &MatMulCuda,
      .embed_rows = &EmbedRowsCuda,
      .rms_norm = &RmsNormCuda,
      .rope = &RopeCuda,
      .store_kv = &StoreKvCuda,
      .prepare_attention = &PrepareAttentionCuda,
      .attention = &AttentionCuda,
      .gated_activation = &GatedActivationCuda,
      .add = &AddCuda,
      .soft_cap = &SoftCapCuda,
      .top_logits = &TopLogitsCuda,
      .read_bytes = &ReadBytesCuda,
  };
  return kOps;
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
