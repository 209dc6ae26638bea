// NUMA: which nodes have memory, which of it is far from a core, and what a core gets from there.
// From /sys/devices/system/node and /proc/self/status (man 7 cpuset, man 7 numa). `root` as in
// io/system_files.h.
#ifndef WEIR_ENGINE_NUMA_NODES_H_
#define WEIR_ENGINE_NUMA_NODES_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/device_probe.h"
#include "kernels/cpu_topology.h"

namespace weir {

// Of the kernel's form "0-3,8"; nothing for what is not of it, or holds a number above 65535.
std::optional<std::vector<uint32_t>> ParseNumberList(std::string_view text);

// The kernel's numbers, ascending. {0} where the kernel does not tell.
std::vector<uint32_t> NodesWithMemory(const std::string& root = "");

struct NodePair {
  uint32_t near = 0;              // the node of the core
  uint32_t far = 0;               // the node of the memory
  uint32_t distance = 0;          // as firmware says it, 10 being its own node; 0: it does not
  std::vector<uint32_t> threads;  // usable hardware threads of the near node
};

struct NodeChoice {
  std::optional<NodePair> pair;
  std::string missing;  // why there is none
};

// The node of the lowest number that has a usable thread, and the farthest of the others whose
// memory this process may use (of equally far ones the first). Nodes without cores count, too.
NodeChoice ChooseNodes(absl::Span<const HardwareThread> usable, const std::string& root = "");

struct NodeMemoryProbe {
  uint64_t bytes = 256 << 20;    // of memory, more than any cache
  int64_t cell_ns = 20'000'000;  // for one measurement in one round
  int rounds = 5;
};

struct NodeMemoryFigures {
  double latency_ns = 0;  // of loads that wait for one another, the median round's
  RateSpread read;        // by one core
};

// A core of the near node on memory of the far one. Called after each measurement: false ends it
// (Cancelled). FailedPrecondition where the memory did not come from that node: a figure of
// another's would be told. ResourceExhausted when it cannot be had.
absl::StatusOr<NodeMemoryFigures> ProbeNodeMemory(const NodePair& pair,
                                                  const NodeMemoryProbe& options,
                                                  const std::function<bool()>& go_on);

}  // namespace weir

#endif  // WEIR_ENGINE_NUMA_NODES_H_
