// Where this machine's hardware threads and its memory lie, and which of them a team of workers
// takes. From hwloc; where hwloc cannot tell, the affinity mask serves, as if every hardware thread
// were a core and all memory equally near.
//
// What a process may use is decided by its cgroup's cpuset and by the calling thread's affinity
// mask, which it has from whoever started it (taskset).
#ifndef WEIR_KERNELS_CPU_TOPOLOGY_H_
#define WEIR_KERNELS_CPU_TOPOLOGY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace weir {

// What the kernel calls a CPU.
struct HardwareThread {
  uint32_t number = 0;  // the kernel's, as in /proc/cpuinfo
  uint32_t core = 0;    // equal for those that share a core
  uint32_t node = 0;    // the kernel's number of the NUMA node whose memory is nearest
};

// Of this machine: those that the calling thread may use. Any thread; the machine is looked at once
// (some 10 ms), the mask at every call.
std::vector<HardwareThread> UsableThreads();

// Those of `machine` that are in `mask`; when the machine is not known, or not all of the mask, the
// mask's own, as said above.
std::vector<HardwareThread> RestrictTo(absl::Span<const HardwareThread> machine,
                                       absl::Span<const uint32_t> mask);

// Of a made-up machine, in hwloc's synthetic form: "node:2 core:4 pu:2". InvalidArgument.
absl::StatusOr<std::vector<HardwareThread>> SyntheticThreads(const std::string& description);

uint32_t CountCores(absl::Span<const HardwareThread> threads);

struct TeamPlace {
  // By worker: the kernel's numbers of the hardware threads that it may run on. Empty: any.
  std::vector<std::vector<uint32_t>> workers;
  // Where the team's memory belongs; empty: nothing to choose.
  std::vector<uint32_t> nodes;
};

// A team that has a worker for every usable core is pinned, each worker to a core; one with more
// workers gives the others to siblings last. Left alone, the kernel wakes a worker on its
// colleague's core time and again, and the barriers then wait for the scheduler. A smaller team is
// free, since another program may sit on the chosen cores, but on a machine of several nodes it
// keeps to the fewest that have enough cores. A team of more workers than there are hardware
// threads is free.
TeamPlace PlaceTeam(absl::Span<const HardwareThread> usable, uint32_t workers);

// The calling thread runs on these alone from now on; empty: wherever it may. Failing costs speed
// alone, so it is not told.
void BindThisThread(absl::Span<const uint32_t> numbers);

// Pages of [data, data + bytes) that are not there yet will come from these nodes, by turns where
// there are several; empty: from wherever the kernel takes them. `data` begins a page. Failing
// costs speed alone: false.
bool PlaceMemory(uint8_t* data, uint64_t bytes, absl::Span<const uint32_t> nodes);

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_TOPOLOGY_H_
