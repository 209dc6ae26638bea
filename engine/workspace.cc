#include "engine/workspace.h"

#include <algorithm>

#include "io/base.h"
#include "kernels/ops.h"

namespace weir {
namespace {

constexpr uint64_t kAlignment = 64;

// Hands out consecutive aligned pieces; with a null base it only measures.
class Carver {
 public:
  explicit Carver(uint8_t* base) : base_(base) {}

  template <typename T>
  T* Take(uint64_t count) {
    const uint64_t offset = used_bytes_;
    used_bytes_ = AlignUp(offset + count * sizeof(T), kAlignment);
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset);
  }
  uint64_t used_bytes() const { return used_bytes_; }

 private:
  uint8_t* base_;
  uint64_t used_bytes_ = 0;
};

struct Widths {
  uint32_t qkv = 0;
  uint32_t attended = 0;
  uint32_t feed_forward = 0;
};

Widths WidestLayer(const ModelConfig& config) {
  Widths widest;
  for (const LayerConfig& layer : config.layers) {
    const uint32_t keys_values = layer.kv_heads * (config.key_columns + config.value_columns);
    widest.qkv = std::max(widest.qkv, layer.heads * config.key_columns + keys_values);
    widest.attended = std::max(widest.attended, layer.heads * config.value_columns);
    widest.feed_forward = std::max(widest.feed_forward, layer.feed_forward_columns);
  }
  return widest;
}

}  // namespace

WorkspaceWidths WidestProducts(const ModelConfig& config) {
  const Widths widest = WidestLayer(config);
  return {.input = std::max({config.columns, widest.attended, widest.feed_forward}),
          .output = std::max({config.columns, widest.qkv, 2 * widest.feed_forward})};
}

namespace {

Workspace Carve(const ModelConfig& config, const WorkspaceShape& shape, Carver* carver) {
  const Widths widest = WidestLayer(config);
  const uint64_t tokens = shape.chunk_tokens;
  const uint32_t widest_input = WidestProducts(config).input;
  Workspace w;
  w.qkv_columns = widest.qkv;
  w.gate_up_columns = 2 * widest.feed_forward;
  w.residual = carver->Take<float>(tokens * config.columns);
  w.normed = carver->Take<float>(tokens * config.columns);
  w.quantized = carver->Take<uint8_t>(QuantizedActivationBytes(tokens, AlignUp(widest_input, 32)));
  w.qkv = carver->Take<float>(tokens * w.qkv_columns);
  w.attended = carver->Take<float>(tokens * widest.attended);
  w.gate_up = carver->Take<float>(tokens * w.gate_up_columns);
  w.projected = carver->Take<float>(tokens * config.columns);
  w.logits = carver->Take<float>(uint64_t{shape.logit_rows} * config.vocabulary);
  const uint64_t top = uint64_t{shape.logit_rows} * kMaxTopLogits;
  w.top_values = carver->Take<float>(top);
  w.top_ids = carver->Take<int32_t>(top);
  return w;
}

}  // namespace

uint64_t WorkspaceBytes(const ModelConfig& config, const WorkspaceShape& shape) {
  Carver carver(nullptr);
  Carve(config, shape, &carver);
  return carver.used_bytes();
}

Workspace LayOutWorkspace(const ModelConfig& config, const WorkspaceShape& shape, uint8_t* memory) {
  Carver carver(memory);
  return Carve(config, shape, &carver);
}

}  // namespace weir
