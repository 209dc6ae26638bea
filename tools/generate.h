// One generation: prompt in, tokens out, with the times that the report needs.
#ifndef WEIR_TOOLS_GENERATE_H_
#define WEIR_TOOLS_GENERATE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "engine/session.h"

namespace weir {

struct GenerateOptions {
  int64_t max_tokens = -1;  // -1: until the end token or the context is full
  bool ignore_end = false;  // for benchmarks: end tokens are tokens like any other
};

struct Generation {
  enum class Stop { kEndToken, kLength, kContextFull, kInterrupted };

  uint32_t prompt_tokens = 0;
  std::vector<TokenId> tokens;  // made; without the end token
  double prompt_s = 0;          // to the logits that the first token comes from
  double decode_s = 0;          // from the first token to the last
  int64_t first_token_ns = 0;   // RealClock
  uint64_t decode_passes = 0;
  uint64_t decode_read_bytes = 0;    // in decode_s, by the engine's reader
  uint64_t decode_kernel_bytes = 0;  // the same by the kernel's count; 0: not available
  uint64_t decode_copy_bytes = 0;    // in decode_s, over the link to an accelerator
  // By all threads between the first token and the last, what `on_token` did included.
  std::optional<uint64_t> decode_allocations;
  Stop stop = Stop::kLength;

  double decode_reading_cpu_s = 0;  // EngineStats::reading_cpu_ns, meanwhile

  double prompt_tokens_per_s() const;
  double decode_tokens_per_s() const;
  double decode_read_bytes_per_s() const;
  double decode_copy_bytes_per_s() const;
};

// Appends `prompt` and what is generated to the session. `on_token` sees each token made. An
// interrupt ends it with Stop::kInterrupted and what was made so far. An engine that leaves the
// largest logits only leaves as many as the sampler asks for (Sampler::candidates).
absl::StatusOr<Generation> Generate(Engine& engine, Session& session, Sampler& sampler,
                                    const Tokenizer& tokenizer, absl::Span<const TokenId> prompt,
                                    const GenerateOptions& options,
                                    const std::function<absl::Status(TokenId)>& on_token);

}  // namespace weir

#endif  // WEIR_TOOLS_GENERATE_H_
