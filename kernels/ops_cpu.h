// The CPU's implementation of every op of kernels/ops.h: what ops.cc calls for a CPU stream. The
// contracts are those of ops.h; one op_<family>_cpu.cc each.
#ifndef WEIR_KERNELS_OPS_CPU_H_
#define WEIR_KERNELS_OPS_CPU_H_

#include <algorithm>
#include <cstdint>

#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/ops.h"

namespace weir {

void QuantizeActivationsCpu(CpuStream& stream, const QuantizeActivationsArgs& args);
void MatMulCpu(CpuStream& stream, const MatMulArgs& args);
void EmbedRowsCpu(CpuStream& stream, const EmbedRowsArgs& args);
void RmsNormCpu(CpuStream& stream, const RmsNormArgs& args);
void RopeCpu(CpuStream& stream, const RopeArgs& args);
void StoreKvCpu(CpuStream& stream, const StoreKvArgs& args);
void PrepareAttentionCpu(CpuStream& stream, const PrepareAttentionArgs& args);
void AttentionCpu(CpuStream& stream, const AttentionArgs& args);
void GatedActivationCpu(CpuStream& stream, const GatedActivationArgs& args);
void AddCpu(CpuStream& stream, const AddArgs& args);
void SoftCapCpu(CpuStream& stream, const SoftCapArgs& args);
void TopLogitsCpu(CpuStream& stream, const TopLogitsArgs& args);

// A worker's part of `count` equal items: [begin, end). When the whole is smaller than
// `least_elements` (items of item_elements each), worker 0 gets everything: sharing would cost more
// than it saves.
struct WorkShare {
  uint64_t begin;
  uint64_t end;
};
inline WorkShare ShareWork(uint64_t count, uint64_t item_elements, uint64_t least_elements,
                           uint32_t worker, uint32_t workers) {
  if (count * item_elements < least_elements) return {0, worker == 0 ? count : 0};
  const uint64_t share = CeilDiv(count, workers);
  const uint64_t begin = std::min(count, worker * share);
  return {begin, std::min(count, begin + share)};
}

}  // namespace weir

#endif  // WEIR_KERNELS_OPS_CPU_H_
