// Synthetic models: GGUF files of any shape and format with random weights of a sane size and a
// working tokenizer. For benchmarks of models too large to ship, and for tests of every
// architecture. Equal spec, equal bytes.
#ifndef WEIR_MODELS_SYNTHETIC_H_
#define WEIR_MODELS_SYNTHETIC_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/gguf_writer.h"
#include "models/tensor_index.h"

namespace weir {

struct SyntheticSpec {
  std::string name = "synthetic";
  std::string architecture = "llama";  // any known one
  uint32_t layers = 4;
  uint32_t columns = 256;
  uint32_t heads = 4;
  uint32_t kv_heads = 2;
  uint32_t head_columns = 0;  // 0: columns / heads
  uint32_t feed_forward_columns = 512;
  uint32_t vocabulary = 512;
  uint32_t context_length = 2048;
  uint32_t window = 0;  // tokens; only for architectures with sliding windows
  double rope_base = 10000;
  std::string rope_scaling;  // "", "linear", "yarn", "llama3" (a divisor tensor) or "longrope"
  bool tied_output = false;  // gemma's always is
  // Of the matrices: a format ("Q4_K"), a mix known from llama.cpp ("Q4_K_M", "Q5_K_M"), or
  // "mixed": every format in turn, for tests. Norms, biases and rope factors are F32.
  std::string format = "Q4_K";
  uint64_t seed = 1;
};

// "tiny", and "1b", "3b", "8b", "70b" in the shapes of Llama 3 (untied output); NotFound lists
// them.
absl::StatusOr<SyntheticSpec> SyntheticPreset(std::string_view name);
std::string KnownSyntheticPresets();
std::string KnownSyntheticFormats();

// A model planned, not written. `deviations` is parallel to `tensors`.
struct SyntheticModel {
  SyntheticSpec spec;
  Metadata metadata;
  std::vector<GgufTensor> tensors;
  std::vector<double> means;
  std::vector<double> deviations;
};

// InvalidArgument where sizes do not fit together or the format does not fit the columns.
absl::StatusOr<SyntheticModel> PlanSynthetic(const SyntheticSpec& spec);

// Plans and writes; returns the file's size. Errors as WriteGguf's. Blocks.
absl::StatusOr<uint64_t> WriteSynthetic(const std::string& path, const SyntheticSpec& spec,
                                        const GgufWriteOptions& options);

}  // namespace weir

#endif  // WEIR_MODELS_SYNTHETIC_H_
