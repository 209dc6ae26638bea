#include "tools/model_options.h"

#include <algorithm>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/reader.h"
#include "kernels/cpu_topology.h"
#include "tools/exit_codes.h"
#include "tools/model_path.h"

namespace weir {

absl::Status OptionError(const char* option, const absl::Status& status) {
  return WithExitCode(ExitCode::kUsage,
                      absl::Status(status.code(), absl::StrCat(option, ": ", status.message())));
}

void AddPlanOptions(CLI::App& command, ModelOptions* options) {
  command.add_option("model", options->model, "GGUF file, or the name of a fetched model")
      ->required();
  command.add_option("--dram", options->dram,
                     "DRAM budget, such as 400MiB (default: what is available, less a margin)");
  command.add_option("--resident", options->resident,
                     "instead: share of the weights to keep in DRAM, such as 50%");
  command.add_option("--plan", options->plan_file, "instead: a plan saved by `weir plan --json`");
  command.add_option("-c,--ctx-size", options->context_tokens, "context in tokens (0: chosen)");
  command.add_option("-b,--batch-size", options->chunk_tokens,
                     "prompt tokens per pass (0: chosen)");
  command.add_option("-t,--threads", options->threads,
                     "compute threads (0: one for each core that the process may use)");
  command.add_option("--activations", options->activations,
                     "q16: 16-bit products (default); q8: less exact; f32: float32");
  command.add_option("--cache-type-k", options->cache_type_k,
                     "keys of the KV cache: f16 (default), q8_0 (half the memory; CPU)");
  command.add_option("--cache-type-v", options->cache_type_v, "and its values");
  command.add_option("--read-ahead", options->read_ahead,
                     "on (default); off: each matrix is read when it is needed and nothing "
                     "overlaps, to see what overlapping is worth");
  command.add_option("--isa", options->isa,
                     "kernels for this instruction set instead of the best one");
  command.add_option("--json", options->json_path,
                     "write the result here as JSON (- for standard output)");
}

void AddRunOptions(CLI::App& command, ModelOptions* options) {
  AddPlanOptions(command, options);
  AddDeviceOptions(command, &options->device);
  command.add_option("--reader", options->reader, "auto, uring or threads");
  command.add_option(
      "--read-size", options->read_size,
      "bytes of each read, such as 1MiB (default: what `weir probe disk` found best)");
  command.add_option("--read-depth", options->read_depth, "reads in flight (default: likewise)");
  command.add_option("--read-timeout", options->read_timeout,
                     "how long the disk may take to answer a read, such as 60s");
  command.add_option("--faults", options->faults,
                     "inject faults into reads, such as seed=1,short=5%,spike=5%:20ms");
}

uint32_t ThreadsFrom(const ModelOptions& options) {
  return options.threads != 0 ? options.threads : std::max(1u, CountCores(UsableThreads()));
}

absl::StatusOr<std::unique_ptr<Model>> OpenModel(const ModelOptions& options) {
  WEIR_ASSIGN_OR_RETURN(const std::string path, ResolveModel(options.model));
  absl::StatusOr<std::unique_ptr<Model>> model = LoadModel(path);
  if (!model.ok()) return WithExitCode(ExitCode::kBadModel, model.status());
  return model;
}

absl::StatusOr<DiskReading> ReadingFrom(const Model& model, const ModelOptions& options) {
  DiskReading reading = ReadingFor(*model.files[0], options.reader);
  if (!options.read_size.empty()) {
    const absl::StatusOr<uint64_t> bytes = ParseBytes(options.read_size);
    if (!bytes.ok()) return OptionError("--read-size", bytes.status());
    reading.read_bytes = *bytes;
    reading.is_fresh = false;
  }
  if (options.read_depth != 0) {
    reading.depth = options.read_depth;
    reading.is_fresh = false;
  }
  const absl::Status possible =
      ValidateReaderOptions({.chunk_bytes = reading.read_bytes, .depth = reading.depth});
  if (!possible.ok()) return OptionError("--read-size, --read-depth", possible);
  return reading;
}

}  // namespace weir
