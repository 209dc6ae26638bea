#include "tools/cmd_simulate.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"
#include "io/quantities.h"
#include "nlohmann/json.hpp"
#include "tiering/simulate.h"
#include "tools/exit_codes.h"
#include "tools/model_options.h"
#include "tools/output_file.h"

namespace weir {
namespace {

constexpr size_t kTraceRecords = 1 << 20;
constexpr int64_t kDefaultLatencyNs = 100'000;  // of a disk that is given, not measured
constexpr double kSeedJitter = 0.5;             // of latencies, when a seed is all that is given
constexpr uint32_t kMaxTokens = 10'000;

struct SimulateFlags {
  ModelOptions model;
  std::string disk;          // RATE
  std::string disk_latency;  // TIME
  std::string compute;       // RATE
  std::optional<uint64_t> seed;
  uint32_t tokens = 16;
};

// What is simulated, and where its figures come from.
struct Hardware {
  SimHardware sim;
  std::string disk_note;
  std::string compute_note;
};

absl::Status UsageError(const std::string& message) {
  return WithExitCode(ExitCode::kUsage, absl::InvalidArgumentError(message));
}

// The value of an option, its name in front of what is wrong with it.
template <typename T>
absl::StatusOr<T> OptionValue(const char* option, absl::StatusOr<T> value) {
  if (value.ok()) return value;
  return UsageError(absl::StrCat(option, ": ", value.status().message()));
}

absl::StatusOr<SimFaults> FaultsFrom(const SimulateFlags& flags) {
  absl::StatusOr<SimFaults> faults = OptionValue("--faults", ParseSimFaults(flags.model.faults));
  if (!faults.ok() || !flags.seed.has_value()) return faults;
  if (absl::StrContains(flags.model.faults, "seed=")) {
    return UsageError("--seed and a seed in --faults: give one of them");
  }
  faults->seed = *flags.seed;
  if (flags.model.faults.empty()) faults->jitter_share = kSeedJitter;
  return faults;
}

absl::Status CheckFlags(const SimulateFlags& flags) {
  if (flags.tokens == 0 || flags.tokens > kMaxTokens) {
    return UsageError(absl::StrCat("-n: from 1 to ", kMaxTokens, " tokens can be simulated"));
  }
  if (!flags.compute.empty() && !flags.model.isa.empty()) {
    return UsageError("--isa is for measuring this machine; --compute says what to simulate");
  }
  return absl::OkStatus();
}

// With the whole output head in memory, and the embedding table being the same tensor, nothing is
// read to gather rows.
bool RowsAreResident(const Model& model, const Program& program, const Plan& plan) {
  if (model.tensors.output != model.tensors.embedding) return false;
  for (StepId step = program.head_step; step < program.steps.size(); ++step) {
    for (BlockId block : program.steps[step].needs) {
      if (plan.placements[block].home == Tier::kDisk) return false;
    }
  }
  return true;
}

// What is not given is measured here.
absl::StatusOr<Hardware> HardwareFrom(const Model& model, const SimulateFlags& flags,
                                      ModelPlan* plan) {
  Hardware hardware;
  Ceilings ceilings;
  hardware.disk_note = hardware.compute_note = "given";
  if (flags.disk.empty() || flags.compute.empty()) {
    WEIR_ASSIGN_OR_RETURN(const MeasuredCeilings measured,
                          MeasureCeilings(model, flags.model, flags.tokens / 2, plan));
    ceilings = measured.ceilings;
    if (flags.disk.empty()) hardware.disk_note = measured.disk_note;
    if (flags.compute.empty()) hardware.compute_note = "measured here";
    if (flags.disk.empty() && ceilings.disk_bytes_per_s <= 0) {
      return UsageError(absl::StrCat("the disk could not be measured (", measured.disk_note,
                                     "): say what to simulate with --disk"));
    }
  }
  if (!flags.disk.empty()) {
    WEIR_ASSIGN_OR_RETURN(ceilings.disk_bytes_per_s, OptionValue("--disk", ParseRate(flags.disk)));
    ceilings.disk_latency_ns = kDefaultLatencyNs;
  }
  if (!flags.disk_latency.empty()) {
    WEIR_ASSIGN_OR_RETURN(ceilings.disk_latency_ns,
                          OptionValue("--disk-latency", ParseDuration(flags.disk_latency)));
  }
  if (!flags.compute.empty()) {
    WEIR_ASSIGN_OR_RETURN(ceilings.compute_bytes_per_s,
                          OptionValue("--compute", ParseRate(flags.compute)));
    ceilings.step_ns.clear();
  }
  hardware.sim = SimHardwareFrom(ceilings);
  WEIR_ASSIGN_OR_RETURN(hardware.sim.read_timeout_ns,
                        OptionValue("--read-timeout", ParseDuration(flags.model.read_timeout)));
  if (hardware.sim.read_timeout_ns <= 0) {
    return UsageError("--read-timeout: no disk answers at once; give it more than 0");
  }
  if (RowsAreResident(model, plan->transformer->program(), plan->plan)) {
    hardware.sim.rows_latency_ns = 0;
  }
  return hardware;
}

double Millis(double ns) { return ns * 1e-6; }
double Percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

// Weight bytes over the time of all steps.
double ComputeBytesPerS(const Program& program, const Simulation& simulation) {
  if (simulation.compute_bound_ns == 0) return 0;
  return static_cast<double>(program.payload_bytes()) * 1e9 /
         static_cast<double>(simulation.compute_bound_ns);
}

std::string FaultText(const SimStats& stats) {
  const SimFaultStats& f = stats.faults;
  return absl::StrFormat(
      "%d EIO, %d EAGAIN, %d short, %d slow, %d delayed, %d stuck, %d told late or out of order, "
      "%d "
      "reads failed",
      f.eio_errors, f.busy_errors, f.short_attempts, f.slow_reads, f.spikes, f.stuck_reads,
      stats.late_reads, stats.failed_transfers);
}

void Print(const Model& model, const ModelPlan& made, const Hardware& hardware,
           const Simulation& s) {
  const Program& program = made.transformer->program();
  const PlanSummary summary = Summarise(program, made.plan);
  std::printf("%s, simulated: %s of weights, %.1f %% resident, budget %s, ring of %u x %s\n",
              model.path.c_str(), FormatBytes(program.payload_bytes()).c_str(),
              100 * summary.resident_share(), FormatBytes(made.plan.dram_budget_bytes).c_str(),
              made.plan.slots, FormatBytes(made.plan.slot_bytes).c_str());
  std::printf("Hardware: disk %.2f GB/s after %.0f us (%s), compute %.2f GB/s of weights (%s)\n",
              hardware.sim.disk_bytes_per_s * 1e-9,
              static_cast<double>(hardware.sim.disk_latency_ns) * 1e-3, hardware.disk_note.c_str(),
              ComputeBytesPerS(program, s) * 1e-9, hardware.compute_note.c_str());
  std::printf("Bound: %.2f tok/s by %s (per token: disk %.2f ms, compute %.2f ms)\n",
              s.bound_ns() > 0 ? 1e9 / static_cast<double>(s.bound_ns()) : 0.0,
              s.bottleneck.c_str(), Millis(static_cast<double>(s.disk_bound_ns)),
              Millis(static_cast<double>(s.compute_bound_ns)));
  const auto steady_ns = static_cast<double>(s.steady_ns);
  if (s.passes > 0) {
    std::printf(
        "Reached: %.2f tok/s over %u tokens, %.1f %% of the bound; first token after %.1f "
        "ms\n",
        s.tokens_per_s(), s.passes, 100 * s.share_of_bound(),
        Millis(static_cast<double>(s.first_logits_ns)));
    std::printf(
        "Time: disk busy %.1f %%, compute busy %.1f %%, compute waiting for the disk %.1f "
        "%%\n",
        Percent(static_cast<double>(s.disk_busy_ns), steady_ns),
        Percent(static_cast<double>(s.compute_busy_ns), steady_ns),
        Percent(static_cast<double>(s.disk_stall_ns), steady_ns));
  }
  std::printf(
      "In all: %.1f ms, %s read, %u blocks read in vain, peak memory %s\n",
      Millis(static_cast<double>(s.total_ns)), FormatBytes(s.machine.transfer_bytes).c_str(),
      static_cast<unsigned>(s.scheduler.discarded), FormatBytes(s.machine.peak_held_bytes).c_str());
  std::printf("Faults: %s\n", FaultText(s.machine).c_str());
  std::printf("Events: %llu, trace hash %016llx\n",
              static_cast<unsigned long long>(s.machine.events),
              static_cast<unsigned long long>(s.trace_hash));
}

nlohmann::json ToJson(const Model& model, const ModelPlan& made, const Hardware& hardware,
                      const Simulation& s) {
  const Program& program = made.transformer->program();
  const SimFaultStats& f = s.machine.faults;
  const auto seconds = [](int64_t ns) { return static_cast<double>(ns) * 1e-9; };
  return {{"model", model.path},
          {"simulated", true},
          {"dram_budget_bytes", made.plan.dram_budget_bytes},
          {"resident_share", Summarise(program, made.plan).resident_share()},
          {"ring", {{"slots", made.plan.slots}, {"slot_bytes", made.plan.slot_bytes}}},
          {"hardware",
           {{"disk_gb_per_s", hardware.sim.disk_bytes_per_s * 1e-9},
            {"disk_latency_us", static_cast<double>(hardware.sim.disk_latency_ns) * 1e-3},
            {"compute_gb_per_s", ComputeBytesPerS(program, s) * 1e-9}}},
          {"bound",
           {{"disk_s", seconds(s.disk_bound_ns)},
            {"compute_s", seconds(s.compute_bound_ns)},
            {"bottleneck", s.bottleneck}}},
          {"generated_tokens", s.passes},
          {"decode_tokens_per_s", s.tokens_per_s()},
          {"share_of_bound", s.share_of_bound()},
          {"ttft_s", seconds(s.first_logits_ns)},
          {"time_s",
           {{"steady", seconds(s.steady_ns)},
            {"disk_busy", seconds(s.disk_busy_ns)},
            {"compute_busy", seconds(s.compute_busy_ns)},
            {"disk_stall", seconds(s.disk_stall_ns)},
            {"total", seconds(s.total_ns)}}},
          {"links", {{"disk", {{"bytes", s.machine.transfer_bytes}}}}},
          {"discarded_blocks", s.scheduler.discarded},
          {"peak_held_bytes", s.machine.peak_held_bytes},
          {"faults",
           {{"eio", f.eio_errors},
            {"again", f.busy_errors},
            {"short", f.short_attempts},
            {"slow", f.slow_reads},
            {"spike", f.spikes},
            {"stuck", f.stuck_reads},
            {"late", s.machine.late_reads},
            {"failed_reads", s.machine.failed_transfers}}},
          {"error", std::string(s.status.message())},
          {"events", s.machine.events},
          {"trace_hash", absl::StrFormat("%016x", s.trace_hash)}};
}

// How `weir run` would have ended.
absl::Status Outcome(const Simulation& simulation) {
  if (!simulation.violation.ok()) {
    return absl::InternalError(absl::StrCat("the scheduler broke an invariant, a bug of weir's: ",
                                            simulation.violation.message()));
  }
  if (absl::IsCancelled(simulation.status)) {
    return WithExitCode(ExitCode::kInterrupted, simulation.status);
  }
  return WithExitCode(ExitCode::kIo, simulation.status);
}

absl::Status SimulateCommand(SimulateFlags flags) {
  WEIR_ASSIGN_OR_RETURN(OutputFile json, OutputFile::Open(flags.model.json_path));
  WEIR_ASSIGN_OR_RETURN(OutputFile trace_file, OutputFile::Open(flags.model.trace_path));
  WEIR_RETURN_IF_ERROR(CheckFlags(flags));
  WEIR_ASSIGN_OR_RETURN(const SimFaults faults, FaultsFrom(flags));
  flags.model.is_elsewhere = true;
  if (!flags.disk.empty()) {
    WEIR_ASSIGN_OR_RETURN(flags.model.elsewhere_disk_bytes_per_s,
                          OptionValue("--disk", ParseRate(flags.disk)));
  }
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(flags.model));
  WEIR_ASSIGN_OR_RETURN(ModelPlan made, PlanFromOptions(*model, flags.model, ContextNeeds()));
  WEIR_ASSIGN_OR_RETURN(const Hardware hardware, HardwareFrom(*model, flags, &made));
  const Program& program = made.transformer->program();
  Trace trace(flags.model.trace_path.empty() ? 0 : kTraceRecords);
  const Simulation simulation =
      SimulateDecode(program, made.plan, hardware.sim, faults, {.passes = flags.tokens},
                     flags.model.trace_path.empty() ? nullptr : &trace);
  if (flags.model.json_path != "-") Print(*model, made, hardware, simulation);
  if (trace.dropped() > 0) {
    std::fprintf(stderr, "weir: the trace is full: the last %llu records are missing\n",
                 static_cast<unsigned long long>(trace.dropped()));
  }
  // Also where a fault ended the run: that is what the trace is for.
  WEIR_RETURN_IF_ERROR(json.Write(ToJson(*model, made, hardware, simulation).dump(1) + "\n"));
  WEIR_RETURN_IF_ERROR(json.Close());
  if (trace_file.is_open()) {
    WEIR_RETURN_IF_ERROR(
        trace_file.Write(trace.ToPerfettoJson(program, {.name = "weir simulate", .id = 2})));
    WEIR_RETURN_IF_ERROR(trace_file.Close());
  }
  return Outcome(simulation);
}

}  // namespace

void AddSimulateCommand(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<SimulateFlags>();
  CLI::App* command = app.add_subcommand(
      "simulate", "what generating would be like on other hardware, or with a faulty disk");
  AddPlanOptions(*command, &flags->model);
  command->add_option("-n,--tokens", flags->tokens, "tokens to generate (default 16)");
  command->add_option("--disk", flags->disk,
                      "the disk's rate, such as 7GB/s (default: this machine's, measured)");
  command->add_option("--disk-latency", flags->disk_latency,
                      "of each read, such as 80us (default: 100us with --disk, else measured)");
  command->add_option("--compute", flags->compute,
                      "weights multiplied per second, such as 20GB/s (default: measured here)");
  command->add_option("--seed", flags->seed,
                      "of the faults; without --faults, of latencies that vary by half");
  command->add_option("--faults", flags->model.faults,
                      "such as slow=5%:x10,stuck_at=300; all words: docs/simulate.md");
  command->add_option("--read-timeout", flags->model.read_timeout,
                      "how long the disk may take to answer a read, such as 60s");
  command->add_option("--trace", flags->model.trace_path, "write a trace for Perfetto here");
  command->callback([flags, exit_code] { *exit_code = ReportStatus(SimulateCommand(*flags)); });
}

}  // namespace weir
