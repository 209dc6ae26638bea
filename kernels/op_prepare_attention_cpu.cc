#include "kernels/ops_cpu.h"

namespace weir {
namespace {

// Queries or keys, in place.
void NormAndRotate(CpuStream& stream, const PrepareAttentionArgs& args, float* data, uint32_t heads,
                   const float* norm) {
  if (norm != nullptr) {
    RmsNormCpu(stream, {.input = data,
                        .input_stride = args.stride,
                        .weight = norm,
                        .output = data,
                        .output_stride = args.stride,
                        .tokens = args.tokens,
                        .groups = heads,
                        .columns = args.layout.key_columns,
                        .epsilon = args.norm_epsilon});
  }
  RopeCpu(stream, {.data = data,
                   .stride = args.stride,
                   .positions = args.positions,
                   .inverse_frequency = args.inverse_frequency,
                   .tokens = args.tokens,
                   .heads = heads,
                   .head_columns = args.layout.key_columns,
                   .rotary_columns = args.rotary_columns,
                   .magnitude = args.magnitude,
                   .layout = args.rope});
}

}  // namespace

void PrepareAttentionCpu(CpuStream& stream, const PrepareAttentionArgs& args) {
  NormAndRotate(stream, args, args.queries, args.heads, args.query_norm);
  NormAndRotate(stream, args, args.keys, args.layout.kv_heads, args.key_norm);
  StoreKvCpu(stream, {.keys = args.keys,
                      .keys_stride = args.stride,
                      .values = args.values,
                      .values_stride = args.stride,
                      .pages = args.pages,
                      .positions = args.positions,
                      .tokens = args.tokens,
                      .layout = args.layout});
}

}  // namespace weir
