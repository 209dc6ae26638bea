#include "tools/cmd_simulate.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
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
#include "tools/planned_run.h"
#include "tools/report.h"

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
  std::string compute;       // RATE; with --hbm the accelerator's
  std::string link;          // RATE
  std::string link_latency;  // TIME
  std::string cpu;           // RATE; beside the accelerator
  std::optional<uint64_t> seed;
  uint32_t tokens = 16;
};

// What is simulated, and where its figures come from.
struct Hardware {
  SimHardware sim;
  std::string disk_note;
  std::string compute_note;
  std::string cpu_note;
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

// What the link and the CPU beside it are is only asked with an accelerator.
absl::Status CheckAcceleratorFlags(const SimulateFlags& flags, const PlannedRun& run) {
  if (run.has_accelerator()) return absl::OkStatus();
  const std::pair<const char*, const std::string*> given[] = {
      {"--link", &flags.link},
      {"--link-latency", &flags.link_latency},
      {"--cpu", &flags.cpu},
      {"--in-place", &flags.model.device.in_place}};
  for (const auto& [name, value] : given) {
    if (value->empty()) continue;
    return UsageError(absl::StrCat(name,
                                   ": there is a link only with an accelerator. Give its "
                                   "memory with --hbm, or leave this out"));
  }
  return absl::OkStatus();
}

absl::Status CheckFlags(const SimulateFlags& flags) {
  if (flags.tokens == 0 || flags.tokens > kMaxTokens) {
    return UsageError(absl::StrCat("-n: from 1 to ", kMaxTokens, " tokens can be simulated"));
  }
  const bool is_cpu_given = flags.model.device.hbm.empty() || !flags.cpu.empty();
  if (!flags.compute.empty() && is_cpu_given && !flags.model.isa.empty()) {
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

// Puts the rate of an option, where it is given, in the place of what was measured.
absl::Status TakeRate(const char* option, const std::string& text, double* bytes_per_s) {
  if (text.empty()) return absl::OkStatus();
  WEIR_ASSIGN_OR_RETURN(*bytes_per_s, OptionValue(option, ParseRate(text)));
  return absl::OkStatus();
}

absl::Status TakeTime(const char* option, const std::string& text, int64_t* ns) {
  if (text.empty()) return absl::OkStatus();
  WEIR_ASSIGN_OR_RETURN(*ns, OptionValue(option, ParseDuration(text)));
  return absl::OkStatus();
}

// Measures here what is needed and not given. A simulated accelerator is taken to be as fast as
// this CPU unless --compute says otherwise.
absl::Status MeasureTheRest(const Model& model, const SimulateFlags& flags, PlannedRun* run,
                            Hardware* hardware) {
  const bool needs_cpu = run->has_accelerator() && flags.cpu.empty();
  const bool needs_steps = flags.compute.empty() || needs_cpu;
  hardware->disk_note = hardware->compute_note = hardware->cpu_note = "given";
  if (flags.compute.empty()) hardware->compute_note = "measured here";
  if (flags.cpu.empty()) hardware->cpu_note = "measured here";
  if (!flags.disk.empty()) {
    return needs_steps ? MeasureCompute(model, flags.model, run) : absl::OkStatus();
  }
  WEIR_ASSIGN_OR_RETURN(hardware->disk_note, MeasureCeilings(model, flags.model, run));
  if (run->ceilings.disk_bytes_per_s > 0) return absl::OkStatus();
  return UsageError(absl::StrCat("the disk could not be measured (", hardware->disk_note,
                                 "): say what to simulate with --disk"));
}

// Also decides what the CPU multiplies in place, where that is open.
absl::StatusOr<Hardware> HardwareFrom(const Model& model, const SimulateFlags& flags,
                                      PlannedRun* run) {
  Hardware hardware;
  WEIR_RETURN_IF_ERROR(MeasureTheRest(model, flags, run, &hardware));
  Ceilings& ceilings = run->ceilings;
  if (!flags.disk.empty()) ceilings.disk_latency_ns = kDefaultLatencyNs;
  WEIR_RETURN_IF_ERROR(TakeRate("--disk", flags.disk, &ceilings.disk_bytes_per_s));
  WEIR_RETURN_IF_ERROR(TakeTime("--disk-latency", flags.disk_latency, &ceilings.disk_latency_ns));
  WEIR_RETURN_IF_ERROR(TakeRate("--compute", flags.compute, &ceilings.compute_bytes_per_s));
  if (!flags.compute.empty()) ceilings.step_ns.clear();
  WEIR_RETURN_IF_ERROR(TakeRate("--cpu", flags.cpu, &ceilings.host_compute_bytes_per_s));
  if (!flags.cpu.empty()) ceilings.host_step_ns.clear();
  ceilings.link_bytes_per_s = kDefaultLinkBytesPerS;
  ceilings.link_latency_ns = kDefaultLinkLatencyNs;
  WEIR_RETURN_IF_ERROR(TakeRate("--link", flags.link, &ceilings.link_bytes_per_s));
  WEIR_RETURN_IF_ERROR(TakeTime("--link-latency", flags.link_latency, &ceilings.link_latency_ns));
  ChooseInPlace(ceilings, &run->made);
  hardware.sim = SimHardwareFrom(ceilings);
  WEIR_RETURN_IF_ERROR(
      TakeTime("--read-timeout", flags.model.read_timeout, &hardware.sim.read_timeout_ns));
  if (hardware.sim.read_timeout_ns <= 0) {
    return UsageError("--read-timeout: no disk answers at once; give it more than 0");
  }
  if (RowsAreResident(model, run->made.transformer->program(), run->made.plan)) {
    hardware.sim.rows_latency_ns = 0;
  }
  return hardware;
}

double Millis(double ns) { return ns * 1e-6; }
double Percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

// Weight bytes over the time of all steps, on one of the devices (StepNs, HostStepNs).
double BytesPerS(const Program& program, const SimHardware& hardware,
                 int64_t (*step_ns)(const SimHardware&, const Program&, StepId)) {
  int64_t pass_ns = 0;
  for (StepId step = 0; step < program.steps.size(); ++step) {
    pass_ns += step_ns(hardware, program, step);
  }
  if (pass_ns == 0) return 0;
  return static_cast<double>(program.payload_bytes()) * 1e9 / static_cast<double>(pass_ns);
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

// Where the weights are, and the budgets.
void PrintPlan(const Model& model, const ModelPlan& made) {
  const Plan& plan = made.plan;
  const Program& program = made.transformer->program();
  const PlanSummary summary = Summarise(program, plan);
  std::printf("%s, simulated: %s of weights, %.1f %% resident, budget %s, ring of %u x %s\n",
              model.path.c_str(), FormatBytes(program.payload_bytes()).c_str(),
              100 * summary.resident_share(), FormatBytes(plan.dram_budget_bytes).c_str(),
              plan.slots, FormatBytes(plan.slot_bytes).c_str());
  if (!plan.accelerator) return;
  const WeightShares shares = SharesOf(summary);
  std::printf(
      "Accelerator: budget %s, ring of %u x %s; weights: HBM %.1f %%, DRAM %.1f %%, disk %.1f %%, "
      "%.1f %% multiplied in place by the CPU\n",
      FormatBytes(plan.accelerator->hbm_budget_bytes).c_str(), plan.accelerator->slots,
      FormatBytes(plan.accelerator->slot_bytes).c_str(), 100 * shares.device, 100 * shares.host,
      100 * shares.disk, 100 * shares.in_place);
}

void PrintHardware(const Program& program, const Hardware& hardware, bool has_accelerator,
                   const Simulation& s) {
  const SimHardware& sim = hardware.sim;
  std::printf("Hardware: disk %.2f GB/s after %.0f us (%s), compute %.2f GB/s of weights (%s)\n",
              sim.disk_bytes_per_s * 1e-9, static_cast<double>(sim.disk_latency_ns) * 1e-3,
              hardware.disk_note.c_str(), BytesPerS(program, sim, StepNs) * 1e-9,
              hardware.compute_note.c_str());
  std::string more;
  if (has_accelerator) {
    std::printf("Beside it: link %.2f GB/s after %.0f us, CPU %.2f GB/s of weights (%s)\n",
                sim.link_bytes_per_s * 1e-9, static_cast<double>(sim.link_latency_ns) * 1e-3,
                BytesPerS(program, sim, HostStepNs) * 1e-9, hardware.cpu_note.c_str());
    more =
        absl::StrFormat(", link %.2f ms, CPU %.2f ms", Millis(static_cast<double>(s.link_bound_ns)),
                        Millis(static_cast<double>(s.host_compute_bound_ns)));
  }
  std::printf("Bound: %.2f tok/s by %s (per token: disk %.2f ms, compute %.2f ms%s)\n",
              s.bound_ns() > 0 ? 1e9 / static_cast<double>(s.bound_ns()) : 0.0,
              s.bottleneck.c_str(), Millis(static_cast<double>(s.disk_bound_ns)),
              Millis(static_cast<double>(s.compute_bound_ns)), more.c_str());
}

void Print(const Model& model, const ModelPlan& made, const Hardware& hardware,
           const Simulation& s) {
  const bool has_accelerator = made.plan.accelerator.has_value();
  PrintPlan(model, made);
  PrintHardware(made.transformer->program(), hardware, has_accelerator, s);
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
    if (has_accelerator) {
      std::printf("  link busy %.1f %%, CPU busy %.1f %%, compute waiting for copies %.1f %%\n",
                  Percent(static_cast<double>(s.link_busy_ns), steady_ns),
                  Percent(static_cast<double>(s.host_compute_busy_ns), steady_ns),
                  Percent(static_cast<double>(s.copy_stall_ns), steady_ns));
    }
  }
  std::printf(
      "In all: %.1f ms, %s read, %u blocks read in vain, peak memory %s\n",
      Millis(static_cast<double>(s.total_ns)), FormatBytes(s.machine.transfer_bytes).c_str(),
      static_cast<unsigned>(s.scheduler.discarded), FormatBytes(s.machine.peak_held_bytes).c_str());
  if (has_accelerator) {
    std::printf("  %s copied, peak HBM %s\n", FormatBytes(s.machine.copy_bytes).c_str(),
                FormatBytes(s.machine.peak_device_bytes).c_str());
  }
  std::printf("Faults: %s\n", FaultText(s.machine).c_str());
  std::printf("Events: %llu, trace hash %016llx\n",
              static_cast<unsigned long long>(s.machine.events),
              static_cast<unsigned long long>(s.trace_hash));
}

double Seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

// What there is with an accelerator only.
void AddAccelerator(const ModelPlan& made, const Hardware& hardware, const Simulation& s,
                    nlohmann::json* json) {
  if (!made.plan.accelerator) return;
  const Program& program = made.transformer->program();
  const WeightShares shares = SharesOf(Summarise(program, made.plan));
  nlohmann::json& out = *json;
  out["hbm_budget_bytes"] = made.plan.accelerator->hbm_budget_bytes;
  out["device_ring"] = {{"slots", made.plan.accelerator->slots},
                        {"slot_bytes", made.plan.accelerator->slot_bytes}};
  out["weights"] = ToJson(shares);
  out["hardware"]["link_gb_per_s"] = hardware.sim.link_bytes_per_s * 1e-9;
  out["hardware"]["link_latency_us"] = static_cast<double>(hardware.sim.link_latency_ns) * 1e-3;
  out["hardware"]["cpu_gb_per_s"] = BytesPerS(program, hardware.sim, HostStepNs) * 1e-9;
  out["bound"]["link_s"] = Seconds(s.link_bound_ns);
  out["bound"]["cpu_s"] = Seconds(s.host_compute_bound_ns);
  out["bound"]["path_s"] = Seconds(s.path_bound_ns);
  out["time_s"]["link_busy"] = Seconds(s.link_busy_ns);
  out["time_s"]["cpu_busy"] = Seconds(s.host_compute_busy_ns);
  out["time_s"]["copy_stall"] = Seconds(s.copy_stall_ns);
  out["links"]["link"] = {{"bytes", s.machine.copy_bytes}};
  out["discarded_copies"] = s.scheduler.copies_discarded;
  out["peak_device_bytes"] = s.machine.peak_device_bytes;
}

nlohmann::json ToJson(const Model& model, const ModelPlan& made, const Hardware& hardware,
                      const Simulation& s) {
  const Program& program = made.transformer->program();
  const SimFaultStats& f = s.machine.faults;
  nlohmann::json json = {
      {"model", model.path},
      {"simulated", true},
      {"dram_budget_bytes", made.plan.dram_budget_bytes},
      {"resident_share", Summarise(program, made.plan).resident_share()},
      {"ring", {{"slots", made.plan.slots}, {"slot_bytes", made.plan.slot_bytes}}},
      {"hardware",
       {{"disk_gb_per_s", hardware.sim.disk_bytes_per_s * 1e-9},
        {"disk_latency_us", static_cast<double>(hardware.sim.disk_latency_ns) * 1e-3},
        {"compute_gb_per_s", BytesPerS(program, hardware.sim, StepNs) * 1e-9}}},
      {"bound",
       {{"disk_s", Seconds(s.disk_bound_ns)},
        {"compute_s", Seconds(s.compute_bound_ns)},
        {"bottleneck", s.bottleneck}}},
      {"generated_tokens", s.passes},
      {"decode_tokens_per_s", s.tokens_per_s()},
      {"share_of_bound", s.share_of_bound()},
      {"ttft_s", Seconds(s.first_logits_ns)},
      {"time_s",
       {{"steady", Seconds(s.steady_ns)},
        {"disk_busy", Seconds(s.disk_busy_ns)},
        {"compute_busy", Seconds(s.compute_busy_ns)},
        {"disk_stall", Seconds(s.disk_stall_ns)},
        {"total", Seconds(s.total_ns)}}},
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
  AddAccelerator(made, hardware, s, &json);
  return json;
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
  flags.model.elsewhere_link_bytes_per_s = kDefaultLinkBytesPerS;
  WEIR_RETURN_IF_ERROR(TakeRate("--link", flags.link, &flags.model.elsewhere_link_bytes_per_s));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(flags.model));
  WEIR_ASSIGN_OR_RETURN(PlannedRun run,
                        PlanFromOptions(*model, flags.model, {.position = flags.tokens / 2}));
  WEIR_RETURN_IF_ERROR(CheckAcceleratorFlags(flags, run));
  WEIR_ASSIGN_OR_RETURN(const Hardware hardware, HardwareFrom(*model, flags, &run));
  const ModelPlan& made = run.made;
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
  command->add_option(
      "--compute", flags->compute,
      "weights multiplied per second, with --hbm by the accelerator, such as 20GB/s "
      "(default: measured here, on the CPU)");
  command->add_option("--hbm", flags->model.device.hbm,
                      "simulate an accelerator whose memory has this budget, such as 22GB");
  command->add_option("--in-place", flags->model.device.in_place,
                      "whether the CPU beside it multiplies weights in DRAM where they lie: auto "
                      "(default), on, off");
  command->add_option("--link", flags->link, "rate of the link to it (default 26GB/s)");
  command->add_option("--link-latency", flags->link_latency,
                      "of each copy, such as 10us (default)");
  command->add_option("--cpu", flags->cpu,
                      "weights that the CPU beside it multiplies per second (default: measured "
                      "here)");
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
