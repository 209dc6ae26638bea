#include "kernels/cpu_topology.h"

#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

// Kernels are built for at most 8192.
constexpr uint32_t kMostNumbers = 1 << 16;

std::vector<HardwareThread> ThreadsOf(hwloc_topology_t topology) {
  std::vector<HardwareThread> threads;
  const int count = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
  for (int i = 0; i < count; ++i) {
    const hwloc_obj_t thread =
        hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, static_cast<unsigned>(i));
    // Virtual machines may say nothing of cores.
    const hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, thread);
    const int node = hwloc_bitmap_first(thread->nodeset);
    threads.push_back(
        {.number = thread->os_index,
         .core = core != nullptr ? core->logical_index : static_cast<uint32_t>(count + i),
         .node = node >= 0 ? static_cast<uint32_t>(node) : 0});
  }
  return threads;
}

struct Machine {
  hwloc_topology_t topology = nullptr;  // null: hwloc could not tell
  std::vector<HardwareThread> threads;
};

Machine LoadMachine() {
  Machine machine;
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return machine;
  if (hwloc_topology_load(topology) != 0) {
    hwloc_topology_destroy(topology);
    return machine;
  }
  machine.topology = topology;
  machine.threads = ThreadsOf(topology);
  return machine;
}

// Does not change while the process runs.
const Machine& ThisMachine() {
  static const Machine machine = LoadMachine();
  return machine;
}

// A set of CPUs of any size.
class CpuSet {
 public:
  CpuSet() : set_(CPU_ALLOC(kMostNumbers)) {
    WEIR_CHECK(set_ != nullptr);
    CPU_ZERO_S(size(), set_);
  }
  ~CpuSet() { CPU_FREE(set_); }
  CpuSet(const CpuSet&) = delete;
  CpuSet& operator=(const CpuSet&) = delete;

  static size_t size() { return CPU_ALLOC_SIZE(kMostNumbers); }
  cpu_set_t* get() { return set_; }
  void Add(uint32_t number) { CPU_SET_S(number, size(), set_); }
  std::vector<uint32_t> numbers() const {
    std::vector<uint32_t> numbers;
    for (uint32_t i = 0; i < kMostNumbers; ++i) {
      if (CPU_ISSET_S(i, size(), set_)) numbers.push_back(i);
    }
    return numbers;
  }

 private:
  cpu_set_t* const set_;
};

// What the calling thread may run on.
std::vector<uint32_t> AffinityMask() {
  CpuSet set;
  if (sched_getaffinity(0, CpuSet::size(), set.get()) == 0) return set.numbers();
  std::vector<uint32_t> numbers(std::max(1u, std::thread::hardware_concurrency()));
  for (uint32_t i = 0; i < numbers.size(); ++i) numbers[i] = i;
  return numbers;
}

using Core = std::vector<uint32_t>;  // numbers of its threads

struct Node {
  uint32_t number = 0;
  std::vector<Core> cores;
};

std::vector<Node> NodesOf(absl::Span<const HardwareThread> threads) {
  std::map<uint32_t, std::map<uint32_t, Core>> nodes;
  for (const HardwareThread& thread : threads) {
    nodes[thread.node][thread.core].push_back(thread.number);
  }
  std::vector<Node> result;
  for (const auto& [number, cores] : nodes) {
    Node node = {.number = number, .cores = {}};
    for (const auto& [core, numbers] : cores) node.cores.push_back(numbers);
    result.push_back(std::move(node));
  }
  return result;
}

// The fewest nodes with so many cores: the largest first. All, when there are not enough. In the
// order of their numbers, so that neighbouring workers, who share out neighbouring rows, are near.
std::vector<Node> FewestNodes(std::vector<Node> nodes, uint32_t cores) {
  std::stable_sort(nodes.begin(), nodes.end(),
                   [](const Node& a, const Node& b) { return a.cores.size() > b.cores.size(); });
  size_t count = 0;
  for (size_t have = 0; count < nodes.size() && have < cores; ++count) {
    have += nodes[count].cores.size();
  }
  nodes.resize(count);
  std::sort(nodes.begin(), nodes.end(),
            [](const Node& a, const Node& b) { return a.number < b.number; });
  return nodes;
}

// A core for each worker; where there are more workers than cores, one of its threads: the first of
// every core, then the second of those that have one.
std::vector<std::vector<uint32_t>> PinEach(const std::vector<Core>& cores, uint32_t workers) {
  if (workers <= cores.size()) return {cores.begin(), cores.begin() + workers};
  std::vector<std::vector<uint32_t>> pinned;
  for (size_t sibling = 0; pinned.size() < workers; ++sibling) {
    for (const Core& core : cores) {
      if (sibling < core.size() && pinned.size() < workers) pinned.push_back({core[sibling]});
    }
  }
  return pinned;
}

}  // namespace

std::vector<HardwareThread> UsableThreads() {
  return RestrictTo(ThisMachine().threads, AffinityMask());
}

std::vector<HardwareThread> RestrictTo(absl::Span<const HardwareThread> machine,
                                       absl::Span<const uint32_t> mask) {
  const std::set<uint32_t> wanted(mask.begin(), mask.end());
  std::vector<HardwareThread> threads;
  for (const HardwareThread& thread : machine) {
    if (wanted.count(thread.number) > 0) threads.push_back(thread);
  }
  if (threads.size() == wanted.size()) return threads;
  threads.clear();
  for (uint32_t number : wanted) threads.push_back({.number = number, .core = number, .node = 0});
  return threads;
}

absl::StatusOr<std::vector<HardwareThread>> SyntheticThreads(const std::string& description) {
  hwloc_topology_t topology = nullptr;
  WEIR_CHECK(hwloc_topology_init(&topology) == 0);
  const bool is_good = hwloc_topology_set_synthetic(topology, description.c_str()) == 0 &&
                       hwloc_topology_load(topology) == 0;
  std::vector<HardwareThread> threads;
  if (is_good) threads = ThreadsOf(topology);
  hwloc_topology_destroy(topology);
  if (is_good) return threads;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", description, "\" is no machine, as \"node:2 core:4 pu:2\" is one"));
}

uint32_t CountCores(absl::Span<const HardwareThread> threads) {
  std::set<uint32_t> cores;
  for (const HardwareThread& thread : threads) cores.insert(thread.core);
  return static_cast<uint32_t>(cores.size());
}

TeamPlace PlaceTeam(absl::Span<const HardwareThread> usable, uint32_t workers) {
  const std::vector<Node> nodes = NodesOf(usable);
  const std::vector<Node> chosen = FewestNodes(nodes, workers);
  std::vector<Core> cores;
  TeamPlace place;
  for (const Node& node : chosen) {
    cores.insert(cores.end(), node.cores.begin(), node.cores.end());
    if (nodes.size() > 1) place.nodes.push_back(node.number);
  }
  const bool fills_machine =
      workers >= 2 && workers >= CountCores(usable) && workers <= usable.size();
  if (fills_machine) {
    place.workers = PinEach(cores, workers);
  } else if (chosen.size() < nodes.size()) {
    std::vector<uint32_t> numbers;
    for (const Core& core : cores) numbers.insert(numbers.end(), core.begin(), core.end());
    std::sort(numbers.begin(), numbers.end());
    place.workers.assign(workers, numbers);
  }
  return place;
}

void BindThisThread(absl::Span<const uint32_t> numbers) {
  if (numbers.empty()) return;
  CpuSet set;
  for (uint32_t number : numbers) set.Add(number);
  (void)sched_setaffinity(0, CpuSet::size(), set.get());
}

bool PlaceMemory(uint8_t* data, uint64_t bytes, absl::Span<const uint32_t> nodes) {
  const hwloc_topology_t topology = ThisMachine().topology;
  if (nodes.empty() || bytes == 0) return true;
  if (topology == nullptr) return false;
  hwloc_bitmap_t set = hwloc_bitmap_alloc();
  for (uint32_t node : nodes) hwloc_bitmap_set(set, node);
  // Not strict: where a node is full, another one serves.
  const int result = hwloc_set_area_membind(
      topology, data, bytes, set, nodes.size() > 1 ? HWLOC_MEMBIND_INTERLEAVE : HWLOC_MEMBIND_BIND,
      HWLOC_MEMBIND_BYNODESET);
  hwloc_bitmap_free(set);
  return result == 0;
}

}  // namespace weir
