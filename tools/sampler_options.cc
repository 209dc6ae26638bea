#include "tools/sampler_options.h"

#include <random>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "tools/exit_codes.h"

namespace weir {

void AddSamplingOptions(CLI::App& command, SamplingFlags* flags) {
  command.add_option("-n,--predict,--n-predict", flags->max_tokens,
                     "tokens to generate (-1: until the end)");
  command.add_option("-s,--seed", flags->seed, "seed of the sampler (-1: random)");
  command.add_option("--temp,--temperature", flags->sampler.temperature, "temperature (0: greedy)");
  command.add_option("--top-k", flags->sampler.top_k, "keep the k likeliest (0: all)");
  command.add_option("--top-p", flags->sampler.top_p,
                     "keep the likeliest up to this probability (1: off)");
  command.add_option("--min-p", flags->sampler.min_p,
                     "drop those less likely than this share of the best (0: off)");
  command.add_option("--repeat-penalty", flags->sampler.repeat_penalty,
                     "penalty of tokens seen lately (1: off)");
  command.add_option("--repeat-last-n", flags->sampler.repeat_last_n,
                     "how far back the penalty looks");
  command.add_flag("--ignore-eos", flags->ignore_end, "go on after an end token");
}

absl::StatusOr<SamplerOptions> SamplerFrom(const SamplingFlags& flags) {
  if (flags.max_tokens < -1) {
    return WithExitCode(ExitCode::kUsage,
                        absl::InvalidArgumentError(absl::StrCat(
                            "-n ", flags.max_tokens, ": expected -1 (until the end) or more")));
  }
  SamplerOptions options = flags.sampler;
  const absl::Status checked = CheckSamplerOptions(options);
  if (!checked.ok()) return WithExitCode(ExitCode::kUsage, checked);
  options.seed = flags.seed >= 0 ? static_cast<uint64_t>(flags.seed) : std::random_device()();
  return options;
}

}  // namespace weir
