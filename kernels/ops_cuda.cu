#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {

const CudaOps& Ops() {
  static constexpr CudaOps kOps = {
      .quantize_activations = &QuantizeActivationsCuda,
      .mat_mul = &MatMulCuda,
      .embed_rows = &EmbedRowsCuda,
      .rms_norm = &RmsNormCuda,
      .rope = nullptr,
      .store_kv = nullptr,
      .attention = nullptr,
      .gated_activation = &GatedActivationCuda,
      .add = &AddCuda,
      .soft_cap = &SoftCapCuda,
  };
  return kOps;
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
