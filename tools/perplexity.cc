#include "tools/perplexity.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/sampler.h"
#include "io/base.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"

namespace weir {
namespace {

// Tokens per pass: all of them need a row of logits, which a vocabulary of 262,144 makes a
// megabyte.
constexpr uint32_t kChunkTokens = 32;

}  // namespace

double TextScore::perplexity() const { return std::exp(nats_per_token()); }

absl::StatusOr<PlannedRun> PlanScoring(const Model& model, uint32_t tokens, ModelOptions* options) {
  const uint32_t chunk =
      std::min(tokens, options->chunk_tokens == 0 ? kChunkTokens : options->chunk_tokens);
  if (options->plan_file.empty()) {
    options->chunk_tokens = chunk;
    if (options->context_tokens == 0) options->context_tokens = tokens;
  }
  return PlanFromOptions(
      model, *options,
      {.min_context_tokens = tokens, .prompt_tokens = tokens, .logit_rows = chunk});
}

absl::StatusOr<TextScore> ScoreText(Engine& engine, absl::Span<const TokenId> tokens,
                                    const std::function<absl::Status(const ScoredRow&)>& on_row,
                                    ProgressLine* progress) {
  TextScore score;
  const std::unique_ptr<Session> session = engine.NewSession();
  const size_t chunk = std::min(engine.plan().shape.chunk_tokens, engine.plan().shape.logit_rows);
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t count = std::min<size_t>(chunk, tokens.size() - begin);
    const absl::Status status =
        engine.Forward(*session, tokens.subspan(begin, count), static_cast<uint32_t>(count),
                       begin + count < tokens.size());
    if (absl::IsCancelled(status)) return WithExitCode(InterruptExitCode(), status);
    if (!status.ok()) return WithExitCode(ExitCode::kIo, status);
    for (size_t i = 0; i < count; ++i) {
      ScoredRow row;
      row.logits = engine.logits(static_cast<uint32_t>(i));
      if (begin + i + 1 < tokens.size()) {
        row.next = tokens[begin + i + 1];
        row.log_probability = LogProbability(row.logits, *row.next);
        row.top1 = ArgMax(row.logits);
        score.log_probability += row.log_probability;
        score.top1_hits += row.top1 == *row.next ? 1 : 0;
        ++score.tokens;
      }
      if (on_row) WEIR_RETURN_IF_ERROR(on_row(row));
    }
    if (progress == nullptr) continue;
    progress->Update(static_cast<double>(begin + count) / static_cast<double>(tokens.size()),
                     engine.stats().reader.bytes_read);
  }
  return score;
}

}  // namespace weir
