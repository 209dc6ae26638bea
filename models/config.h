// ModelConfig: a model's sizes and switches as data. One forward path (engine/transformer) reads
// these fields; what an architecture fixes stands in one table (models/architecture.h).
#ifndef WEIR_MODELS_CONFIG_H_
#define WEIR_MODELS_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "models/tensor_index.h"

namespace weir {

// How one class of layers turns a position into angles. Gemma 3 has two (global and local).
struct RopeConfig {
  RopeLayout layout = RopeLayout::kInterleaved;
  uint32_t rotary_columns = 0;
  // [rotary_columns / 2]: radians per position, with every scaling that the metadata gives (base,
  // linear factor, YaRN). Llama 3's rope_freqs and phi3's long and short factors are tensors: see
  // frequency_divisor_tensor.
  std::vector<float> inverse_frequency;
  float magnitude = 1.0f;
  // Name of a tensor [rotary_columns / 2] that inverse_frequency is divided by when loaded, or
  // empty. phi3: the long one when the context in use exceeds original_context_length.
  std::string frequency_divisor_tensor;
  std::string long_frequency_divisor_tensor;
  uint32_t original_context_length = 0;
};

struct LayerConfig {
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t feed_forward_columns = 0;
  uint32_t window =
      0;  // sliding window in tokens (a token sees itself and window - 1 before); 0: full attention
  uint32_t rope = 0;  // index into ModelConfig::ropes
};

struct ModelConfig {
  std::string architecture;    // "llama", "qwen2", ...
  std::string name;            // general.name, may be empty
  uint32_t columns = 0;        // d_model
  uint32_t key_columns = 0;    // per head
  uint32_t value_columns = 0;  // per head
  uint32_t vocabulary = 0;
  uint32_t context_length = 0;  // trained
  float norm_epsilon = 0;
  std::vector<LayerConfig> layers;
  std::vector<RopeConfig> ropes;

  float embedding_scale = 1.0f;  // gemma: sqrt(columns)
  float attention_scale = 0;     // multiplies q . k
  float attention_soft_cap = 0;  // gemma2
  float final_soft_cap = 0;      // gemma2
  GateActivation activation = GateActivation::kSilu;
  bool tied_output = false;  // no output.weight: token_embd.weight is used
};

// Reads the metadata; refuses an unknown architecture with the list of known ones, and sizes that
// do not fit together (heads, columns, zero) or would overflow.
absl::StatusOr<ModelConfig> MakeModelConfig(const TensorIndex& index);

// "llama, qwen2, ..." for messages.
std::string KnownArchitectures();

}  // namespace weir

#endif  // WEIR_MODELS_CONFIG_H_
