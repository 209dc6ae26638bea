// Architectures as data: how the known ones differ, one row each. Everything that depends on an
// architecture reads this table; nothing compares names.
//
// Sources of the facts: the models' configurations and code in Hugging Face transformers, and the
// metadata and layouts that llama.cpp's converter writes (see docs/formats.md).
#ifndef WEIR_MODELS_ARCHITECTURE_H_
#define WEIR_MODELS_ARCHITECTURE_H_

#include <cstdint>
#include <string_view>

#include "absl/types/span.h"
#include "kernels/ops.h"

namespace weir {

// Which layers see only a sliding window, where the file gives one.
enum class WindowRule : uint8_t {
  kNever,       // the key is ignored: no released model of this kind uses one
  kEveryLayer,  // mistral (as "llama"), phi3
  kPattern,     // all but every window_period-th layer
};

enum class Presence : uint8_t { kAbsent, kOptional, kRequired };

struct Architecture {
  std::string_view name;  // general.architecture
  RopeLayout rope_layout = RopeLayout::kHalves;
  GateActivation activation = GateActivation::kSilu;
  bool scales_embedding = false;  // by sqrt(columns)
  bool ties_output = false;       // released models have no output.weight
  Presence qkv_bias = Presence::kOptional;
  bool query_key_norms = false;
  bool post_norms = false;  // after attention and after the feed-forward, before the residual
  bool fused_qkv = false;   // written as one tensor by the converter
  bool fused_gate_up = false;
  bool soft_caps = false;
  WindowRule window_rule = WindowRule::kNever;
  uint32_t window_period = 0;   // kPattern: layers i with i % period == period - 1 see everything
  uint32_t default_window = 0;  // tokens, where the file gives none
  double local_rope_base = 0;   // of the windowed layers, without scaling; 0: the same rope for all
  // The one size whose attention scale is 1/sqrt(columns / heads) rather than 1/sqrt(key_columns):
  // its number of layers (gemma 27b; the file does not say it). 0: none.
  uint32_t head_scale_exception_layers = 0;
};

absl::Span<const Architecture> AllArchitectures();
// Null when unknown.
const Architecture* FindArchitecture(std::string_view name);

}  // namespace weir

#endif  // WEIR_MODELS_ARCHITECTURE_H_
