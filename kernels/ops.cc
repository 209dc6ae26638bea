#include "kernels/ops.h"

#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/cuda_stream.h"
#include "kernels/ops_cpu.h"

namespace weir {
namespace {

// Calls the op as the stream's device has it. A kind that has no ops is a bug of the caller.
template <typename Args>
void Dispatch(Stream& stream, const Args& args, void (*cpu)(CpuStream&, const Args&),
              void (*CudaOps::*cuda)(CudaStream&, const Args&)) {
  if (stream.kind() == DeviceKind::kCpu) return cpu(static_cast<CpuStream&>(stream), args);
  WEIR_CHECK(stream.kind() == DeviceKind::kCuda);
  auto& cuda_stream = static_cast<CudaStream&>(stream);
  (cuda_stream.ops().*cuda)(cuda_stream, args);
}

}  // namespace

void QuantizeActivations(Stream& stream, const QuantizeActivationsArgs& args) {
  Dispatch(stream, args, QuantizeActivationsCpu, &CudaOps::quantize_activations);
}
void MatMul(Stream& stream, const MatMulArgs& args) {
  Dispatch(stream, args, MatMulCpu, &CudaOps::mat_mul);
}
void EmbedRows(Stream& stream, const EmbedRowsArgs& args) {
  Dispatch(stream, args, EmbedRowsCpu, &CudaOps::embed_rows);
}
void RmsNorm(Stream& stream, const RmsNormArgs& args) {
  Dispatch(stream, args, RmsNormCpu, &CudaOps::rms_norm);
}
void Rope(Stream& stream, const RopeArgs& args) { Dispatch(stream, args, RopeCpu, &CudaOps::rope); }
void StoreKv(Stream& stream, const StoreKvArgs& args) {
  Dispatch(stream, args, StoreKvCpu, &CudaOps::store_kv);
}
void PrepareAttention(Stream& stream, const PrepareAttentionArgs& args) {
  Dispatch(stream, args, PrepareAttentionCpu, &CudaOps::prepare_attention);
}
void Attention(Stream& stream, const AttentionArgs& args) {
  Dispatch(stream, args, AttentionCpu, &CudaOps::attention);
}
void GatedActivation(Stream& stream, const GatedActivationArgs& args) {
  Dispatch(stream, args, GatedActivationCpu, &CudaOps::gated_activation);
}
void Add(Stream& stream, const AddArgs& args) { Dispatch(stream, args, AddCpu, &CudaOps::add); }
void SoftCap(Stream& stream, const SoftCapArgs& args) {
  Dispatch(stream, args, SoftCapCpu, &CudaOps::soft_cap);
}
void TopLogits(Stream& stream, const TopLogitsArgs& args) {
  Dispatch(stream, args, TopLogitsCpu, &CudaOps::top_logits);
}

}  // namespace weir
