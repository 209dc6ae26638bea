#include "models/architecture.h"

namespace weir {
namespace {

constexpr Architecture kArchitectures[] = {
    // Llama 2 and 3, Mistral, SmolLM. The converter permutes q and k rows to the interleaved
    // layout.
    {.name = "llama",
     .rope_layout = RopeLayout::kInterleaved,
     .window_rule = WindowRule::kEveryLayer},
    {.name = "qwen2", .qkv_bias = Presence::kRequired},
    {.name = "qwen3", .query_key_norms = true},
    {.name = "gemma",
     .activation = GateActivation::kGeluTanh,
     .scales_embedding = true,
     .ties_output = true},
    {.name = "gemma2",
     .activation = GateActivation::kGeluTanh,
     .scales_embedding = true,
     .ties_output = true,
     .post_norms = true,
     .soft_caps = true,
     .window_rule = WindowRule::kPattern,
     .window_period = 2,
     .default_window = 4096,
     .head_scale_exception_layers = 46},
    {.name = "gemma3",
     .activation = GateActivation::kGeluTanh,
     .scales_embedding = true,
     .ties_output = true,
     .query_key_norms = true,
     .post_norms = true,
     .soft_caps = true,
     .window_rule = WindowRule::kPattern,
     .window_period = 6,
     .local_rope_base = 10000,
     .head_scale_exception_layers = 62},
    {.name = "phi3",
     .fused_qkv = true,
     .fused_gate_up = true,
     .window_rule = WindowRule::kEveryLayer},
};

}  // namespace

absl::Span<const Architecture> AllArchitectures() { return kArchitectures; }

const Architecture* FindArchitecture(std::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

}  // namespace weir
