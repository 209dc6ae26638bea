#include "tools/cmd_bench.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/kv_pages.h"
#include "engine/sampler.h"
#include "engine/spread.h"
#include "io/base.h"
#include "tools/bench_profile.h"
#include "tools/exit_codes.h"
#include "tools/generate.h"
#include "tools/interrupt.h"
#include "tools/model_options.h"
#include "tools/open_engine.h"
#include "tools/output_file.h"
#include "tools/planned_run.h"
#include "tools/report.h"

namespace weir {
namespace {

struct BenchOptions {
  ModelOptions model;
  uint32_t prompt_tokens = 512;
  uint32_t generate_tokens = 128;
  uint32_t repetitions = 5;
  uint64_t seed = 1;
  bool short_warm_up = false;    // a few tokens instead of a whole repetition
  std::vector<uint32_t> depths;  // not empty: one context is filled to each in turn
  bool profile = false;

  // Of the longest context in use.
  uint32_t most_prompt_tokens() const {
    return depths.empty() ? std::max(1u, prompt_tokens) : depths.back();
  }
};

// Enough to bring in all weights and to touch what a pass needs.
constexpr uint32_t kWarmPromptTokens = 32;
constexpr uint32_t kWarmTokens = 4;

// What one repetition moved and took.
struct Sample {
  double prompt_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  double disk_gb_per_s = 0;
  double decode_disk_gb_per_s = 0;
  double decode_link_gb_per_s = 0;
};

Spread SpreadOf(const std::vector<Sample>& samples, double Sample::*field) {
  std::vector<double> values;
  values.reserve(samples.size());
  for (const Sample& sample : samples) values.push_back(sample.*field);
  return weir::SpreadOf(std::move(values));
}

// What was made at one depth of a context that grows.
struct DepthSample {
  uint32_t depth = 0;  // tokens before the first that is generated
  Generation generation;
  double kv_bytes_per_token = 0;  // that attention reads, the mean of the tokens generated
};

// Ids that any text could have: drawn from the vocabulary by a linear congruential generator
// (Knuth's MMIX constants), so that a seed means the same tokens everywhere.
std::vector<TokenId> RandomTokens(uint32_t count, uint32_t vocabulary, uint64_t seed) {
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    token = static_cast<TokenId>((seed >> 33) % vocabulary);
  }
  return tokens;
}

Sampler GreedySampler(const Model& model) { return {{.temperature = 0}, model.config.vocabulary}; }

// Appends the prompt and `count` tokens, and one more, which comes out of the prompt's pass.
// `profile` may be null.
absl::StatusOr<Generation> Continue(Engine& engine, const Model& model, Session& session,
                                    absl::Span<const TokenId> prompt, uint32_t count,
                                    BenchProfile* profile = nullptr) {
  const auto on_token = [&engine, profile](TokenId) {
    if (profile != nullptr) profile->OnToken(engine);
    return absl::OkStatus();
  };
  if (profile != nullptr) profile->Begin(engine);
  Sampler sampler = GreedySampler(model);
  const int64_t made = count == 0 ? 0 : int64_t{count} + 1;
  absl::StatusOr<Generation> generation =
      Generate(engine, session, sampler, *model.tokenizer, prompt,
               {.max_tokens = made, .ignore_end = true}, on_token);
  if (!generation.ok()) return WithExitCode(ExitCode::kIo, generation.status());
  if (generation->stop == Generation::Stop::kInterrupted) {
    return WithExitCode(InterruptExitCode(), absl::CancelledError("interrupted"));
  }
  if (profile != nullptr) profile->End(engine);
  return generation;
}

// `profile` may be null.
absl::StatusOr<Sample> RunOnce(Engine& engine, const Model& model, const BenchOptions& options,
                               BenchProfile* profile, Generation* last) {
  const std::vector<TokenId> prompt =
      RandomTokens(std::max(1u, options.prompt_tokens), model.config.vocabulary, options.seed);
  const std::unique_ptr<Session> session = engine.NewSession();
  const EngineStats before = engine.stats();
  WEIR_ASSIGN_OR_RETURN(const Generation generation, Continue(engine, model, *session, prompt,
                                                              options.generate_tokens, profile));
  const EngineStats after = engine.stats();
  const auto bytes = static_cast<double>(after.reader.bytes_read - before.reader.bytes_read);
  const auto busy_ns =
      static_cast<double>(after.scheduler.disk_busy_ns - before.scheduler.disk_busy_ns);
  *last = generation;
  return Sample{generation.prompt_tokens_per_s(), generation.decode_tokens_per_s(),
                busy_ns > 0 ? bytes / busy_ns : 0, generation.decode_read_bytes_per_s() * 1e-9,
                generation.decode_copy_bytes_per_s() * 1e-9};
}

absl::Status WarmUp(Engine& engine, const Model& model, const BenchOptions& options) {
  const std::unique_ptr<Session> session = engine.NewSession();
  const std::vector<TokenId> prompt =
      RandomTokens(std::min(kWarmPromptTokens, options.most_prompt_tokens()),
                   model.config.vocabulary, options.seed);
  return Continue(engine, model, *session, prompt, std::min(kWarmTokens, options.generate_tokens))
      .status();
}

// One context, filled with random tokens to each depth in turn; what was generated at a depth stays
// in it.
absl::StatusOr<std::vector<DepthSample>> WalkDepths(Engine& engine, const Model& model,
                                                    const BenchOptions& options) {
  const std::vector<TokenId> tokens =
      RandomTokens(options.depths.back(), model.config.vocabulary, options.seed);
  const std::unique_ptr<Session> session = engine.NewSession();
  std::vector<DepthSample> samples;
  for (const uint32_t depth : options.depths) {
    const uint32_t held = session->position();
    DepthSample sample;
    sample.depth = depth;
    WEIR_ASSIGN_OR_RETURN(
        sample.generation,
        Continue(engine, model, *session, absl::MakeSpan(tokens).subspan(held, depth - held),
                 options.generate_tokens));
    const uint32_t count = options.generate_tokens;
    for (uint32_t i = 0; i < count; ++i) {
      sample.kv_bytes_per_token +=
          static_cast<double>(KvReadBytes(model.config, engine.plan().shape.kv, depth + i)) / count;
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

nlohmann::json ToJson(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

void PrintRow(const std::string& what, const Spread& spread, const char* unit) {
  std::printf("  %-22s %10.2f %s  (%.2f to %.2f)\n", what.c_str(), spread.median, unit, spread.min,
              spread.max);
}

void PrintForecast(const char* what, double tokens_per_s, double achieved,
                   const std::string& remark) {
  if (tokens_per_s <= 0) return;  // a ceiling could not be measured
  std::printf("  %-22s %10.2f tok/s  (%+.1f %%%s)\n", what, tokens_per_s,
              100 * (tokens_per_s / achieved - 1), remark.c_str());
}

void PrintAccelerator(const AcceleratorReport& accelerator, const Spread& link) {
  PrintRow("link while generating", link, "GB/s ");
  std::printf("  %-22s %10.2f GB/s\n", "link ceiling", accelerator.link_ceiling_bytes_per_s * 1e-9);
  std::printf("  %-22s %10s  (budget %s)\n", "HBM", FormatBytes(accelerator.hbm_bytes).c_str(),
              FormatBytes(accelerator.hbm_budget_bytes).c_str());
}

// What the repetitions have to say.
struct Results {
  std::vector<Sample> samples;
  RunReport report;  // of the last repetition, and the engine's life
  Prediction prediction;
  ActivationFormat activations = ActivationFormat::kQ16;

  Spread of(double Sample::*field) const { return SpreadOf(samples, field); }
};

void PrintResults(const BenchOptions& options, const Ceilings& ceilings, const Results& results) {
  const RunReport& report = results.report;
  std::printf("%s on %s, %s, reader %s\n", report.model.c_str(), report.device.c_str(),
              WeightsText(report).c_str(), report.reader.c_str());
  std::printf(
      "median of %u (min to max), warm: %s before, not counted; reads bypass the page cache\n",
      options.repetitions, options.short_warm_up ? "a few tokens" : "one run");
  if (options.prompt_tokens > 0) {
    PrintRow(absl::StrCat("prompt of ", options.prompt_tokens),
             results.of(&Sample::prompt_tokens_per_s), "tok/s");
  }
  const Spread decode = results.of(&Sample::decode_tokens_per_s);
  if (options.generate_tokens > 0)
    PrintRow(absl::StrCat("generation of ", options.generate_tokens), decode, "tok/s");
  if (decode.median > 0) {
    const std::string bound = absl::StrCat(", bound by ", results.prediction.bottleneck);
    PrintForecast("predicted generation", results.prediction.decode_tokens_per_s, decode.median,
                  bound);
    PrintForecast("simulated generation", report.simulated_decode_tokens_per_s, decode.median, "");
  }
  PrintRow("disk while reading", results.of(&Sample::disk_gb_per_s), "GB/s ");
  if (options.generate_tokens > 0)
    PrintRow("disk while generating", results.of(&Sample::decode_disk_gb_per_s), "GB/s ");
  std::printf("  %-22s %10.2f GB/s\n", "disk ceiling", ceilings.disk_bytes_per_s * 1e-9);
  if (report.accelerator)
    PrintAccelerator(*report.accelerator, results.of(&Sample::decode_link_gb_per_s));
  std::printf("  %-22s %10s  (budget %s)\n", "peak memory",
              FormatBytes(report.peak_rss_bytes).c_str(),
              FormatBytes(report.dram_budget_bytes).c_str());
}

// `profile` may be null.
absl::Status WriteResults(const BenchOptions& options, const Ceilings& ceilings,
                          const Results& results, const BenchProfile* profile, OutputFile* json) {
  const bool with_prompt = options.prompt_tokens > 0;
  if (options.model.json_path != "-") {
    PrintResults(options, ceilings, results);
    if (profile != nullptr)
      std::fputs(profile->Text(results.activations, with_prompt).c_str(), stdout);
  }
  nlohmann::json out = ReportJson(results.report);
  const auto spread = [&results](double Sample::*field) { return ToJson(results.of(field)); };
  out["bench"] = {{"prompt_tokens", options.prompt_tokens},
                  {"generate_tokens", options.generate_tokens},
                  {"repetitions", options.repetitions},
                  {"seed", options.seed},
                  {"prompt_tokens_per_s", spread(&Sample::prompt_tokens_per_s)},
                  {"decode_tokens_per_s", spread(&Sample::decode_tokens_per_s)},
                  {"disk_gb_per_s", spread(&Sample::disk_gb_per_s)},
                  {"decode_disk_gb_per_s", spread(&Sample::decode_disk_gb_per_s)}};
  if (results.report.accelerator)
    out["bench"]["decode_link_gb_per_s"] = spread(&Sample::decode_link_gb_per_s);
  if (profile != nullptr) out["profile"] = profile->Json(results.activations, with_prompt);
  WEIR_RETURN_IF_ERROR(json->Write(out.dump(1) + "\n"));
  return json->Close();
}

nlohmann::json ToJson(const std::vector<DepthSample>& samples) {
  nlohmann::json rows = nlohmann::json::array();
  for (const DepthSample& sample : samples) {
    rows.push_back({{"depth", sample.depth},
                    {"prompt_tokens", sample.generation.prompt_tokens},
                    {"prompt_tokens_per_s", sample.generation.prompt_tokens_per_s()},
                    {"decode_tokens_per_s", sample.generation.decode_tokens_per_s()},
                    {"kv_bytes_per_token", sample.kv_bytes_per_token}});
  }
  return rows;
}

absl::Status WriteDepths(const std::vector<DepthSample>& samples, const Engine& engine,
                         const BenchOptions& options, const RunReport& report, OutputFile* json) {
  if (options.model.json_path != "-") {
    std::printf("%s on %s, %s\n", report.model.c_str(), engine.device_name().c_str(),
                WeightsText(report).c_str());
    std::printf("  %10s %14s %18s %20s\n", "depth", "prompt, tok/s", "generation, tok/s",
                "KV, MB a token");
    for (const DepthSample& sample : samples) {
      std::printf("  %10u %14.2f %18.2f %20.2f\n", sample.depth,
                  sample.generation.prompt_tokens_per_s(), sample.generation.decode_tokens_per_s(),
                  sample.kv_bytes_per_token * 1e-6);
    }
  }
  nlohmann::json out = ReportJson(report);  // of the last depth, and the engine's life
  out["bench"] = {{"generate_tokens", options.generate_tokens},
                  {"seed", options.seed},
                  {"depths", ToJson(samples)}};
  WEIR_RETURN_IF_ERROR(json->Write(out.dump(1) + "\n"));
  return json->Close();
}

absl::Status CheckOptions(const BenchOptions& options) {
  const auto refuse = [](const char* why) {
    return WithExitCode(ExitCode::kUsage, absl::InvalidArgumentError(why));
  };
  if (options.repetitions == 0 || options.prompt_tokens + options.generate_tokens == 0) {
    return refuse("-r and one of -p and -n must be at least 1");
  }
  if (options.depths.empty()) return absl::OkStatus();
  if (options.generate_tokens == 0) return refuse("--depths needs tokens to generate (-n)");
  if (options.depths.front() == 0) return refuse("--depths: the first is at least 1");
  for (size_t i = 1; i < options.depths.size(); ++i) {
    if (options.depths[i] <= uint64_t{options.depths[i - 1]} + options.generate_tokens) {
      return refuse("--depths: each must exceed the one before by more than -n tokens");
    }
  }
  return absl::OkStatus();
}

ContextNeeds NeedsOf(const BenchOptions& options) {
  const uint32_t prompt_tokens = options.most_prompt_tokens();
  return {.min_context_tokens = prompt_tokens + options.generate_tokens + 1,
          .prompt_tokens = prompt_tokens,
          .position = prompt_tokens + options.generate_tokens / 2};
}

// An engine that is measured with, and what is known of it.
struct Opened {
  const Model& model;
  const PlannedRun& run;
  const RunBegin& begin;
  Engine& engine;

  RunReport ReportOf(const Generation& last) const {
    return MakeRunReport(model, engine, last, run.ceilings, begin, run.device.is_emulated());
  }
};

// `profile` may be null.
absl::StatusOr<Results> Repeat(const Opened& opened, const BenchOptions& options,
                               BenchProfile* profile) {
  Engine& engine = opened.engine;
  Generation last;
  if (options.short_warm_up) {
    WEIR_RETURN_IF_ERROR(WarmUp(engine, opened.model, options));
  } else {
    WEIR_RETURN_IF_ERROR(RunOnce(engine, opened.model, options, profile, &last).status());
  }
  Results results;
  for (uint32_t i = 0; i < options.repetitions; ++i) {
    WEIR_ASSIGN_OR_RETURN(const Sample sample,
                          RunOnce(engine, opened.model, options, profile, &last));
    results.samples.push_back(sample);
    if (profile != nullptr) profile->Count(last);
  }
  results.report = opened.ReportOf(last);
  results.prediction = PredictPlan(engine.program(), engine.plan(), opened.run.ceilings);
  return results;
}

absl::Status BenchDepths(const Opened& opened, const BenchOptions& options, OutputFile* json) {
  WEIR_RETURN_IF_ERROR(WarmUp(opened.engine, opened.model, options));
  WEIR_ASSIGN_OR_RETURN(const std::vector<DepthSample> depths,
                        WalkDepths(opened.engine, opened.model, options));
  return WriteDepths(depths, opened.engine, options, opened.ReportOf(depths.back().generation),
                     json);
}

absl::Status Bench(const BenchOptions& options) {
  WEIR_RETURN_IF_ERROR(CheckOptions(options));
  RunBegin begin = RunBegin::Now();
  WEIR_ASSIGN_OR_RETURN(OutputFile json, OutputFile::Open(options.model.json_path));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(options.model));
  const ContextNeeds needs = NeedsOf(options);
  ModelOptions model_options = options.model;
  if (model_options.context_tokens == 0 && model_options.plan_file.empty()) {
    model_options.context_tokens = needs.min_context_tokens;
  }
  WEIR_ASSIGN_OR_RETURN(PlannedRun run, PlanFromOptions(*model, model_options, needs));
  std::unique_ptr<BenchProfile> profile;  // null where nobody asked
  if (options.profile) {
    WEIR_RETURN_IF_ERROR(CheckProfiled(run));
    profile = std::make_unique<BenchProfile>(ThreadsFrom(model_options), model_options.isa);
    run.profile = profile->ops();
  }
  WEIR_RETURN_IF_ERROR(MeasureCompute(*model, model_options, &run));
  if (profile != nullptr) WEIR_RETURN_IF_ERROR(profile->MeasureBefore());
  run.top_logits = GreedySampler(*model).candidates();
  const ActivationFormat activations = run.made.transformer->activations();
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, OpenEngine(*model, &run, model_options));
  WEIR_RETURN_IF_ERROR(MeasureLinksOf(*engine, *model, model_options, &run.ceilings));
  begin.reading_ns = RealClock().NowNs();
  const Opened opened = {*model, run, begin, *engine};
  if (!options.depths.empty()) return BenchDepths(opened, options, &json);
  WEIR_ASSIGN_OR_RETURN(Results results, Repeat(opened, options, profile.get()));
  results.activations = activations;
  engine.reset();
  if (profile != nullptr) WEIR_RETURN_IF_ERROR(profile->MeasureAfter());
  return WriteResults(options, run.ceilings, results, profile.get(), &json);
}

}  // namespace

void AddBenchCommand(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand("bench", "measure prompt and generation speed");
  AddRunOptions(*command, &options->model);
  CLI::Option* const prompt =
      command->add_option("-p,--n-prompt", options->prompt_tokens, "prompt tokens (0: none)");
  command->add_option("-n,--n-gen", options->generate_tokens, "tokens to generate (0: none)");
  CLI::Option* const repetitions =
      command->add_option("-r,--repetitions", options->repetitions, "repetitions that are counted");
  command->add_option("-s,--seed", options->seed, "seed of the prompt's tokens");
  command->add_flag("--short-warm-up", options->short_warm_up,
                    "before them a prompt of 32 and 4 tokens, not a whole repetition");
  CLI::Option* const profile =
      command->add_flag("--profile", options->profile,
                        "where the time of a token and of a prompt goes, by op, and how near each "
                        "op comes to what memory and arithmetic give here (CPU)");
  command
      ->add_option("--depths", options->depths,
                   "instead: generate -n tokens when the context holds so many, such as 512,8192; "
                   "it is filled once and the warm-up is short")
      ->delimiter(',')
      ->excludes(prompt)
      ->excludes(profile)
      ->excludes(repetitions);
  command->callback([options, exit_code] { *exit_code = ReportStatus(Bench(*options)); });
}

}  // namespace weir
