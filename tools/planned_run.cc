#include "tools/planned_run.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/memory_limits.h"
#include "tools/disk_ceiling.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/output_file.h"

namespace weir {
namespace {

constexpr uint32_t kMostThreads = 1024;  // of a CPU device
// Of --dram, that an emulated accelerator has where --hbm is not given.
constexpr uint64_t kEmulatedHbmDivisor = 2;

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

// Of what a saved plan decides: refused beside one.
absl::Status CheckNoPlan(const char* option, const ModelOptions& options) {
  if (options.plan_file.empty()) return absl::OkStatus();
  return OptionError(option,
                     absl::InvalidArgumentError("the plan of --plan says so. Leave it out"));
}

absl::StatusOr<KvFormat> CacheTypeFrom(const char* option, const std::string& text,
                                       const ModelOptions& options) {
  if (text.empty()) return KvFormat::kF16;
  WEIR_RETURN_IF_ERROR(CheckNoPlan(option, options));
  const std::optional<KvFormat> format = KvFormatFromName(text);
  if (format.has_value()) return *format;
  return OptionError(option,
                     absl::InvalidArgumentError(absl::StrCat("'", text, "' is none of f16, q8_0")));
}

absl::StatusOr<bool> ReadAheadFrom(const ModelOptions& options) {
  constexpr char kOption[] = "--read-ahead";
  const std::string& text = options.read_ahead;
  if (text.empty()) return true;
  WEIR_RETURN_IF_ERROR(CheckNoPlan(kOption, options));
  if (text == "on" || text == "off") return text == "on";
  return OptionError(
      kOption, absl::InvalidArgumentError(absl::StrCat("'", text, "' is neither on nor off")));
}

// What this process may take: the limits of machine and cgroup, less what it needs beside the
// budget.
absl::StatusOr<uint64_t> AvailableDramBytes() {
  absl::StatusOr<MemoryLimits> limits = ReadMemoryLimits();
  if (!limits.ok()) return OptionError("--dram is not given", limits.status());
  const uint64_t margin = kProcessMarginBytes + limits->usable_bytes / 16;
  return limits->usable_bytes > margin ? limits->usable_bytes - margin : 0;
}

// The budgets of DRAM and, with an accelerator, of its memory.
absl::Status FillSizes(const ModelOptions& options, const ChosenDevice& device,
                       PlannerOptions* planner) {
  // The memory of an emulated accelerator is this machine's.
  const bool shares_dram = device.is_emulated() && !options.is_elsewhere;
  planner->hbm_bytes = device.hbm_bytes.value_or(0);
  if (!options.dram.empty()) {
    const absl::StatusOr<uint64_t> dram = ParseBytes(options.dram);
    if (!dram.ok()) return OptionError("--dram", dram.status());
    planner->dram_bytes = *dram;
  } else {
    WEIR_ASSIGN_OR_RETURN(const uint64_t available, AvailableDramBytes());
    planner->dram_bytes = available;
    if (shares_dram) {
      const uint64_t hbm = device.hbm_bytes.value_or(available / (kEmulatedHbmDivisor + 1));
      planner->dram_bytes = available - std::min(available, hbm);
    }
  }
  if (device.is_emulated() && !device.hbm_bytes.has_value()) {
    planner->hbm_bytes = *planner->dram_bytes / kEmulatedHbmDivisor;
  }
  return absl::OkStatus();
}

absl::Status FillResidentShare(const ModelOptions& options, const ChosenDevice& device,
                               PlannerOptions* planner) {
  if (device.accelerator.is_used()) {
    return OptionError("--resident",
                       absl::InvalidArgumentError(
                           "with an accelerator two budgets decide what stays where. Use --hbm and "
                           "--dram"));
  }
  const absl::StatusOr<double> share = ParsePercent(options.resident);
  if (!share.ok()) return OptionError("--resident", share.status());
  planner->resident_share = *share;
  return absl::OkStatus();
}

absl::Status CheckBudgetOptions(const ModelOptions& options) {
  const int given = !options.dram.empty() + !options.resident.empty() + !options.plan_file.empty();
  if (given > 1) {
    return OptionError("--dram, --resident, --plan",
                       absl::InvalidArgumentError("give one of them"));
  }
  if (!options.plan_file.empty() && (options.context_tokens != 0 || options.chunk_tokens != 0)) {
    return OptionError("--plan", absl::InvalidArgumentError(
                                     "the plan says what -c and -b are. Leave them out, or make "
                                     "a plan with them: weir plan MODEL -c N -b N --json FILE"));
  }
  return absl::OkStatus();
}

// What decides the plan, and, where one was saved, its text.
struct SavedPlan {
  std::string json;
  PlanFor plan_for = PlanFor::kAny;
};

absl::StatusOr<SavedPlan> ReadSavedPlan(const ModelOptions& options) {
  SavedPlan saved;
  if (options.plan_file.empty()) return saved;
  WEIR_ASSIGN_OR_RETURN(saved.json, ReadTextFile(options.plan_file));
  const absl::StatusOr<Plan> plan = ParsePlanJson(saved.json, options.plan_file);
  if (!plan.ok()) return WithExitCode(ExitCode::kUsage, plan.status());
  saved.plan_for = plan->accelerator.has_value() ? PlanFor::kAccelerator : PlanFor::kCpu;
  return saved;
}

// An accelerator that is simulated is there when it has memory, or when a plan was made for one. It
// is planned for as for an emulated one.
absl::StatusOr<ChosenDevice> ElsewhereDevice(const ModelOptions& options, PlanFor plan_for) {
  ChosenDevice device;
  if (plan_for == PlanFor::kAccelerator || !options.device.hbm.empty()) {
    device.accelerator.kind = AcceleratorKind::kEmulated;
    device.accelerator.h2d_bytes_per_s = options.elsewhere_link_bytes_per_s;
  }
  WEIR_ASSIGN_OR_RETURN(device.in_place, ParseInPlace(options.device.in_place));
  if (options.device.hbm.empty()) return device;
  const absl::StatusOr<uint64_t> hbm = ParseBytes(options.device.hbm);
  if (!hbm.ok()) return OptionError("--hbm", hbm.status());
  if (!options.plan_file.empty()) {
    return OptionError("--plan, --hbm", absl::InvalidArgumentError(
                                            "the plan says what lives where. Leave --hbm out"));
  }
  device.hbm_bytes = *hbm;
  return device;
}

absl::StatusOr<PlannerOptions> PlannerFrom(const Model& model, const ModelOptions& options,
                                           const ChosenDevice& device, const ContextNeeds& needs) {
  PlannerOptions planner;
  WEIR_ASSIGN_OR_RETURN(planner.activations, ActivationsFrom(options));
  WEIR_ASSIGN_OR_RETURN(planner.kv.keys,
                        CacheTypeFrom("--cache-type-k", options.cache_type_k, options));
  WEIR_ASSIGN_OR_RETURN(planner.kv.values,
                        CacheTypeFrom("--cache-type-v", options.cache_type_v, options));
  WEIR_ASSIGN_OR_RETURN(planner.reads_ahead, ReadAheadFrom(options));
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
  planner.accelerator = device.accelerator;
  planner.link_bytes_per_s = device.accelerator.h2d_bytes_per_s;
  planner.in_place = device.in_place;
  planner.disk_bytes_per_s = options.elsewhere_disk_bytes_per_s > 0
                                 ? options.elsewhere_disk_bytes_per_s
                                 : ReadingFor(*model.files[0], options.reader).saved_bytes_per_s;
  return planner;
}

absl::Status CheckDram(uint64_t dram_bytes) {
  const absl::StatusOr<MemoryLimits> limits = ReadMemoryLimits();
  // Where the kernel does not tell, only the allocation itself can.
  if (!limits.ok()) return absl::OkStatus();
  return CheckBudget(dram_bytes, *limits, ReadProcessCounters());
}

// A budget that this machine cannot honour is refused before anything is read.
absl::Status CheckMachine(const Plan& plan, const ChosenDevice& device) {
  const uint64_t hbm_bytes = plan.accelerator ? plan.accelerator->hbm_bytes() : 0;
  if (!device.is_emulated()) {
    if (hbm_bytes > device.free_bytes) {
      return WithExitCode(ExitCode::kBudget, absl::ResourceExhaustedError(absl::StrCat(
                                                 "--plan: the plan takes ", FormatBytes(hbm_bytes),
                                                 " of the accelerator's memory, of "
                                                 "which ",
                                                 FormatBytes(device.free_bytes),
                                                 " are free. Make another one: weir plan "
                                                 "MODEL --hbm SIZE --json FILE")));
    }
    return WithExitCode(ExitCode::kBudget, CheckDram(plan.dram_bytes()));
  }
  absl::Status both = CheckDram(plan.dram_bytes() + hbm_bytes);
  if (both.ok()) return both;
  return WithExitCode(
      ExitCode::kBudget,
      absl::Status(both.code(), absl::StrCat("--dram and --hbm together, since the memory of an "
                                             "emulated accelerator is this machine's: ",
                                             both.message())));
}

absl::StatusOr<ModelPlan> PlanWithin(const Model& model, const PlannerOptions& planner,
                                     const ChosenDevice& device, bool is_elsewhere) {
  absl::StatusOr<ModelPlan> made = PlanModel(model, planner);
  if (!made.ok()) {
    const bool context = absl::IsOutOfRange(made.status());
    const bool budget = absl::IsResourceExhausted(made.status());
    return WithExitCode(context  ? ExitCode::kContext
                        : budget ? ExitCode::kBudget
                                 : ExitCode::kUsage,
                        made.status());
  }
  if (!is_elsewhere) WEIR_RETURN_IF_ERROR(CheckMachine(made->plan, device));
  return made;
}

}  // namespace

absl::StatusOr<PlannedRun> PlanFromOptions(const Model& model, const ModelOptions& options,
                                           const ContextNeeds& needs) {
  WEIR_RETURN_IF_ERROR(CheckInterrupted());
  WEIR_RETURN_IF_ERROR(CheckBudgetOptions(options));
  WEIR_ASSIGN_OR_RETURN(const SavedPlan saved, ReadSavedPlan(options));
  PlannedRun run;
  run.needs = needs;
  if (options.is_elsewhere) {
    WEIR_ASSIGN_OR_RETURN(run.device, ElsewhereDevice(options, saved.plan_for));
  } else {
    WEIR_ASSIGN_OR_RETURN(run.device,
                          ChooseDevice(options.device, saved.plan_for, &ListCudaDevices));
  }
  WEIR_ASSIGN_OR_RETURN(PlannerOptions planner, PlannerFrom(model, options, run.device, needs));
  if (!saved.json.empty()) {
    planner.saved_plan_json = saved.json;
    planner.saved_plan_source = options.plan_file;
  } else if (!options.resident.empty()) {
    WEIR_RETURN_IF_ERROR(FillResidentShare(options, run.device, &planner));
  } else {
    WEIR_RETURN_IF_ERROR(FillSizes(options, run.device, &planner));
  }
  WEIR_ASSIGN_OR_RETURN(run.made, PlanWithin(model, planner, run.device, options.is_elsewhere));
  const bool is_open = run.has_accelerator() && saved.json.empty() &&
                       run.device.in_place == InPlace::kAuto && !options.is_elsewhere;
  if (!is_open) return run;
  WEIR_RETURN_IF_ERROR(MeasureCompute(model, options, &run));
  ChooseInPlace(run.ceilings, &run.made);
  return run;
}

}  // namespace weir
