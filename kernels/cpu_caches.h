// The data caches of a core, from hwloc.
#ifndef WEIR_KERNELS_CPU_CACHES_H_
#define WEIR_KERNELS_CPU_CACHES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace weir {

struct CacheLevel {
  uint32_t level = 0;  // 1: nearest to the core
  uint64_t bytes = 0;
  uint32_t line_bytes = 0;      // 0: not known
  uint32_t shared_threads = 0;  // hardware threads that share it; as a virtual machine is told
};

// Of the core of hardware thread `number` (the kernel's), nearest first. Data and unified caches of
// known size; empty where the machine does not tell.
std::vector<CacheLevel> CpuCaches(uint32_t number);

// Of the first core of a made-up machine, in hwloc's synthetic form: "l3:1(size=33554432) l2:2
// core:1 pu:1". InvalidArgument.
absl::StatusOr<std::vector<CacheLevel>> SyntheticCaches(const std::string& description);

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_CACHES_H_
