// PrepareAttention: a warp does whole heads of one token, at each step what the op for it alone
// does, in the same order. It saves up to four launches a layer and reads and writes everything
// once.
#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/head_columns_cuda.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / kWarpThreads;
constexpr uint32_t kMostColumns = 256;
constexpr uint32_t kLanePairs = kMostColumns / 2 / kWarpThreads;
// With as many tokens blocks are many: a warp then does several heads, with the same sines.
constexpr uint32_t kManyTokens = 64;
constexpr uint32_t kWarpHeads = 4;

struct PrepareCall {
  PrepareAttentionArgs args;
  uint32_t warp_heads;
};

// What a head's columns are multiplied with: the norm, where there is one.
struct HeadNorm {
  const float* weights;  // or null
  float scale;

  WEIR_DEVICE float Of(float value, uint32_t column) const {
    return weights == nullptr ? value : value * scale * weights[column];
  }
};

WEIR_DEVICE HeadNorm NormOf(const float* head, const float* weights, uint32_t columns,
                            float epsilon) {
  if (weights == nullptr) return {nullptr, 1.0f};
  float sum = 0;
  for (uint32_t c = LaneIndex(); c < columns; c += kWarpThreads) sum = Fma(head[c], head[c], sum);
  const float mean = WarpSum(sum) / static_cast<float>(columns);
  return {weights, 1.0f / SquareRoot(mean + epsilon)};
}

// Norm and rotation of one head; `put(column, value)` takes the results.
template <typename Put>
WEIR_DEVICE void TurnHead(const PrepareAttentionArgs& args, const float* head, const float* weights,
                          const SineCosine (&turns)[kLanePairs], const Put& put) {
  const uint32_t columns = args.layout.key_columns;
  const uint32_t pairs = args.rotary_columns / 2;
  const HeadNorm norm = NormOf(head, weights, columns, args.norm_epsilon);
  WEIR_UNROLL
  for (uint32_t k = 0; k < kLanePairs; ++k) {
    const uint32_t i = LaneIndex() + k * kWarpThreads;
    if (i >= pairs) break;
    const ColumnPair at = PairOf(args.rope, pairs, i);
    const Rotated rotated =
        Rotate(norm.Of(head[at.first], at.first), norm.Of(head[at.second], at.second), turns[k]);
    put(at.first, rotated.first);
    put(at.second, rotated.second);
  }
  for (uint32_t c = 2 * pairs + LaneIndex(); c < columns; c += kWarpThreads) {
    put(c, norm.Of(head[c], c));
  }
}

// Blocks: x tokens; y heads, those of queries, then of keys, then of values.
WEIR_KERNEL(kThreads, 4) void PrepareKernel(PrepareCall call) {
  const PrepareAttentionArgs& args = call.args;
  const KvLayout& l = args.layout;
  const uint64_t token = BlockX();
  const auto position = static_cast<uint32_t>(args.positions[token]);
  SineCosine turns[kLanePairs] = {};
  WEIR_UNROLL
  for (uint32_t k = 0; k < kLanePairs; ++k) {
    const uint32_t i = LaneIndex() + k * kWarpThreads;
    if (i >= args.rotary_columns / 2) break;
    turns[k] = TurnOf(args.positions[token], args.inverse_frequency[i], args.magnitude);
  }
  auto* const page = reinterpret_cast<uint16_t*>(args.pages[position / l.page_tokens]);
  const uint64_t slot_row = uint64_t{position % l.page_tokens} * l.kv_heads;
  const uint64_t page_keys = uint64_t{l.page_tokens} * l.kv_heads * l.key_columns;
  const uint32_t first = (BlockY() * kWarps + WarpIndex()) * call.warp_heads;
  for (uint32_t h = first; h < first + call.warp_heads; ++h) {
    if (h < args.heads) {
      float* const head = args.queries + token * args.stride + uint64_t{h} * l.key_columns;
      TurnHead(args, head, args.query_norm, turns, [&](uint32_t c, float v) { head[c] = v; });
    } else if (h < args.heads + l.kv_heads) {
      const uint64_t kv = h - args.heads;
      uint16_t* const to = page + (slot_row + kv) * l.key_columns;
      TurnHead(args, args.keys + token * args.stride + kv * l.key_columns, args.key_norm, turns,
               [&](uint32_t c, float v) { to[c] = static_cast<uint16_t>(StoredHalf(v)); });
    } else if (h < args.heads + 2 * l.kv_heads) {
      const uint64_t kv = h - args.heads - l.kv_heads;
      const float* const from = args.values + token * args.stride + kv * l.value_columns;
      uint16_t* const to = page + page_keys + (slot_row + kv) * l.value_columns;
      for (uint32_t c = LaneIndex(); c < l.value_columns; c += kWarpThreads) {
        to[c] = static_cast<uint16_t>(StoredHalf(from[c]));
      }
    }
  }
}

}  // namespace

void PrepareAttentionCuda(CudaStream& stream, const PrepareAttentionArgs& args) {
  WEIR_CHECK(args.rotary_columns % 2 == 0 && args.rotary_columns <= args.layout.key_columns);
  WEIR_CHECK(args.layout.page_tokens > 0 && args.layout.key_columns <= kMostColumns);
  WEIR_CHECK(args.layout.order == KvOrder::kByToken);
  WEIR_CHECK(args.layout.formats == KvFormats{});
  PrepareCall call = {args, args.tokens < kManyTokens ? 1 : kWarpHeads};
  const uint32_t heads = args.heads + 2 * args.layout.kv_heads;
  LaunchShape shape;
  shape.blocks_x = args.tokens;
  shape.blocks_y = static_cast<uint32_t>(CeilDiv(heads, kWarps * call.warp_heads));
  shape.threads = kThreads;
  Launch(stream, shape, PrepareKernel, call);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
