#include "kernels/ops.h"

#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/ops_cpu.h"

namespace weir {
namespace {

// The CPU device's streams are the only ones built in: any other kind is a bug of the caller.
CpuStream& Cpu(Stream& stream) {
  WEIR_CHECK(stream.kind() == DeviceKind::kCpu);
  return static_cast<CpuStream&>(stream);
}

}  // namespace

void QuantizeActivations(Stream& stream, const QuantizeActivationsArgs& args) {
  QuantizeActivationsCpu(Cpu(stream), args);
}
void MatMul(Stream& stream, const MatMulArgs& args) { MatMulCpu(Cpu(stream), args); }
void EmbedRows(Stream& stream, const EmbedRowsArgs& args) { EmbedRowsCpu(Cpu(stream), args); }
void RmsNorm(Stream& stream, const RmsNormArgs& args) { RmsNormCpu(Cpu(stream), args); }
void Rope(Stream& stream, const RopeArgs& args) { RopeCpu(Cpu(stream), args); }
void StoreKv(Stream& stream, const StoreKvArgs& args) { StoreKvCpu(Cpu(stream), args); }
void Attention(Stream& stream, const AttentionArgs& args) { AttentionCpu(Cpu(stream), args); }
void GatedActivation(Stream& stream, const GatedActivationArgs& args) {
  GatedActivationCpu(Cpu(stream), args);
}
void Add(Stream& stream, const AddArgs& args) { AddCpu(Cpu(stream), args); }
void SoftCap(Stream& stream, const SoftCapArgs& args) { SoftCapCpu(Cpu(stream), args); }
void TopLogits(Stream& stream, const TopLogitsArgs& args) { TopLogitsCpu(Cpu(stream), args); }

}  // namespace weir
