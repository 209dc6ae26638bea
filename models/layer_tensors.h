// The one list of a model's tensors: which exist, what they are called in a GGUF, what shape each
// must have. Everything that walks a model's weights walks this.
#ifndef WEIR_MODELS_LAYER_TENSORS_H_
#define WEIR_MODELS_LAYER_TENSORS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/config.h"
#include "models/tensor_index.h"

namespace weir {

// Null where the architecture has none. Small ones (norms, biases) are vectors of f32/f16/bf16; the
// matrices may have any dtype. Pointers are into the TensorIndex, which must outlive this.
struct LayerTensors {
  const TensorInfo* attention_norm = nullptr;  // attn_norm
  const TensorInfo* query = nullptr;           // attn_q  [heads * key_columns, columns]
  const TensorInfo* key = nullptr;             // attn_k
  const TensorInfo* value = nullptr;           // attn_v
  const TensorInfo* fused_qkv =
      nullptr;  // attn_qkv (phi3): q, k, v rows in this order; the three are null
  const TensorInfo* query_bias = nullptr;
  const TensorInfo* key_bias = nullptr;
  const TensorInfo* value_bias = nullptr;
  const TensorInfo* query_norm = nullptr;  // attn_q_norm [key_columns]
  const TensorInfo* key_norm = nullptr;
  const TensorInfo* attention_output = nullptr;  // attn_output
  const TensorInfo* attention_output_bias = nullptr;
  const TensorInfo* attention_post_norm = nullptr;  // post_attention_norm (gemma2, gemma3)
  const TensorInfo* feed_forward_norm = nullptr;    // ffn_norm
  const TensorInfo* gate = nullptr;                 // ffn_gate; null when `up` is fused
  const TensorInfo* up = nullptr;    // ffn_up; phi3: [2 * ff, columns], gate rows first
  const TensorInfo* down = nullptr;  // ffn_down
  const TensorInfo* feed_forward_post_norm = nullptr;  // post_ffw_norm
  bool fused_gate_up = false;
};

struct ModelTensors {
  const TensorInfo* embedding = nullptr;  // token_embd.weight [vocabulary, columns]
  const TensorInfo* output_norm = nullptr;
  const TensorInfo* output = nullptr;  // equals embedding when tied
  std::vector<LayerTensors> layers;
  std::vector<const TensorInfo*>
      rope_divisors;  // parallel to config.ropes: the short/only one, or null
  std::vector<const TensorInfo*> long_rope_divisors;  // likewise
};

// A tensor that a model of this config has or may have.
struct ExpectedTensor {
  std::string name;
  std::vector<uint64_t> dims;  // fastest first, as in TensorInfo
  bool is_vector = false;      // norms, biases, divisors: float formats only
  bool required = true;
  const TensorInfo* LayerTensors::*slot = nullptr;  // null for those outside the layers
  uint32_t layer = 0;                               // where `slot` is set
};

// All of them, in the order in which files usually have them: what BindModelTensors looks for and
// what the generator of synthetic models writes. `config.architecture` is a known one (checked).
std::vector<ExpectedTensor> ListExpectedTensors(const ModelConfig& config);

// Checks presence and shape of each, and refuses a file with tensors that the architecture does not
// know (leaving them out would give wrong text, silently); errors name file, tensor, shape found
// and shape expected.
absl::StatusOr<ModelTensors> BindModelTensors(const TensorIndex& index, const ModelConfig& config);

}  // namespace weir

#endif  // WEIR_MODELS_LAYER_TENSORS_H_
