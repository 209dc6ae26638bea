#include "tools/model_options.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/compute_probe.h"
#include "io/base.h"
#include "io/quantities.h"
#include "kernels/memory_limits.h"
#include "tools/disk_ceiling.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/model_path.h"
#include "tools/output_file.h"
#include "tools/progress.h"

namespace weir {
namespace {

constexpr uint32_t kMostThreads = 1024;  // of a CPU device
constexpr size_t kTraceRecords = 1 << 20;

absl::Status OptionError(const char* option, const absl::Status& status) {
  return WithExitCode(ExitCode::kUsage,
                      absl::Status(status.code(), absl::StrCat(option, ": ", status.message())));
}

absl::StatusOr<double> ParsePercent(const std::string& text) {
  std::string_view number = text;
  if (!number.empty() && number.back() == '%') number.remove_suffix(1);
  double percent = 0;
  const std::string digits(number);
  if (!absl::SimpleAtod(digits, &percent) || !(percent >= 0 && percent <= 100)) {
    return absl::InvalidArgumentError(absl::StrCat("'", text, "' is not a share from 0% to 100%"));
  }
  return percent / 100;
}

absl::StatusOr<ActivationFormat> ActivationsFrom(const ModelOptions& options) {
  const std::string& text = options.activations;
  if (text == "q16") return ActivationFormat::kQ16;
  if (text == "q8") return ActivationFormat::kQ8;
  if (text == "f32") return ActivationFormat::kF32;
  return OptionError("--activations", absl::InvalidArgumentError(
                                          absl::StrCat("'", text, "' is none of q16, q8, f32")));
}

// What this process may take: the limits of machine and cgroup, less what it needs beside the
// budget.
absl::StatusOr<uint64_t> DefaultDramBytes() {
  WEIR_ASSIGN_OR_RETURN(const MemoryLimits limits, ReadMemoryLimits());
  const uint64_t margin = kProcessMarginBytes + limits.usable_bytes / 16;
  return limits.usable_bytes > margin ? limits.usable_bytes - margin : 0;
}

absl::Status CheckDram(uint64_t dram_bytes) {
  const absl::StatusOr<MemoryLimits> limits = ReadMemoryLimits();
  // Where the kernel does not tell, only the allocation itself can.
  if (!limits.ok()) return absl::OkStatus();
  return WithExitCode(ExitCode::kBudget, CheckBudget(dram_bytes, *limits, ReadProcessCounters()));
}

absl::Status FillBudget(const ModelOptions& options, PlannerOptions* planner) {
  const int given = !options.dram.empty() + !options.resident.empty() + !options.plan_file.empty();
  if (given > 1) {
    return OptionError("--dram, --resident, --plan",
                       absl::InvalidArgumentError("give one of them"));
  }
  if (!options.plan_file.empty()) {
    if (options.context_tokens != 0 || options.chunk_tokens != 0) {
      return OptionError("--plan", absl::InvalidArgumentError(
                                       "the plan says what -c and -b are. Leave them out, or make "
                                       "a plan with them: weir plan MODEL -c N -b N --json FILE"));
    }
    WEIR_ASSIGN_OR_RETURN(planner->saved_plan_json, ReadTextFile(options.plan_file));
    planner->saved_plan_source = options.plan_file;
    return absl::OkStatus();
  }
  if (!options.resident.empty()) {
    absl::StatusOr<double> share = ParsePercent(options.resident);
    if (!share.ok()) return OptionError("--resident", share.status());
    planner->resident_share = *share;
    return absl::OkStatus();
  }
  if (options.dram.empty()) {
    absl::StatusOr<uint64_t> dram = DefaultDramBytes();
    if (!dram.ok()) return OptionError("--dram is not given", dram.status());
    planner->dram_bytes = *dram;
    return absl::OkStatus();
  }
  absl::StatusOr<uint64_t> dram = ParseBytes(options.dram);
  if (!dram.ok()) return OptionError("--dram", dram.status());
  planner->dram_bytes = *dram;
  return absl::OkStatus();
}

// What was asked for, else what suits the disk.
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

// A budget that this machine cannot honour is refused before anything is read.
absl::StatusOr<ModelPlan> PlanWithin(const Model& model, const PlannerOptions& planner,
                                     bool is_elsewhere) {
  absl::StatusOr<ModelPlan> plan = PlanModel(model, planner);
  if (!plan.ok()) {
    const bool context = absl::IsOutOfRange(plan.status());
    const bool budget = absl::IsResourceExhausted(plan.status());
    return WithExitCode(context  ? ExitCode::kContext
                        : budget ? ExitCode::kBudget
                                 : ExitCode::kUsage,
                        plan.status());
  }
  if (!is_elsewhere) WEIR_RETURN_IF_ERROR(CheckDram(plan->plan.dram_bytes()));
  return plan;
}

}  // namespace

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
  command.add_option("-t,--threads", options->threads, "compute threads (0: all cores)");
  command.add_option("--activations", options->activations,
                     "q16: 16-bit products (default); q8: less exact; f32: float32");
  command.add_option("--isa", options->isa,
                     "kernels for this instruction set instead of the best one");
  command.add_option("--json", options->json_path,
                     "write the result here as JSON (- for standard output)");
}

void AddRunOptions(CLI::App& command, ModelOptions* options) {
  AddPlanOptions(command, options);
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
  return options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
}

absl::StatusOr<std::unique_ptr<Model>> OpenModel(const ModelOptions& options) {
  WEIR_ASSIGN_OR_RETURN(const std::string path, ResolveModel(options.model));
  absl::StatusOr<std::unique_ptr<Model>> model = LoadModel(path);
  if (!model.ok()) return WithExitCode(ExitCode::kBadModel, model.status());
  return model;
}

absl::StatusOr<ModelPlan> PlanFromOptions(const Model& model, const ModelOptions& options,
                                          const ContextNeeds& needs) {
  WEIR_RETURN_IF_ERROR(CheckInterrupted());
  PlannerOptions planner;
  WEIR_RETURN_IF_ERROR(FillBudget(options, &planner));
  WEIR_ASSIGN_OR_RETURN(planner.activations, ActivationsFrom(options));
  planner.threads = ThreadsFrom(options);
  if (planner.threads > kMostThreads) {
    return OptionError("-t", absl::InvalidArgumentError(absl::StrCat(
                                 planner.threads, " threads; at most ", kMostThreads, " work")));
  }
  planner.context_tokens = options.context_tokens;
  planner.min_context_tokens = needs.min_context_tokens;
  planner.chunk_tokens = options.chunk_tokens;
  if (needs.prompt_tokens > 0)
    planner.max_chunk_tokens = std::min(planner.max_chunk_tokens, needs.prompt_tokens);
  planner.logit_rows = needs.logit_rows;
  planner.disk_bytes_per_s = options.elsewhere_disk_bytes_per_s > 0
                                 ? options.elsewhere_disk_bytes_per_s
                                 : ReadingFor(*model.files[0], options.reader).saved_bytes_per_s;
  return PlanWithin(model, planner, options.is_elsewhere);
}

absl::StatusOr<MeasuredCeilings> MeasureCeilings(const Model& model, const ModelOptions& options,
                                                 uint32_t position, ModelPlan* plan) {
  MeasuredCeilings measured;
  WEIR_ASSIGN_OR_RETURN(measured.ceilings, MeasureCompute(model, options, position, *plan));
  WEIR_ASSIGN_OR_RETURN(const DiskReading reading, ReadingFrom(model, options));
  const DiskFigures disk = MeasureDisk(*model.files[0], reading);
  measured.disk_note = disk.note;
  measured.ceilings.disk_bytes_per_s = disk.bytes_per_s;
  measured.ceilings.disk_latency_ns = disk.latency_ns;
  plan->plan.prediction = PredictPlan(plan->transformer->program(), plan->plan, measured.ceilings);
  return measured;
}

absl::Status MeasureDiskOf(Engine& engine, const Model& model, const ModelOptions& options,
                           Ceilings* ceilings) {
  WEIR_ASSIGN_OR_RETURN(const DiskReading reading, ReadingFrom(model, options));
  const DiskFigures disk = MeasureDisk(*model.files[0], reading, engine.ring_before_use());
  ceilings->disk_bytes_per_s = disk.bytes_per_s;
  ceilings->disk_latency_ns = disk.latency_ns;
  return absl::OkStatus();
}

absl::StatusOr<Ceilings> MeasureCompute(const Model& model, const ModelOptions& options,
                                        uint32_t position, const ModelPlan& plan) {
  ComputeProbeOptions probe;
  probe.threads = ThreadsFrom(options);
  probe.isa = options.isa;
  probe.position = std::min(position, plan.plan.shape.context_tokens - 1);
  probe.memory_bytes = std::min<uint64_t>(probe.memory_bytes, plan.plan.dram_bytes() / 2);
  absl::StatusOr<std::vector<int64_t>> steps = ProbeSteps(model, *plan.transformer, probe);
  if (!steps.ok()) return WithExitCode(ExitCode::kUsage, steps.status());
  const int64_t pass_ns = std::accumulate(steps->begin(), steps->end(), int64_t{1});
  Ceilings ceilings;
  ceilings.compute_bytes_per_s = static_cast<double>(plan.transformer->program().payload_bytes()) *
                                 1e9 / static_cast<double>(pass_ns);
  ceilings.step_ns = *std::move(steps);
  return ceilings;
}

absl::StatusOr<std::unique_ptr<Engine>> OpenEngine(const Model& model, ModelPlan plan,
                                                   const ModelOptions& options) {
  WEIR_RETURN_IF_ERROR(CheckInterrupted());
  EngineOptions engine_options;
  WEIR_ASSIGN_OR_RETURN(const DiskReading disk, ReadingFrom(model, options));
  engine_options.reader = disk.reader;
  engine_options.read_bytes = disk.read_bytes;
  engine_options.read_depth = disk.depth;
  engine_options.threads = ThreadsFrom(options);
  engine_options.isa = options.isa;
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
  // A prompt pass over many tokens, or the first pass over a large model, takes long: say how far
  // it is.
  auto line = std::make_shared<ProgressLine>("prompt");
  engine_options.on_progress = [line](const EngineProgress& progress) {
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
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Open(model, std::move(plan), engine_options);
  if (!engine.ok()) {
    if (absl::IsDeadlineExceeded(engine.status())) WEIR_RETURN_IF_ERROR(CheckInterrupted());
    // A file that ends early is one that changed since its header was read.
    const bool reading = absl::IsOutOfRange(engine.status()) || absl::IsDataLoss(engine.status()) ||
                         absl::IsUnavailable(engine.status()) ||
                         absl::IsDeadlineExceeded(engine.status());
    if (reading) return WithExitCode(ExitCode::kIo, engine.status());
    // An --isa that this CPU lacks.
    if (absl::IsFailedPrecondition(engine.status())) {
      return WithExitCode(ExitCode::kUsage, engine.status());
    }
    return engine.status();
  }
  if (!(*engine)->reader_note().empty())
    std::fprintf(stderr, "weir: %s\n", (*engine)->reader_note().c_str());
  for (const auto& file : model.files) {
    if (!file->is_direct())
      std::fprintf(stderr, "weir: %s: %s\n", file->path().c_str(), file->buffered_reason().c_str());
  }
  return engine;
}

}  // namespace weir
