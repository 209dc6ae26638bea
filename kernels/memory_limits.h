// How much memory this process may still take, whether a budget fits it, and the kernel's own
// counters of what the process did.
//
// A budget is refused before anything is allocated unless it, and kProcessMarginBytes for the
// program itself, fit the memory that is available on the machine and under every memory cgroup
// above the process. Page cache counts as free, since the kernel drops it when it must; swap does
// not. Where the machine or the cgroup stalls on memory already (kStallingPercent of the last ten
// seconds), dropping page cache is what it stalls on, and only memory that is free now counts.
//
// Sources: /proc/meminfo, /proc/self/status, /proc/self/io (man 5 proc); /proc/pressure/memory and
// memory.pressure (the kernel's Documentation/accounting/psi.rst); memory.max, memory.high,
// memory.current and memory.stat of cgroup v2, memory.limit_in_bytes, memory.usage_in_bytes and
// memory.stat of v1 (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst). `root` as
// in io/system_files.h.
#ifndef WEIR_KERNELS_MEMORY_LIMITS_H_
#define WEIR_KERNELS_MEMORY_LIMITS_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/base.h"

namespace weir {

// Beside its budget a process needs its program, stacks and the vocabulary.
inline constexpr uint64_t kProcessMarginBytes = 64 * kMiB;
// `full avg10` of memory pressure from which on a machine counts as stalling.
inline constexpr double kStallingPercent = 10;

// Time in which every task that could have run waited for memory instead.
struct MemoryPressure {
  double full_avg10_percent = 0;  // of the last 10 s; the higher of machine and cgroup
  uint64_t full_total_us = 0;     // so far: the cgroup's, or the machine's where that is not told
};

// Nothing where the kernel does not say (before 4.20, or switched off).
std::optional<MemoryPressure> ReadMemoryPressure(const std::string& root = "");

// One cgroup with a limit, this process's own or one above it.
struct CgroupLimit {
  std::string path;                // its directory
  uint64_t limit_bytes = 0;        // v2: the lower of memory.max and memory.high
  uint64_t usage_bytes = 0;        // page cache included
  uint64_t reclaimable_bytes = 0;  // of the usage: file pages, which the kernel drops when it must
  // What may still be added before the limit, page cache being dropped for it or not.
  uint64_t left_bytes() const;
  uint64_t free_bytes() const { return limit_bytes - std::min(limit_bytes, usage_bytes); }
};

struct MemoryLimits {
  uint64_t total_bytes = 0;           // DRAM of the machine
  uint64_t available_bytes = 0;       // the kernel's estimate of what needs no swapping
  uint64_t free_bytes = 0;            // what nothing is in, page cache included
  std::optional<CgroupLimit> cgroup;  // the one with the least left; none without any limit
  std::optional<MemoryPressure> pressure;
  // What this process may still take, beside what it already has: the least of all of the above.
  uint64_t usable_bytes = 0;

  bool is_stalling() const {
    return pressure.has_value() && pressure->full_avg10_percent >= kStallingPercent;
  }
};

// Unavailable where /proc/meminfo cannot be read or lacks MemAvailable (before Linux 3.14).
absl::StatusOr<MemoryLimits> ReadMemoryLimits(const std::string& root = "");

// Each absent where the kernel does not say.
struct ProcessCounters {
  std::optional<uint64_t> rss_bytes;        // now
  std::optional<uint64_t> anonymous_bytes;  // of it, what is not of a file
  std::optional<uint64_t> peak_rss_bytes;   // since the start of the process
  std::optional<uint64_t> disk_read_bytes;  // fetched from storage for this process, all threads
};

ProcessCounters ReadProcessCounters(const std::string& root = "");

// ResourceExhausted, with the largest budget that would do, when `dram_bytes` and the margin do not
// fit. What the process has already is part of its margin.
absl::Status CheckBudget(uint64_t dram_bytes, const MemoryLimits& limits,
                         const ProcessCounters& process);

}  // namespace weir

#endif  // WEIR_KERNELS_MEMORY_LIMITS_H_
