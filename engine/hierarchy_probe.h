// The memory hierarchy of this machine's CPU: latency and bandwidth of each level of caches and of
// DRAM. Latency is that of loads each of which needs the one before, over a random cycle of lines
// in huge pages where there are any, on a pinned core; bandwidth is that of plain passes over
// memory, by one core and by all. The clock is measured beside it, so that latencies are in cycles,
// too.
#ifndef WEIR_ENGINE_HIERARCHY_PROBE_H_
#define WEIR_ENGINE_HIERARCHY_PROBE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/device_probe.h"
#include "kernels/cpu_caches.h"

namespace weir {

// One level, and the memory that stands for it.
struct LevelPlan {
  std::string name;             // "L1", "L2", ..., "DRAM"
  uint64_t capacity_bytes = 0;  // of a cache; 0: DRAM
  uint32_t shared_threads = 0;  // hardware threads that share a cache
  uint64_t probe_bytes = 0;     // of memory that lies in this level and not in a nearer one
};

// Four times the cache before, which then has none of it when it is gone over in turn, and at most
// half of the cache itself: others use it, too, and of a shared one strangers may have most. For
// DRAM four times the last cache, and 256 MiB at least. A cache that does not hold twice the one
// before is left out: nothing lies in it alone.
std::vector<LevelPlan> PlanLevels(const std::vector<CacheLevel>& caches);

struct LatencyPoint {
  uint64_t bytes = 0;  // of the lines that are followed
  double ns = 0;       // of one load: the median round's
  double cycles = 0;
};

// Where latency leaves a level: the bytes at which it crosses the geometric mean of the level's own
// `cycles` and the next one's, between two points on a logarithmic scale; 0: it does not. `curve`
// ascends in bytes.
uint64_t StepBytes(const std::vector<LatencyPoint>& curve, double cycles, double next_cycles);

inline constexpr int kMemoryPasses = 3;  // read, write, copy, as in kernels/memory_passes.h

struct MemoryLevel {
  LevelPlan plan;
  double latency_ns = 0;  // the median round's
  double low_latency_ns = 0;
  double high_latency_ns = 0;
  double latency_cycles = 0;
  uint64_t step_bytes = 0;  // as StepBytes; 0 for DRAM, too
  // Bytes that cores loaded and stored, by pass.
  std::array<RateSpread, kMemoryPasses> one_core;
  std::array<RateSpread, kMemoryPasses> all_cores;
};

struct CpuHierarchy {
  uint32_t threads = 0;  // of all cores: one each
  double clock_hz = 0;   // the median round's
  std::vector<MemoryLevel> levels;
  std::vector<LatencyPoint> curve;  // from 4 KiB to DRAM's memory
};

struct HierarchyProbeOptions {
  int64_t cell_ns = 20'000'000;  // for one measurement in one round
  int rounds = 5;                // of each point of latency, then of all bandwidths in turn
  uint64_t seed = 1;             // of the cycles of lines
};

// Called after each measurement with the share that is done; false ends the probe (Cancelled).
using HierarchyProgress = std::function<bool(double share)>;

// ResourceExhausted when DRAM's memory cannot be had; FailedPrecondition on a CPU without AVX2.
absl::StatusOr<CpuHierarchy> ProbeHierarchy(const HierarchyProbeOptions& options,
                                            const HierarchyProgress& progress);

}  // namespace weir

#endif  // WEIR_ENGINE_HIERARCHY_PROBE_H_
