#include "tools/open_engine.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "io/base.h"
#include "io/quantities.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/progress.h"

namespace weir {
namespace {

constexpr size_t kTraceRecords = 1 << 20;

// A prompt pass over many tokens, or the first pass over a large model, takes long: says how far it
// is.
std::function<void(const EngineProgress&)> ReportProgress() {
  auto line = std::make_shared<ProgressLine>("prompt");
  return [line](const EngineProgress& progress) {
    if (progress.tokens_total <= 1) return line->Finish();
    const double chunk =
        std::min<double>(progress.tokens_total - progress.tokens_done, progress.chunk_tokens);
    line->Update((progress.tokens_done + progress.pass_share * chunk) / progress.tokens_total,
                 progress.bytes_read);
    if (progress.tokens_done + chunk >= progress.tokens_total && progress.pass_share >= 1) {
      line->Finish();
      line->Restart("prompt");
    }
  };
}

absl::StatusOr<EngineOptions> EngineOptionsFrom(const Model& model, const PlannedRun& run,
                                                const ModelOptions& options) {
  EngineOptions engine_options;
  WEIR_ASSIGN_OR_RETURN(const DiskReading disk, ReadingFrom(model, options));
  engine_options.reader = disk.reader;
  engine_options.read_bytes = disk.read_bytes;
  engine_options.read_depth = disk.depth;
  engine_options.threads = ThreadsFrom(options);
  engine_options.isa = options.isa;
  if (run.has_accelerator()) engine_options.accelerator = run.device.accelerator;
  engine_options.top_logits = run.top_logits;
  engine_options.profile = run.profile;
  engine_options.cancel = &InterruptFlag();
  if (!options.trace_path.empty()) engine_options.trace_records = kTraceRecords;
  const absl::StatusOr<int64_t> read_timeout_ns = ParseDuration(options.read_timeout);
  if (!read_timeout_ns.ok()) return OptionError("--read-timeout", read_timeout_ns.status());
  if (*read_timeout_ns <= 0) {
    return OptionError("--read-timeout",
                       absl::InvalidArgumentError("no disk answers at once; give it more than 0"));
  }
  engine_options.read_timeout_ns = *read_timeout_ns;
  if (!options.faults.empty()) {
    absl::StatusOr<FaultOptions> faults = ParseFaultOptions(options.faults);
    if (!faults.ok()) return OptionError("--faults", faults.status());
    engine_options.faults = *faults;
  }
  if (!options.is_quiet) engine_options.on_progress = ReportProgress();
  return engine_options;
}

// With the exit code of what went wrong.
absl::Status OpenError(const absl::Status& status, bool has_accelerator) {
  if (absl::IsDeadlineExceeded(status)) WEIR_RETURN_IF_ERROR(CheckInterrupted());
  // A file that ends early is one that changed since its header was read.
  const bool reading =
      absl::IsOutOfRange(status) || absl::IsDataLoss(status) || absl::IsDeadlineExceeded(status);
  if (reading) return WithExitCode(ExitCode::kIo, status);
  if (absl::IsUnavailable(status)) {
    return WithExitCode(has_accelerator ? ExitCode::kDevice : ExitCode::kIo, status);
  }
  // An --isa that this CPU lacks, or a GPU that cannot be used.
  if (absl::IsFailedPrecondition(status)) {
    return WithExitCode(has_accelerator ? ExitCode::kDevice : ExitCode::kUsage, status);
  }
  return status;
}

void Remark(const std::string& text) {
  if (!text.empty()) std::fprintf(stderr, "weir: %s\n", text.c_str());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> OpenEngine(const Model& model, PlannedRun* run,
                                                   const ModelOptions& options) {
  WEIR_RETURN_IF_ERROR(CheckInterrupted());
  WEIR_ASSIGN_OR_RETURN(const EngineOptions engine_options,
                        EngineOptionsFrom(model, *run, options));
  const bool has_accelerator = run->has_accelerator();
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Open(model, std::move(run->made), engine_options);
  if (!engine.ok()) return OpenError(engine.status(), has_accelerator);
  if (options.is_quiet) return engine;
  Remark(run->device.note);
  if (run->device.is_emulated()) {
    Remark("computing on " + (*engine)->device_name() + ": no figure below is a GPU's");
  }
  Remark((*engine)->reader_note());
  for (const auto& file : model.files) {
    if (!file->is_direct()) Remark(file->path() + ": " + file->buffered_reason());
  }
  return engine;
}

}  // namespace weir
