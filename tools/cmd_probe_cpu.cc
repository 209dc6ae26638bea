#include "tools/cmd_probe_cpu.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/hardware_probe.h"
#include "io/base.h"
#include "kernels/isa.h"
#include "tools/exit_codes.h"
#include "tools/hierarchy_claims.h"
#include "tools/hierarchy_rows.h"
#include "tools/interrupt.h"
#include "tools/output_file.h"
#include "tools/probe_parts.h"
#include "tools/progress.h"

namespace weir {
namespace {

constexpr double kGb = 1e9;
constexpr double kMaxSeconds = 60;
constexpr double kHierarchyShare = 0.9;  // of the time; the rest is for arithmetic
constexpr const char* kPassNames[kMemoryPasses] = {"read", "write", "copy"};

double TimesFirst(const CpuHierarchy& hierarchy, const MemoryLevel& level) {
  return level.latency_cycles / hierarchy.levels.front().latency_cycles;
}

nlohmann::json RatesToJson(const std::array<RateSpread, kMemoryPasses>& rates) {
  nlohmann::json json;
  for (int pass = 0; pass < kMemoryPasses; ++pass) {
    json[kPassNames[pass]] = WithRate(nlohmann::json::object(), rates[pass]);
  }
  return json;
}

nlohmann::json LevelToJson(const CpuHierarchy& hierarchy, const MemoryLevel& level) {
  nlohmann::json json = {{"level", level.plan.name},
                         {"capacity_bytes", nullptr},
                         {"probed_bytes", level.plan.probe_bytes},
                         {"shared_threads", level.plan.shared_threads},
                         {"latency_ns", level.latency_ns},
                         {"low_latency_ns", level.low_latency_ns},
                         {"high_latency_ns", level.high_latency_ns},
                         {"cycles", level.latency_cycles},
                         {"times_l1", TimesFirst(hierarchy, level)},
                         {"step_bytes", nullptr},
                         {"one_core", RatesToJson(level.one_core)},
                         {"all_cores", RatesToJson(level.all_cores)}};
  if (level.plan.capacity_bytes > 0) json["capacity_bytes"] = level.plan.capacity_bytes;
  if (level.step_bytes > 0) json["step_bytes"] = level.step_bytes;
  return json;
}

void AppendRates(const std::array<RateSpread, kMemoryPasses>& rates, std::string* text) {
  for (const RateSpread& rate : rates) {
    absl::StrAppendFormat(text, " %7.1f", rate.median_bytes_per_s / kGb);
  }
}

std::string LevelsToText(const CpuHierarchy& hierarchy) {
  std::string text = absl::StrFormat(
      "%-6s %10s %21s %8s %6s   %-23s   all %d cores\n%-6s %10s %21s %8s %6s  %7s %7s %7s   %7s "
      "%7s %7s\n",
      "", "", "", "", "", "GB/s: one core", hierarchy.threads, "level", "capacity",
      "latency, ns (range)", "cycles", "x L1", "read", "write", "copy", "read", "write", "copy");
  for (const MemoryLevel& level : hierarchy.levels) {
    const std::string range =
        absl::StrFormat("(%.1f-%.1f)", level.low_latency_ns, level.high_latency_ns);
    absl::StrAppendFormat(
        &text, "%-6s %10s %8.2f %12s %8.1f %6.1f ", level.plan.name,
        level.plan.capacity_bytes > 0 ? FormatBytes(level.plan.capacity_bytes) : "",
        level.latency_ns, range, level.latency_cycles, TimesFirst(hierarchy, level));
    AppendRates(level.one_core, &text);
    absl::StrAppend(&text, "  ");
    AppendRates(level.all_cores, &text);
    text.push_back('\n');
  }
  return text;
}

// Where latency says that a cache ends, beside what the machine says.
std::string StepsToText(const CpuHierarchy& hierarchy) {
  std::string text;
  for (const MemoryLevel& level : hierarchy.levels) {
    if (level.plan.capacity_bytes == 0) continue;
    absl::StrAppend(&text, text.empty() ? "latency leaves " : ", ", level.plan.name, " at ",
                    level.step_bytes > 0 ? FormatBytes(level.step_bytes) : "no size", " (of ",
                    FormatBytes(level.plan.capacity_bytes), ")");
  }
  return text.empty() ? "the machine does not tell its caches\n" : text + "\n";
}

// Peaks are the best of the rounds.
absl::Status MeasurePeaks(int rounds, const HierarchyProgress& progress, CpuProbe* probe) {
  struct Cell {
    Arithmetic arithmetic;
    uint32_t threads;
    double* best;
  };
  const uint32_t all = probe->hierarchy.threads;
  const Cell cells[] = {{Arithmetic::kBytes, 1, &probe->byte_ops_one_core},
                        {Arithmetic::kBytes, all, &probe->byte_ops_all_cores},
                        {Arithmetic::kFloats, 1, &probe->float_ops_one_core},
                        {Arithmetic::kFloats, all, &probe->float_ops_all_cores}};
  for (int round = 0; round < rounds; ++round) {
    for (const Cell& cell : cells) {
      if (!progress(kHierarchyShare + (1 - kHierarchyShare) * round / rounds)) {
        return absl::CancelledError("interrupted");
      }
      WEIR_ASSIGN_OR_RETURN(const double rate, ProbeArithmetic(cell.arithmetic, cell.threads, ""));
      *cell.best = std::max(*cell.best, rate);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CpuProbe> MeasureCpu(const HierarchyProbeOptions& options,
                                    const HierarchyProgress& progress) {
  CpuProbe probe;
  WEIR_ASSIGN_OR_RETURN(probe.hierarchy, ProbeHierarchy(options, [&](double share) {
                          return progress(kHierarchyShare * share);
                        }));
  probe.isa = SelectedIsa();
  WEIR_RETURN_IF_ERROR(MeasurePeaks(options.rounds, progress, &probe));
  return probe;
}

absl::StatusOr<HierarchyProbeOptions> MakeHierarchyProbe(const ProbeCpuOptions& options) {
  HierarchyProbeOptions made;
  WEIR_RETURN_IF_ERROR(CheckProbeTimes(options.seconds, kMaxSeconds, options.rounds));
  made.cell_ns = static_cast<int64_t>(std::ceil(options.seconds * 1e9));
  made.rounds = options.rounds;
  return made;
}

std::vector<Verdict> JudgeHierarchy(const CpuHierarchy& hierarchy) {
  return JudgeRows(CpuRows(hierarchy));
}

nlohmann::json CpuProbeToJson(const CpuProbe& probe) {
  const CpuHierarchy& hierarchy = probe.hierarchy;
  nlohmann::json levels = nlohmann::json::array();
  for (const MemoryLevel& level : hierarchy.levels) levels.push_back(LevelToJson(hierarchy, level));
  nlohmann::json curve = nlohmann::json::array();
  for (const LatencyPoint& point : hierarchy.curve) {
    curve.push_back({{"bytes", point.bytes}, {"ns", point.ns}, {"cycles", point.cycles}});
  }
  const auto peak = [](double one, double all) {
    return nlohmann::json{{"one_core", one / kGb}, {"all_cores", all / kGb}};
  };
  return {{"cores", hierarchy.threads},
          {"clock_ghz", hierarchy.clock_hz / kGb},
          {"isa", probe.isa},
          {"levels", std::move(levels)},
          {"latency_curve", std::move(curve)},
          {"peak",
           {{"byte_gop_per_s", peak(probe.byte_ops_one_core, probe.byte_ops_all_cores)},
            {"float_gop_per_s", peak(probe.float_ops_one_core, probe.float_ops_all_cores)}}},
          {"claims", VerdictsToJson(JudgeHierarchy(hierarchy))}};
}

std::string PeaksToText(const CpuProbe& probe) {
  return absl::StrFormat(
      "peak of arithmetic, 10^9 operations a second: products of bytes %.0f (all cores %.0f), of "
      "floats %.0f (%.0f)\n",
      probe.byte_ops_one_core / kGb, probe.byte_ops_all_cores / kGb, probe.float_ops_one_core / kGb,
      probe.float_ops_all_cores / kGb);
}

std::string CpuProbeToText(const CpuProbe& probe) {
  const CpuHierarchy& hierarchy = probe.hierarchy;
  std::string text = absl::StrFormat("CPU: %d cores, %.2f GHz by counting additions, %s\n\n",
                                     hierarchy.threads, hierarchy.clock_hz / kGb, probe.isa);
  absl::StrAppend(&text, LevelsToText(hierarchy), StepsToText(hierarchy));
  absl::StrAppend(&text, PeaksToText(probe), "\n");
  return text + VerdictsToText(JudgeHierarchy(hierarchy));
}

absl::Status RunProbeCpu(const ProbeCpuOptions& options) {
  const absl::StatusOr<HierarchyProbeOptions> made = MakeHierarchyProbe(options);
  if (!made.ok()) return WithExitCode(ExitCode::kUsage, made.status());
  absl::StatusOr<OutputFile> json = OutputFile::Open(options.json);
  if (!json.ok()) return WithExitCode(ExitCode::kOutput, json.status());
  CatchInterrupts();
  ProgressLine line("probing");
  const absl::StatusOr<CpuProbe> measured = MeasureCpu(*made, [&](double share) {
    line.Update(share, 0);
    return !Interrupted();
  });
  line.Finish();
  if (!measured.ok()) return WithProbeExitCode(ExitCode::kBudget, measured.status());
  const CpuProbe& probe = *measured;
  if (options.json != "-") WEIR_RETURN_IF_ERROR(PrintText(CpuProbeToText(probe)));
  if (!json->is_open()) return absl::OkStatus();
  return WriteWhole(&*json, CpuProbeToJson(probe).dump(2) + "\n");
}

void AddProbeCpuCommand(CLI::App& probe, int* exit_code) {
  const auto options = std::make_shared<ProbeCpuOptions>();
  CLI::App* const cpu = probe.add_subcommand(
      "cpu", "Caches and memory: latency and bandwidth of each level; arithmetic");
  cpu->add_option("--seconds", options->seconds, "Time for one measurement in one round")
      ->capture_default_str();
  cpu->add_option("--rounds", options->rounds, "Rounds; the median is shown")
      ->capture_default_str();
  cpu->add_option("--json", options->json, "Write the results as JSON to this file (-: stdout)");
  cpu->callback([options, exit_code] { *exit_code = ReportStatus(RunProbeCpu(*options)); });
}

}  // namespace weir
