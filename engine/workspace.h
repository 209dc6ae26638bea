// Workspace: the activations of one pass, laid out once in one allocation for the largest pass.
#ifndef WEIR_ENGINE_WORKSPACE_H_
#define WEIR_ENGINE_WORKSPACE_H_

#include <cstdint>

#include "models/config.h"

namespace weir {

// Views into memory that the owner of the allocation keeps. T is chunk_tokens.
struct Workspace {
  float* residual = nullptr;     // [T, columns]
  float* normed = nullptr;       // [T, columns]
  uint8_t* quantized = nullptr;  // of the widest matrix input
  float* qkv = nullptr;          // [T, qkv_columns]: queries, keys, values of a token side by side
  float* attended = nullptr;     // [T, heads * value_columns]
  float* gate_up = nullptr;      // [T, 2 * feed_forward_columns]: gate, then up
  float* projected = nullptr;    // [T, columns]: a projection before its post norm
  float* logits = nullptr;       // [logit_rows, vocabulary]
  // The largest logits: [logit_rows, k], k at most kMaxTopLogits.
  float* top_values = nullptr;
  int32_t* top_ids = nullptr;

  uint32_t qkv_columns = 0;
  uint32_t gate_up_columns = 0;
};

struct WorkspaceShape {
  uint32_t chunk_tokens = 0;
  uint32_t logit_rows = 0;
};

// Of the widest matrix input, and of the widest output that is not the vocabulary: floats a token.
struct WorkspaceWidths {
  uint32_t input = 0;
  uint32_t output = 0;
};
WorkspaceWidths WidestProducts(const ModelConfig& config);

uint64_t WorkspaceBytes(const ModelConfig& config, const WorkspaceShape& shape);

// `memory` is WorkspaceBytes long and 4096-byte aligned.
Workspace LayOutWorkspace(const ModelConfig& config, const WorkspaceShape& shape, uint8_t* memory);

}  // namespace weir

#endif  // WEIR_ENGINE_WORKSPACE_H_
