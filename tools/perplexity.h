// How likely a model finds a text: the probability of each token after those before it.
#ifndef WEIR_TOOLS_PERPLEXITY_H_
#define WEIR_TOOLS_PERPLEXITY_H_

#include <cstdint>
#include <functional>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "tools/model_options.h"
#include "tools/planned_run.h"
#include "tools/progress.h"

namespace weir {

// Sums over tokens that have something before them.
struct TextScore {
  double log_probability = 0;  // nats
  uint64_t tokens = 0;
  uint64_t top1_hits = 0;  // the likeliest one was it

  double nats_per_token() const { return -log_probability / static_cast<double>(tokens); }
  double perplexity() const;
};

// What comes after a token of the text.
struct ScoredRow {
  absl::Span<const float> logits;  // [vocabulary]; valid during the call
  std::optional<TokenId> next;     // absent after the last
  double log_probability = 0;      // of it
  TokenId top1 = 0;
};

// A plan whose passes leave logits for each of their tokens. Fills in what of context and chunk the
// options leave open.
absl::StatusOr<PlannedRun> PlanScoring(const Model& model, uint32_t tokens, ModelOptions* options);

// `on_row` hears of each row in order and `progress` is told; both may be null. At least two
// tokens. Errors carry their exit code.
absl::StatusOr<TextScore> ScoreText(Engine& engine, absl::Span<const TokenId> tokens,
                                    const std::function<absl::Status(const ScoredRow&)>& on_row,
                                    ProgressLine* progress);

}  // namespace weir

#endif  // WEIR_TOOLS_PERPLEXITY_H_
