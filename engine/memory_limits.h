// How much memory this process may still take, and the kernel's own counters of what it did.
//
// Sources: /proc/meminfo, /proc/self/status, /proc/self/io (man 5 proc); memory.max, memory.high,
// memory.current and memory.stat of cgroup v2, memory.limit_in_bytes, memory.usage_in_bytes and
// memory.stat of v1 (the kernel's Documentation/admin-guide/cgroup-v2.rst and
// cgroup-v1/memory.rst). `root` as in engine/system_files.h.
#ifndef WEIR_ENGINE_MEMORY_LIMITS_H_
#define WEIR_ENGINE_MEMORY_LIMITS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace weir {

// One cgroup with a limit, this process's own or one above it.
struct CgroupLimit {
  std::string path;                // its directory
  uint64_t limit_bytes = 0;        // v2: the lower of memory.max and memory.high
  uint64_t usage_bytes = 0;        // page cache included
  uint64_t reclaimable_bytes = 0;  // of the usage: file pages, which the kernel drops when it must
  // What may still be added before the limit.
  uint64_t left_bytes() const;
};

struct MemoryLimits {
  uint64_t total_bytes = 0;           // DRAM of the machine
  uint64_t available_bytes = 0;       // the kernel's estimate of what needs no swapping
  std::optional<CgroupLimit> cgroup;  // the one with the least left; none without any limit
  // What this process may still take, beside what it already has: the least of all of the above.
  uint64_t usable_bytes = 0;
};

// Unavailable where /proc/meminfo cannot be read or lacks MemAvailable (before Linux 3.14).
absl::StatusOr<MemoryLimits> ReadMemoryLimits(const std::string& root = "");

// Each absent where the kernel does not say.
struct ProcessCounters {
  std::optional<uint64_t> rss_bytes;        // now
  std::optional<uint64_t> peak_rss_bytes;   // since the start of the process
  std::optional<uint64_t> disk_read_bytes;  // fetched from storage for this process, all threads
};

ProcessCounters ReadProcessCounters(const std::string& root = "");

}  // namespace weir

#endif  // WEIR_ENGINE_MEMORY_LIMITS_H_
