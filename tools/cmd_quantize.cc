#include "tools/cmd_quantize.h"

#include <cstdio>
#include <memory>
#include <optional>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"
#include "io/clock.h"
#include "kernels/quantize_blocks.h"
#include "tools/exit_codes.h"
#include "tools/model_options.h"
#include "tools/model_path.h"
#include "tools/progress.h"
#include "tools/quantize_model.h"

namespace weir {
namespace {

absl::StatusOr<DType> ParseFormat(const char* option, const std::string& name) {
  const std::optional<DType> dtype = DTypeFromName(name);
  if (dtype.has_value() && CanQuantizeTo(*dtype)) return *dtype;
  return OptionError(
      option,
      absl::InvalidArgumentError(absl::StrCat(
          "\"", name, "\" is no format that can be written. Those are: ", QuantizableFormats())));
}

absl::StatusOr<QuantizeFormats> ParseFormats(const QuantizeArguments& arguments) {
  QuantizeFormats formats;
  WEIR_ASSIGN_OR_RETURN(formats.matrices, ParseFormat("--format", arguments.format));
  if (!arguments.output_format.empty()) {
    WEIR_ASSIGN_OR_RETURN(formats.output, ParseFormat("--output-format", arguments.output_format));
  }
  if (!arguments.embedding_format.empty()) {
    WEIR_ASSIGN_OR_RETURN(formats.embedding,
                          ParseFormat("--embedding-format", arguments.embedding_format));
  }
  return formats;
}

}  // namespace

absl::Status RunQuantize(const QuantizeArguments& arguments) {
  QuantizeOptions options;
  WEIR_ASSIGN_OR_RETURN(options.formats, ParseFormats(arguments));
  WEIR_ASSIGN_OR_RETURN(const std::string source, ResolveModel(arguments.model));
  ProgressLine progress(absl::StrCat("writing ", arguments.output));
  options.overwrite = arguments.overwrite;
  options.threads = arguments.threads;
  options.isa = arguments.isa;
  options.note = [](const std::string& note) { absl::FPrintF(stderr, "weir: %s\n", note); };
  options.progress = [&progress](uint64_t done_bytes, uint64_t total_bytes) {
    progress.Update(static_cast<double>(done_bytes) / static_cast<double>(total_bytes), done_bytes);
  };
  const RealClock clock;
  const int64_t begin_ns = clock.NowNs();
  const absl::StatusOr<QuantizeResult> result = QuantizeModel(source, arguments.output, options);
  progress.Finish();
  if (!result.ok()) return result.status();
  const double seconds = static_cast<double>(clock.NowNs() - begin_ns) * 1e-9;
  absl::FPrintF(
      stderr,
      "%s: %s (%d bytes), %s; %d of %d tensors changed, weights %s "
      "before, %s now (%.1f %%); "
      "%d threads, %.1f s, %.2f GB/s of the source\n",
      arguments.output, FormatBytes(result->file_bytes), result->file_bytes,
      GetDTypeInfo(options.formats.matrices).name, result->changed_count, result->tensor_count,
      FormatBytes(result->source_bytes), FormatBytes(result->tensor_bytes),
      100.0 * static_cast<double>(result->tensor_bytes) / static_cast<double>(result->source_bytes),
      result->threads, seconds, static_cast<double>(result->source_bytes) / seconds * 1e-9);
  return absl::OkStatus();
}

void AddQuantizeCommand(CLI::App& app, int* exit_code) {
  const auto arguments = std::make_shared<QuantizeArguments>();
  CLI::App* command =
      app.add_subcommand("quantize", "Write the same model with its matrices in another format");
  command->add_option("model", arguments->model, "A GGUF file (of a split model, its first part)")
      ->required();
  command->add_option("output", arguments->output, "The GGUF file to write")->required();
  command
      ->add_option("--format", arguments->format,
                   absl::StrCat("Format of the matrices: ", QuantizableFormats()))
      ->required();
  command->add_option("--output-format", arguments->output_format,
                      "Format of the output matrix (default: as --format)");
  command->add_option("--embedding-format", arguments->embedding_format,
                      "Format of the token embedding (default: as --format)");
  command->add_option("-t,--threads", arguments->threads,
                      "Threads; 0: one for each core that the process may use");
  command->add_option("--isa", arguments->isa, "Instructions: AVX2, AVX3 or AVX3_DL");
  command->add_flag("--overwrite", arguments->overwrite, "Replace the file if it exists");
  command->callback([arguments, exit_code] { *exit_code = ReportStatus(RunQuantize(*arguments)); });
}

}  // namespace weir
