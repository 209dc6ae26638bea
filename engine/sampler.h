// Sampler: from logits to the next token. Deterministic for a seed: its random numbers do not
// depend on the standard library.
//
// Order, as llama.cpp's users know it: repeat penalty, top-k, top-p, min-p, temperature, draw.
#ifndef WEIR_ENGINE_SAMPLER_H_
#define WEIR_ENGINE_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "models/tokenizer.h"

namespace weir {

struct SamplerOptions {
  float temperature = 0.8f;     // <= 0: greedy
  uint32_t top_k = 40;          // 0: all
  float top_p = 0.95f;          // 1: off
  float min_p = 0.05f;          // 0: off
  float repeat_penalty = 1.0f;  // 1: off (Keskar et al. 2019)
  uint32_t repeat_last_n = 64;  // tokens that the penalty looks back on
  uint64_t seed = 1;
};

// Refuses values outside their range, naming the option.
absl::Status CheckSamplerOptions(const SamplerOptions& options);

class Sampler {
 public:
  // Takes all the memory it will need.
  Sampler(const SamplerOptions& options, uint32_t vocabulary);

  // `history` is the sequence so far. Ties go to the lower id.
  TokenId Sample(absl::Span<const float> logits, absl::Span<const TokenId> history);

  // How many of the largest logits decide the token, at most kMaxTopLogits: where a device finds
  // them (TopLogits of kernels/ops.h), the others need not be fetched. 0: all logits are needed.
  uint32_t candidates() const;
  // The token that Sample would return, and the same draw, from the candidates() largest logits as
  // TopLogits gives them.
  TokenId SampleTop(absl::Span<const float> values, absl::Span<const TokenId> ids);

 private:
  struct Candidate {
    float logit;
    TokenId id;
  };

  bool penalises() const { return options_.repeat_penalty != 1.0f && options_.repeat_last_n > 0; }
  void Penalise(absl::Span<const TokenId> history);
  void KeepTopK();
  void KeepTopP();
  void KeepMinP();
  TokenId Draw();
  double NextUniform();  // [0, 1)

  SamplerOptions options_;
  uint32_t vocabulary_;
  std::vector<Candidate> candidates_;
  std::vector<uint32_t> penalised_;  // candidates already penalised, by id, in this call
  uint64_t state_;
};

// The id of the largest logit; the lowest of equals. What is not a number is least likely.
TokenId ArgMax(absl::Span<const float> logits);

// log(softmax(logits))[id], in double precision.
double LogProbability(absl::Span<const float> logits, TokenId id);

}  // namespace weir

#endif  // WEIR_ENGINE_SAMPLER_H_
