// The sampling options that run and chat share, under the names llama.cpp's users know.
#ifndef WEIR_TOOLS_SAMPLER_OPTIONS_H_
#define WEIR_TOOLS_SAMPLER_OPTIONS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/sampler.h"
#include "tools/cli_app.h"

namespace weir {

struct SamplingFlags {
  SamplerOptions sampler;
  int64_t seed = -1;        // -1: from the system's entropy
  int64_t max_tokens = -1;  // -n
  bool ignore_end = false;
};

void AddSamplingOptions(CLI::App& command, SamplingFlags* flags);

// Checked, with a seed in place.
absl::StatusOr<SamplerOptions> SamplerFrom(const SamplingFlags& flags);

}  // namespace weir

#endif  // WEIR_TOOLS_SAMPLER_OPTIONS_H_
