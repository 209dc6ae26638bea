#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/split_mix.h"
#include "kernels/ops.h"

namespace weir {
namespace {

absl::Status Refuse(const char* option, double value, const char* range) {
  return absl::InvalidArgumentError(
      absl::StrCat(option, " ", value, " is outside its range: ", range));
}

}  // namespace

absl::Status CheckSamplerOptions(const SamplerOptions& options) {
  if (!std::isfinite(options.temperature) || options.temperature < 0) {
    return Refuse("--temp", options.temperature, "0 (greedy) or more");
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    return Refuse("--top-p", options.top_p, "more than 0, at most 1 (off)");
  }
  if (!(options.min_p >= 0 && options.min_p <= 1)) {
    return Refuse("--min-p", options.min_p, "0 (off) to 1");
  }
  if (!std::isfinite(options.repeat_penalty) || options.repeat_penalty <= 0) {
    return Refuse("--repeat-penalty", options.repeat_penalty, "more than 0; 1 is off");
  }
  return absl::OkStatus();
}

Sampler::Sampler(const SamplerOptions& options, uint32_t vocabulary)
    : options_(options), vocabulary_(vocabulary), candidates_(vocabulary), state_(options.seed) {
  penalised_.reserve(std::min(options.repeat_last_n, vocabulary));
}

TokenId Sampler::Sample(absl::Span<const float> logits, absl::Span<const TokenId> history) {
  WEIR_CHECK(!logits.empty());
  if (options_.temperature <= 0 && !penalises()) return ArgMax(logits);
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates_[i] = {OrderedLogit(logits[i]), static_cast<TokenId>(i)};
  }
  if (penalises()) Penalise(history);
  if (options_.temperature <= 0) {
    return std::min_element(candidates_.begin(), candidates_.end(),
                            [](const Candidate& a, const Candidate& b) {
                              return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
                            })
        ->id;
  }
  KeepTopK();
  KeepTopP();
  KeepMinP();
  return Draw();
}

uint32_t Sampler::candidates() const {
  if (penalises()) return 0;
  if (options_.temperature <= 0) return 1;
  const uint32_t kept = std::min(options_.top_k, vocabulary_);
  return kept <= kMaxTopLogits ? kept : 0;
}

TokenId Sampler::SampleTop(absl::Span<const float> values, absl::Span<const TokenId> ids) {
  WEIR_CHECK(values.size() == candidates() && ids.size() == values.size() && !ids.empty());
  if (options_.temperature <= 0) return ids.front();
  candidates_.resize(values.size());
  for (size_t i = 0; i < values.size(); ++i) candidates_[i] = {values[i], ids[i]};
  KeepTopP();
  KeepMinP();
  return Draw();
}

// Logits of tokens seen lately move away from likelihood: divided when positive, multiplied when
// negative.
void Sampler::Penalise(absl::Span<const TokenId> history) {
  penalised_.clear();
  const size_t look_back = std::min<size_t>(history.size(), options_.repeat_last_n);
  for (TokenId token : history.subspan(history.size() - look_back)) {
    const auto id = static_cast<uint32_t>(token);
    if (id >= candidates_.size()) continue;
    if (std::find(penalised_.begin(), penalised_.end(), id) != penalised_.end()) continue;
    penalised_.push_back(id);
    float& logit = candidates_[id].logit;
    logit = logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
  }
}

// Leaves the candidates sorted, best first: the later filters need that.
void Sampler::KeepTopK() {
  const size_t keep = options_.top_k == 0 ? candidates_.size()
                                          : std::min<size_t>(options_.top_k, candidates_.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(keep),
                    candidates_.end(), [](const Candidate& a, const Candidate& b) {
                      return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
                    });
  candidates_.resize(keep);
}

void Sampler::KeepTopP() {
  if (options_.top_p >= 1) return;
  double sum = 0;
  for (const Candidate& c : candidates_)
    sum += std::exp(double{c.logit} - candidates_.front().logit);
  double reached = 0;
  size_t keep = 0;
  while (keep < candidates_.size() && reached < options_.top_p) {
    reached += std::exp(double{candidates_[keep].logit} - candidates_.front().logit) / sum;
    ++keep;
  }
  candidates_.resize(std::max<size_t>(keep, 1));
}

// Drops what is less likely than min_p times the best.
void Sampler::KeepMinP() {
  if (options_.min_p <= 0) return;
  const float least = candidates_.front().logit + std::log(options_.min_p);
  const auto end = std::find_if(candidates_.begin() + 1, candidates_.end(),
                                [least](const Candidate& c) { return c.logit < least; });
  candidates_.erase(end, candidates_.end());
}

TokenId Sampler::Draw() {
  const double best = candidates_.front().logit;
  auto weight = [&](const Candidate& c) {
    return std::exp((c.logit - best) / options_.temperature);
  };
  double sum = 0;
  for (const Candidate& c : candidates_) sum += weight(c);
  double left = NextUniform() * sum;
  for (const Candidate& c : candidates_) {
    left -= weight(c);
    if (left < 0) return c.id;
  }
  return candidates_.back().id;  // rounding
}

double Sampler::NextUniform() { return UnitInterval(SplitMix64(&state_)); }

TokenId ArgMax(absl::Span<const float> logits) {
  const auto less = [](float a, float b) { return OrderedLogit(a) < OrderedLogit(b); };
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end(), less) -
                              logits.begin());
}

double LogProbability(absl::Span<const float> logits, TokenId id) {
  const double best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - best);
  return logits[static_cast<size_t>(id)] - best - std::log(sum);
}

}  // namespace weir
