#include "tools/cmd_synth.h"

#include <cstdio>
#include <memory>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"
#include "io/clock.h"
#include "models/config.h"
#include "tools/exit_codes.h"
#include "tools/progress.h"

namespace weir {
namespace {

// Sizes given on the command line; zero or empty: the preset's.
struct SynthArguments {
  std::string output;
  std::string preset = "tiny";
  std::string architecture;
  std::string format;
  std::string name;
  std::string rope_scaling;
  uint32_t layers = 0;
  uint32_t columns = 0;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_columns = 0;
  uint32_t feed_forward_columns = 0;
  uint32_t vocabulary = 0;
  uint32_t context_length = 0;
  uint32_t window = 0;
  double rope_base = 0;
  bool tied = false;
  uint64_t seed = 1;
  bool overwrite = false;
};

absl::StatusOr<SynthOptions> MakeOptions(const SynthArguments& arguments) {
  SynthOptions options;
  options.output = arguments.output;
  options.overwrite = arguments.overwrite;
  WEIR_ASSIGN_OR_RETURN(SyntheticSpec spec, SyntheticPreset(arguments.preset));
  const auto take = [](const auto& given, auto* field) {
    if (given != std::remove_cvref_t<decltype(given)>{}) *field = given;
  };
  take(arguments.architecture, &spec.architecture);
  take(arguments.format, &spec.format);
  take(arguments.name, &spec.name);
  take(arguments.rope_scaling, &spec.rope_scaling);
  take(arguments.layers, &spec.layers);
  take(arguments.columns, &spec.columns);
  take(arguments.heads, &spec.heads);
  take(arguments.kv_heads, &spec.kv_heads);
  take(arguments.head_columns, &spec.head_columns);
  take(arguments.feed_forward_columns, &spec.feed_forward_columns);
  take(arguments.vocabulary, &spec.vocabulary);
  take(arguments.context_length, &spec.context_length);
  take(arguments.window, &spec.window);
  take(arguments.rope_base, &spec.rope_base);
  spec.tied_output = arguments.tied;
  spec.seed = arguments.seed;
  options.spec = std::move(spec);
  return options;
}

void AddShapeOptions(CLI::App* command, SynthArguments* arguments) {
  command->add_option("--layers", arguments->layers, "Layers")->group("Shape");
  command->add_option("--columns", arguments->columns, "Model dimension")->group("Shape");
  command->add_option("--heads", arguments->heads, "Attention heads")->group("Shape");
  command->add_option("--kv-heads", arguments->kv_heads, "KV heads")->group("Shape");
  command->add_option("--head-columns", arguments->head_columns, "Columns of a head")
      ->group("Shape");
  command->add_option("--ff", arguments->feed_forward_columns, "Feed-forward dimension")
      ->group("Shape");
  command->add_option("--vocabulary", arguments->vocabulary, "Tokens")->group("Shape");
  command->add_option("--context", arguments->context_length, "Context length")->group("Shape");
  command->add_option("--window", arguments->window, "Sliding window in tokens")->group("Shape");
  command->add_option("--rope-base", arguments->rope_base, "Rope base")->group("Shape");
  command
      ->add_option("--rope-scaling", arguments->rope_scaling,
                   "linear, yarn, llama3 (a divisor tensor) or longrope")
      ->group("Shape");
  command->add_flag("--tied", arguments->tied, "No output matrix: the embedding serves")
      ->group("Shape");
}

}  // namespace

absl::Status RunSynth(const SynthOptions& options) {
  const absl::StatusOr<SyntheticModel> plan = PlanSynthetic(options.spec);
  if (!plan.ok()) return WithExitCode(ExitCode::kUsage, plan.status());
  ProgressLine progress(absl::StrCat("writing ", options.output));
  GgufWriteOptions write_options;
  write_options.overwrite = options.overwrite;
  write_options.progress = [&progress](uint64_t done_bytes, uint64_t total_bytes) {
    progress.Update(static_cast<double>(done_bytes) / static_cast<double>(total_bytes), done_bytes);
  };
  const RealClock clock;
  const int64_t begin_ns = clock.NowNs();
  const absl::StatusOr<uint64_t> bytes =
      WriteSynthetic(options.output, options.spec, write_options);
  progress.Finish();
  if (!bytes.ok()) {
    const bool is_shape = bytes.status().code() == absl::StatusCode::kInvalidArgument;
    return WithExitCode(is_shape ? ExitCode::kUsage : ExitCode::kOutput, bytes.status());
  }
  const double seconds = static_cast<double>(clock.NowNs() - begin_ns) * 1e-9;
  absl::FPrintF(stderr, "%s: %s (%d bytes), %s, %d tensors, %.1f s, %.2f GB/s\n", options.output,
                FormatBytes(*bytes), *bytes, options.spec.format, plan->tensors.size(), seconds,
                static_cast<double>(*bytes) / seconds * 1e-9);
  return absl::OkStatus();
}

void AddSynthCommand(CLI::App& app, int* exit_code) {
  const auto arguments = std::make_shared<SynthArguments>();
  CLI::App* command =
      app.add_subcommand("synth", "Write a model of random weights, for benchmarks and tests");
  command->add_option("output", arguments->output, "The GGUF file to write")->required();
  command
      ->add_option("--preset", arguments->preset,
                   absl::StrCat("The shape to start from: ", KnownSyntheticPresets()))
      ->capture_default_str();
  command->add_option("--arch", arguments->architecture,
                      absl::StrCat("Architecture: ", KnownArchitectures(), " (default llama)"));
  command->add_option(
      "--format", arguments->format,
      absl::StrCat("Format of the matrices: ", KnownSyntheticFormats(), " (default Q4_K)"));
  command->add_option("-s,--seed", arguments->seed, "Seed")->capture_default_str();
  command->add_option("--name", arguments->name, "general.name of the model");
  command->add_flag("--overwrite", arguments->overwrite, "Replace the file if it exists");
  AddShapeOptions(command, arguments.get());
  command->callback([arguments, exit_code] {
    const absl::StatusOr<SynthOptions> options = MakeOptions(*arguments);
    *exit_code = ReportStatus(options.ok() ? RunSynth(*options)
                                           : WithExitCode(ExitCode::kUsage, options.status()));
  });
}

}  // namespace weir
