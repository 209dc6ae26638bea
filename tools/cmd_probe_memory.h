// `weir probe memory`: what memory delivers to threads that do nothing but read it.
#ifndef WEIR_TOOLS_CMD_PROBE_MEMORY_H_
#define WEIR_TOOLS_CMD_PROBE_MEMORY_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/device_probe.h"
#include "nlohmann/json.hpp"
#include "tools/cli_app.h"

namespace weir {

// As given; texts are parsed by MakeMemoryProbe, which names the option in errors.
struct ProbeMemoryOptions {
  uint32_t threads = 0;  // 0: as many as the CPU runs
  std::string size;      // of the memory that is read; empty: LeastProbeBytes
  std::string json;      // file; "-": standard output instead of the line
  double seconds = 0.2;  // of reading in one round
  int rounds = 5;
};

struct MemoryProbe {
  uint32_t threads = 1;
  uint64_t bytes = 0;                   // of the memory that is read
  uint64_t last_level_cache_bytes = 0;  // 0: not known
  int64_t round_ns = 0;
  int rounds = 1;
  RateSpread read;  // of all threads together; filled by the measurement
};

// Four times the cache, which then keeps little of it, and 1 GiB at least.
uint64_t LeastProbeBytes(uint64_t last_level_cache_bytes);

// What the options ask for, with every value checked; less memory than LeastProbeBytes is refused,
// for a cache's rate would be taken for memory's.
absl::StatusOr<MemoryProbe> MakeMemoryProbe(const ProbeMemoryOptions& options,
                                            uint64_t last_level_cache_bytes);

// Fills probe->read. `progress` gets the share that is done; false ends it (Cancelled).
// ResourceExhausted when the memory cannot be had. Without exit codes.
absl::Status MeasureMemory(const std::function<bool(double)>& progress, MemoryProbe* probe);

// What --json writes:
//   {"threads", "bytes", "last_level_cache_bytes",
//    "read": {"gb_per_s", "low_gb_per_s", "high_gb_per_s"}}
// in 10^9 bytes a second: the median round's and the extremes.
nlohmann::json MemoryProbeToJson(const MemoryProbe& probe);
// The same as a line.
std::string MemoryProbeToText(const MemoryProbe& probe);

// Runs the command; the status carries its exit code.
absl::Status RunProbeMemory(const ProbeMemoryOptions& options);

// Adds `memory` to `weir probe`; when it is chosen, `*exit_code` becomes the process's exit code.
void AddProbeMemoryCommand(CLI::App& probe, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_PROBE_MEMORY_H_
