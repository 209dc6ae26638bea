// `weir probe all [FILE]`: the whole hierarchy of this machine in one table, from the first cache
// to the disk and a GPU, beside what is commonly said of it; and `weir probe`: what was saved of
// that.
#ifndef WEIR_TOOLS_CMD_PROBE_ALL_H_
#define WEIR_TOOLS_CMD_PROBE_ALL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/hierarchy_probe.h"
#include "engine/machine_profile.h"
#include "engine/saved_ceilings.h"
#include "nlohmann/json.hpp"
#include "tools/cli_app.h"
#include "tools/cmd_probe.h"
#include "tools/cmd_probe_cpu.h"
#include "tools/cmd_probe_gpu.h"
#include "tools/cmd_probe_memory.h"
#include "tools/hierarchy_rows.h"

namespace weir {

struct ProbeAllOptions {
  std::string file;             // a file, or a model's name; empty: the largest of the model folder
  std::string device = "auto";  // auto, cpu, cuda:N, emulated
  std::string json;             // file; "-": standard output instead of the table
  double seconds = 40;          // of measuring, about; setting up comes to it
  int rounds = 3;
  bool no_save = false;
  bool is_quiet = false;  // no line of progress
};

// How the time is shared out.
struct ProbeAllTimes {
  HierarchyProbeOptions cpu;
  NodeMemoryProbe remote;
  DiskSweepOptions sequential, random;
  BufferedProbeOptions buffered;
  int64_t memory_round_ns = 0;
  double gpu_s = 0;
};

// InvalidArgument names the option.
absl::StatusOr<ProbeAllTimes> MakeProbeAllTimes(const ProbeAllOptions& options);

// All that was measured; absent parts have their reasons in `rows`.
struct MachineProbe {
  MachineIdentity machine;
  std::vector<HierarchyRow> rows;
  CpuProbe cpu;
  MemoryProbe memory;
  nlohmann::json disk;  // null: none was read
  nlohmann::json gpu;   // null: there is none
};

// What --json writes:
//   {"machine": as IdentityToJson, "table": [rows as RowToJson writes them],
//    "claims": as VerdictsToJson, "cpu", "memory", "gpu": as their commands write them,
//    "disk": {"sequential", "random": as `weir probe disk` writes them,
//             "buffered": {"block_bytes", "cold", "hot":
//               {RATE, "read_bytes", "kernel_read_bytes", "cached_share"}}}}
nlohmann::json MachineProbeToJson(const MachineProbe& probe);
// The same as tables of lines.
std::string MachineProbeToText(const MachineProbe& probe);

// Measures without saving anything. `is_whole`, if not null: nothing of the machine was left out;
// `best`, likewise: the reads that suit the disk. The status carries its exit code.
absl::StatusOr<MachineProbe> MeasureMachine(const ProbeAllOptions& options, bool* is_whole,
                                            std::vector<DiskCeiling>* best);

// Runs the command; the status carries its exit code.
absl::Status RunProbeAll(const ProbeAllOptions& options);

// Prints the saved profile of this machine, or how to make one.
absl::Status ShowSavedProfile();

// The largest model of the cache folder; empty: there is none.
std::string DefaultProbeFile();

// Adds `all` to `weir probe`; when it is chosen, `*exit_code` becomes the process's exit code.
void AddProbeAllCommand(CLI::App& probe, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_PROBE_ALL_H_
