#include "tools/cmd_bench.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/sampler.h"
#include "io/base.h"
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
};

struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
};

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
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

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

absl::StatusOr<Sample> RunOnce(Engine& engine, const Model& model, const BenchOptions& options,
                               Generation* last) {
  const std::vector<TokenId> prompt =
      RandomTokens(std::max(1u, options.prompt_tokens), model.config.vocabulary, options.seed);
  const std::unique_ptr<Session> session = engine.NewSession();
  Sampler sampler = GreedySampler(model);
  const EngineStats before = engine.stats();
  // One more token than passes: the first comes out of the prompt's pass.
  const int64_t made = options.generate_tokens == 0 ? 0 : int64_t{options.generate_tokens} + 1;
  absl::StatusOr<Generation> generation =
      Generate(engine, *session, sampler, *model.tokenizer, prompt,
               {.max_tokens = made, .ignore_end = true}, [](TokenId) { return absl::OkStatus(); });
  if (!generation.ok()) return WithExitCode(ExitCode::kIo, generation.status());
  if (generation->stop == Generation::Stop::kInterrupted) {
    return WithExitCode(InterruptExitCode(), absl::CancelledError("interrupted"));
  }
  const EngineStats after = engine.stats();
  const auto bytes = static_cast<double>(after.reader.bytes_read - before.reader.bytes_read);
  const auto busy_ns =
      static_cast<double>(after.scheduler.disk_busy_ns - before.scheduler.disk_busy_ns);
  *last = *generation;
  return Sample{generation->prompt_tokens_per_s(), generation->decode_tokens_per_s(),
                busy_ns > 0 ? bytes / busy_ns : 0, generation->decode_read_bytes_per_s() * 1e-9,
                generation->decode_copy_bytes_per_s() * 1e-9};
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

absl::Status WriteResults(const Model& model, const Engine& engine, const BenchOptions& options,
                          const Ceilings& ceilings, const std::vector<Sample>& samples,
                          const RunReport& report, OutputFile* json) {
  const Spread prompt = SpreadOf(samples, &Sample::prompt_tokens_per_s);
  const Spread decode = SpreadOf(samples, &Sample::decode_tokens_per_s);
  const Spread disk = SpreadOf(samples, &Sample::disk_gb_per_s);
  const Spread decode_link = SpreadOf(samples, &Sample::decode_link_gb_per_s);
  const Spread decode_disk = SpreadOf(samples, &Sample::decode_disk_gb_per_s);
  const Prediction prediction = PredictPlan(engine.program(), engine.plan(), ceilings);
  if (options.model.json_path != "-") {
    std::printf("%s on %s, %s, reader %s\n", model.path.c_str(), engine.device_name().c_str(),
                WeightsText(report).c_str(), report.reader.c_str());
    std::printf(
        "median of %u (min to max), warm: one run before, not counted; reads bypass the page "
        "cache\n",
        options.repetitions);
    if (options.prompt_tokens > 0)
      PrintRow(absl::StrCat("prompt of ", options.prompt_tokens), prompt, "tok/s");
    if (options.generate_tokens > 0)
      PrintRow(absl::StrCat("generation of ", options.generate_tokens), decode, "tok/s");
    if (decode.median > 0) {
      const std::string bound = absl::StrCat(", bound by ", prediction.bottleneck);
      PrintForecast("predicted generation", prediction.decode_tokens_per_s, decode.median, bound);
      PrintForecast("simulated generation", report.simulated_decode_tokens_per_s, decode.median,
                    "");
    }
    PrintRow("disk while reading", disk, "GB/s ");
    if (options.generate_tokens > 0) PrintRow("disk while generating", decode_disk, "GB/s ");
    std::printf("  %-22s %10.2f GB/s\n", "disk ceiling", ceilings.disk_bytes_per_s * 1e-9);
    if (report.accelerator) PrintAccelerator(*report.accelerator, decode_link);
    std::printf("  %-22s %10s  (budget %s)\n", "peak memory",
                FormatBytes(report.peak_rss_bytes).c_str(),
                FormatBytes(report.dram_budget_bytes).c_str());
  }
  nlohmann::json out = ReportJson(report);  // of the last repetition, and the engine's life
  out["bench"] = {
      {"prompt_tokens", options.prompt_tokens}, {"generate_tokens", options.generate_tokens},
      {"repetitions", options.repetitions},     {"seed", options.seed},
      {"prompt_tokens_per_s", ToJson(prompt)},  {"decode_tokens_per_s", ToJson(decode)},
      {"disk_gb_per_s", ToJson(disk)},          {"decode_disk_gb_per_s", ToJson(decode_disk)}};
  if (report.accelerator) out["bench"]["decode_link_gb_per_s"] = ToJson(decode_link);
  WEIR_RETURN_IF_ERROR(json->Write(out.dump(1) + "\n"));
  return json->Close();
}

absl::Status Bench(const BenchOptions& options) {
  if (options.repetitions == 0 || options.prompt_tokens + options.generate_tokens == 0) {
    return WithExitCode(ExitCode::kUsage,
                        absl::InvalidArgumentError("-r and one of -p and -n must be at least 1"));
  }
  RunBegin begin = RunBegin::Now();
  WEIR_ASSIGN_OR_RETURN(OutputFile json, OutputFile::Open(options.model.json_path));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(options.model));
  const uint32_t prompt_tokens = std::max(1u, options.prompt_tokens);
  const ContextNeeds needs = {.min_context_tokens = prompt_tokens + options.generate_tokens + 1,
                              .prompt_tokens = prompt_tokens,
                              .position = options.prompt_tokens + options.generate_tokens / 2};
  ModelOptions model_options = options.model;
  if (model_options.context_tokens == 0 && model_options.plan_file.empty()) {
    model_options.context_tokens = needs.min_context_tokens;
  }
  WEIR_ASSIGN_OR_RETURN(PlannedRun run, PlanFromOptions(*model, model_options, needs));
  WEIR_RETURN_IF_ERROR(MeasureCompute(*model, model_options, &run));
  run.top_logits = GreedySampler(*model).candidates();
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                        OpenEngine(*model, &run, model_options));
  WEIR_RETURN_IF_ERROR(MeasureLinksOf(*engine, *model, model_options, &run.ceilings));
  begin.reading_ns = RealClock().NowNs();
  std::vector<Sample> samples;
  Generation last;
  for (uint32_t i = 0; i <= options.repetitions; ++i) {
    WEIR_ASSIGN_OR_RETURN(const Sample sample, RunOnce(*engine, *model, options, &last));
    if (i > 0) samples.push_back(sample);
  }
  const RunReport report =
      MakeRunReport(*model, *engine, last, run.ceilings, begin, run.device.is_emulated());
  return WriteResults(*model, *engine, options, run.ceilings, samples, report, &json);
}

}  // namespace

void AddBenchCommand(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand("bench", "measure prompt and generation speed");
  AddRunOptions(*command, &options->model);
  command->add_option("-p,--n-prompt", options->prompt_tokens, "prompt tokens (0: none)");
  command->add_option("-n,--n-gen", options->generate_tokens, "tokens to generate (0: none)");
  command->add_option("-r,--repetitions", options->repetitions, "repetitions that are counted");
  command->add_option("-s,--seed", options->seed, "seed of the prompt's tokens");
  command->callback([options, exit_code] { *exit_code = ReportStatus(Bench(*options)); });
}

}  // namespace weir
