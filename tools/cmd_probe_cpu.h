// `weir probe cpu`: the levels of memory between a core and its data, their latency and bandwidth,
// and the peak of arithmetic, beside what is commonly said of them.
#ifndef WEIR_TOOLS_CMD_PROBE_CPU_H_
#define WEIR_TOOLS_CMD_PROBE_CPU_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/hierarchy_probe.h"
#include "nlohmann/json.hpp"
#include "tools/claims.h"
#include "tools/cli_app.h"

namespace weir {

struct ProbeCpuOptions {
  std::string json;       // file; "-": standard output instead of the table
  double seconds = 0.02;  // for one measurement in one round
  int rounds = 5;
};

struct CpuProbe {
  CpuHierarchy hierarchy;
  std::string isa;
  // Operations a second, two for a product and its sum: of one core and of all.
  double byte_ops_one_core = 0, byte_ops_all_cores = 0;
  double float_ops_one_core = 0, float_ops_all_cores = 0;
};

// InvalidArgument names the option.
absl::StatusOr<HierarchyProbeOptions> MakeHierarchyProbe(const ProbeCpuOptions& options);

// Errors as ProbeHierarchy, without exit codes; Cancelled when `progress` says so.
absl::StatusOr<CpuProbe> MeasureCpu(const HierarchyProbeOptions& options,
                                    const HierarchyProgress& progress);

// What is said of latencies, in cycles and beside L1's, and of DRAM's rate.
std::vector<Verdict> JudgeHierarchy(const CpuHierarchy& hierarchy);

// What --json writes:
//   {"cores", "clock_ghz", "isa",
//    "levels": [{"level", "capacity_bytes", "probed_bytes", "shared_threads", "latency_ns",
//                "low_latency_ns", "high_latency_ns", "cycles", "times_l1", "step_bytes",
//                "one_core", "all_cores": {"read", "write", "copy":
//                   {"gb_per_s", "low_gb_per_s", "high_gb_per_s"}}}],
//    "latency_curve": [{"bytes", "ns", "cycles"}],
//    "peak": {"byte_gop_per_s", "float_gop_per_s": {"one_core", "all_cores"}},
//    "claims": as VerdictsToJson writes them}
// capacity_bytes and step_bytes are null where there is none (DRAM; no step).
nlohmann::json CpuProbeToJson(const CpuProbe& probe);
// One line.
std::string PeaksToText(const CpuProbe& probe);
// The same as tables of lines.
std::string CpuProbeToText(const CpuProbe& probe);

// Runs the command; the status carries its exit code.
absl::Status RunProbeCpu(const ProbeCpuOptions& options);

// Adds `cpu` to `weir probe`; when it is chosen, `*exit_code` becomes the process's exit code.
void AddProbeCpuCommand(CLI::App& probe, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_PROBE_CPU_H_
