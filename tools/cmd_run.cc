#include "tools/cmd_run.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
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
#include "tools/prompt.h"
#include "tools/report.h"
#include "tools/sampler_options.h"
#include "tools/text_stream.h"

namespace weir {
namespace {

constexpr uint32_t kTypicalTokens = 64;  // after the prompt, in the middle of a run, say

constexpr size_t kTokenBytes = 4096;  // more than the text of any token has

struct RunOptions {
  ModelOptions model;
  SamplingFlags sampling;
  std::string prompt_argument;
  std::string prompt_option;
  std::string prompt_file;
  std::string system;
  bool no_chat = false;
};

absl::Status UsageError(const std::string& message) {
  return WithExitCode(ExitCode::kUsage, absl::InvalidArgumentError(message));
}

absl::StatusOr<std::string> PromptText(const RunOptions& options) {
  const int given = !options.prompt_argument.empty() + !options.prompt_option.empty() +
                    !options.prompt_file.empty();
  if (given > 1) return UsageError("give the prompt once: as an argument, or with -p, or with -f");
  if (!options.prompt_argument.empty()) return options.prompt_argument;
  if (!options.prompt_option.empty()) return options.prompt_option;
  if (!options.prompt_file.empty()) return ReadTextFile(options.prompt_file);
  if (isatty(STDIN_FILENO) == 1) {
    return UsageError(
        "no prompt: give one as an argument, with -p or -f FILE, or on standard input");
  }
  return ReadTextFile("-");
}

absl::StatusOr<std::vector<TokenId>> PromptTokens(const Model& model, const RunOptions& options) {
  WEIR_ASSIGN_OR_RETURN(const std::string text, PromptText(options));
  WEIR_ASSIGN_OR_RETURN(std::vector<TokenId> tokens,
                        EncodePrompt(model, text, options.system, options.no_chat));
  if (tokens.empty()) return UsageError("the prompt is empty");
  const uint64_t trained = model.config.context_length;
  if (trained == 0 || tokens.size() < trained) return tokens;
  return WithExitCode(ExitCode::kContext,
                      absl::OutOfRangeError(absl::StrCat(
                          "the prompt has ", tokens.size(), " tokens, and ", model.path,
                          " was trained for a context of ", trained, ". Shorten the prompt")));
}

// Context for the prompt and what -n asks for; without -n at least one token.
ContextNeeds NeedsOf(const std::vector<TokenId>& prompt, const RunOptions& options) {
  const auto made = static_cast<uint32_t>(
      std::min<int64_t>(std::max<int64_t>(options.sampling.max_tokens, 1), INT32_MAX / 2));
  const auto prompt_tokens = static_cast<uint32_t>(prompt.size());
  return {.min_context_tokens = prompt_tokens + made,
          .prompt_tokens = prompt_tokens,
          .position = prompt_tokens + kTypicalTokens};
}

absl::Status WriteTrace(const Engine& engine, bool is_emulated, OutputFile* file) {
  if (engine.trace() == nullptr) return absl::OkStatus();
  if (engine.trace()->dropped() > 0) {
    std::fprintf(stderr, "weir: the trace is full: the last %llu records are missing\n",
                 static_cast<unsigned long long>(engine.trace()->dropped()));
  }
  WEIR_RETURN_IF_ERROR(
      file->Write(engine.trace()->ToPerfettoJson(engine.program(), TraceProcess(is_emulated))));
  return file->Close();
}

absl::Status Run(const RunOptions& options) {
  RunBegin begin = RunBegin::Now();
  WEIR_ASSIGN_OR_RETURN(OutputFile json, OutputFile::Open(options.model.json_path));
  WEIR_ASSIGN_OR_RETURN(OutputFile trace, OutputFile::Open(options.model.trace_path));
  WEIR_ASSIGN_OR_RETURN(const SamplerOptions sampler_options, SamplerFrom(options.sampling));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(options.model));
  WEIR_ASSIGN_OR_RETURN(const std::vector<TokenId> prompt, PromptTokens(*model, options));
  WEIR_ASSIGN_OR_RETURN(PlannedRun run,
                        PlanFromOptions(*model, options.model, NeedsOf(prompt, options)));
  WEIR_RETURN_IF_ERROR(MeasureCompute(*model, options.model, &run));
  Sampler sampler(sampler_options, model->config.vocabulary);
  run.top_logits = sampler.candidates();
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                        OpenEngine(*model, &run, options.model));
  WEIR_RETURN_IF_ERROR(MeasureLinksOf(*engine, *model, options.model, &run.ceilings));
  const bool is_emulated = run.device.is_emulated();

  const std::unique_ptr<Session> session = engine->NewSession();
  TextStream text(stdout);
  std::string bytes;
  bytes.reserve(kTokenBytes);
  std::fprintf(stderr, "weir: %s\n",
               Forecast(PredictPlan(engine->program(), engine->plan(), run.ceilings), run.ceilings,
                        is_emulated)
                   .c_str());
  begin.reading_ns = RealClock().NowNs();
  absl::StatusOr<Generation> generation = Generate(
      *engine, *session, sampler, *model->tokenizer, prompt,
      {.max_tokens = options.sampling.max_tokens, .ignore_end = options.sampling.ignore_end},
      [&](TokenId token) {
        bytes.clear();
        model->tokenizer->AppendTokenBytes(token, /*show_special=*/false, &bytes);
        return text.Write(bytes);
      });
  if (!generation.ok()) {
    (void)text.Finish();
    return WithExitCode(ExitCode::kIo, generation.status());
  }
  WEIR_RETURN_IF_ERROR(text.Finish());
  const RunReport report =
      MakeRunReport(*model, *engine, *generation, run.ceilings, begin, is_emulated);
  std::fprintf(stderr, "\n%s\n", Footer(report).c_str());
  if (sampler_options.temperature > 0) {
    std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(sampler_options.seed));
  }
  WEIR_RETURN_IF_ERROR(json.Write(ReportJson(report).dump(1) + "\n"));
  WEIR_RETURN_IF_ERROR(json.Close());
  WEIR_RETURN_IF_ERROR(WriteTrace(*engine, is_emulated, &trace));
  if (generation->stop != Generation::Stop::kInterrupted) return absl::OkStatus();
  return WithExitCode(InterruptExitCode(), absl::CancelledError("interrupted"));
}

}  // namespace

void AddRunCommand(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = app.add_subcommand("run", "generate text");
  AddRunOptions(*command, &options->model);
  command->add_option("--trace", options->model.trace_path, "write a trace for Perfetto here");
  command->add_option("prompt", options->prompt_argument, "the prompt (or -p, -f, standard input)");
  command->add_option("-p,--prompt", options->prompt_option, "the prompt");
  command->add_option("-f,--file", options->prompt_file, "read the prompt from this file");
  command->add_option("--system", options->system, "system message of the chat");
  command->add_flag("--no-chat", options->no_chat,
                    "give the text to the model as it is, without its chat template");
  AddSamplingOptions(*command, &options->sampling);
  command->callback([options, exit_code] { *exit_code = ReportStatus(Run(*options)); });
}

}  // namespace weir
