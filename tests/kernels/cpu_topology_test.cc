// Which cores a team takes, on machines that are not here: hwloc makes them up.
#include "kernels/cpu_topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu_device.h"
#include "kernels/host_memory.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Numbers = std::vector<uint32_t>;

std::vector<HardwareThread> MadeUp(const std::string& description) {
  auto threads = SyntheticThreads(description);
  EXPECT_TRUE(threads.ok()) << threads.status();
  return *std::move(threads);
}

// Of these numbers alone.
std::vector<HardwareThread> Only(const std::vector<HardwareThread>& threads,
                                 const std::set<uint32_t>& numbers) {
  return RestrictTo(threads, Numbers(numbers.begin(), numbers.end()));
}

// The machine's description is taken as hwloc means it: numbers run through siblings, cores, nodes.
TEST(SyntheticThreadsTest, NumbersCoresAndNodes) {
  const auto threads = MadeUp("node:2 core:4 pu:2");
  ASSERT_THAT(threads, SizeIs(16));
  EXPECT_EQ(CountCores(threads), 8u);
  for (uint32_t i = 0; i < threads.size(); ++i) {
    EXPECT_EQ(threads[i].number, i);
    EXPECT_EQ(threads[i].core, i / 2);
    EXPECT_EQ(threads[i].node, i / 8);
  }
  // A virtual machine that has no cores: each thread is one.
  EXPECT_EQ(CountCores(MadeUp("pu:3")), 3u);
  EXPECT_EQ(SyntheticThreads("core:four").status().code(), absl::StatusCode::kInvalidArgument);
}

// Siblings numbered far apart, as Linux does: "node:1 core:2 pu:2" with numbers 0 2 and 1 3.
TEST(PlaceTeamTest, AWorkerForEveryCoreTakesACoreEach) {
  const TeamPlace place = PlaceTeam(MadeUp("core:2 pu:2(indexes=0,2,1,3)"), 2);
  EXPECT_THAT(place.workers, ElementsAre(Numbers{0, 2}, Numbers{1, 3}));
  EXPECT_THAT(place.nodes, IsEmpty());
}

TEST(PlaceTeamTest, SiblingsComeLast) {
  const auto threads = MadeUp("core:3 pu:2(indexes=0,3,1,4,2,5)");
  EXPECT_THAT(PlaceTeam(threads, 4).workers,
              ElementsAre(Numbers{0}, Numbers{1}, Numbers{2}, Numbers{3}));
  EXPECT_THAT(PlaceTeam(threads, 6).workers,
              ElementsAre(Numbers{0}, Numbers{1}, Numbers{2}, Numbers{3}, Numbers{4}, Numbers{5}));
}

TEST(PlaceTeamTest, SmallerAndLargerTeamsAreFree) {
  const auto threads = MadeUp("core:4 pu:2");
  for (const uint32_t workers : {1u, 2u, 3u, 9u, 100u}) {
    EXPECT_THAT(PlaceTeam(threads, workers).workers, IsEmpty()) << workers;
    EXPECT_THAT(PlaceTeam(threads, workers).nodes, IsEmpty()) << workers;
  }
  EXPECT_THAT(PlaceTeam(MadeUp("core:1 pu:1"), 1).workers, IsEmpty());
}

TEST(PlaceTeamTest, ATeamThatFitsOnANodeKeepsToIt) {
  const auto threads = MadeUp("node:2 core:4 pu:2");
  for (const uint32_t workers : {1u, 3u, 4u}) {
    const TeamPlace place = PlaceTeam(threads, workers);
    EXPECT_THAT(place.nodes, ElementsAre(0)) << workers;
    ASSERT_THAT(place.workers, SizeIs(workers));
    for (const Numbers& numbers : place.workers) {
      EXPECT_THAT(numbers, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
    }
  }
}

TEST(PlaceTeamTest, ATeamThatDoesNotTakesBothAndInterleaves) {
  const auto threads = MadeUp("node:2 core:4 pu:2");
  EXPECT_THAT(PlaceTeam(threads, 5).nodes, ElementsAre(0, 1));
  EXPECT_THAT(PlaceTeam(threads, 5).workers, IsEmpty());  // free on all of the machine
  const TeamPlace full = PlaceTeam(threads, 8);
  EXPECT_THAT(full.nodes, ElementsAre(0, 1));
  ASSERT_THAT(full.workers, SizeIs(8));
  for (uint32_t w = 0; w < 8; ++w) EXPECT_THAT(full.workers[w], ElementsAre(2 * w, 2 * w + 1));
}

// Four nodes of two cores; three workers need two of them.
TEST(PlaceTeamTest, TheFewestNodes) {
  const auto threads = MadeUp("package:2 node:2 core:2 pu:1");
  const TeamPlace place = PlaceTeam(threads, 3);
  EXPECT_THAT(place.nodes, ElementsAre(0, 1));
  ASSERT_THAT(place.workers, SizeIs(3));
  EXPECT_THAT(place.workers[2], ElementsAre(0, 1, 2, 3));
  // A mask that leaves one core of the first node: two workers go where both have room.
  const TeamPlace restricted = PlaceTeam(Only(threads, {1, 2, 3, 4, 5}), 2);
  EXPECT_THAT(restricted.nodes, ElementsAre(1));
  EXPECT_THAT(restricted.workers, ElementsAre(Numbers{2, 3}, Numbers{2, 3}));
}

TEST(PlaceTeamTest, TheMaskIsRespectedAndCountsAsTheMachine) {
  const auto threads = MadeUp("node:2 core:4 pu:2");
  const auto usable = Only(threads, {9, 10, 12, 13});  // three cores of the second node
  EXPECT_EQ(CountCores(usable), 3u);
  const TeamPlace place = PlaceTeam(usable, 3);
  EXPECT_THAT(place.workers, ElementsAre(Numbers{9}, Numbers{10}, Numbers{12, 13}));
  EXPECT_THAT(place.nodes, IsEmpty());  // memory is taken there anyway
}

// Random machines, masks and teams: never outside the mask, distinct cores first, never more nodes
// than needed.
TEST(PlaceTeamTest, HoldsOnRandomMachines) {
  uint64_t state = 20261128;
  const auto random = [&state](uint32_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>((state >> 33) % below);
  };
  for (int round = 0; round < 300; ++round) {
    const uint32_t nodes = 1 + random(4);
    const uint32_t cores = 1 + random(6);
    const uint32_t siblings = 1 + random(2);
    const auto machine = MadeUp("node:" + std::to_string(nodes) + " core:" + std::to_string(cores) +
                                " pu:" + std::to_string(siblings));
    std::set<uint32_t> mask;
    for (const HardwareThread& thread : machine) {
      if (random(3) > 0) mask.insert(thread.number);
    }
    mask.insert(0);
    const auto usable = Only(machine, mask);
    ASSERT_EQ(usable.size(), mask.size());
    const uint32_t workers = 1 + random(static_cast<uint32_t>(usable.size()) + 2);
    const TeamPlace place = PlaceTeam(usable, workers);
    SCOPED_TRACE("round " + std::to_string(round) + ", " + std::to_string(workers) + " workers");
    if (place.workers.empty()) continue;
    ASSERT_THAT(place.workers, SizeIs(workers));
    std::set<uint32_t> taken;
    for (const Numbers& numbers : place.workers) {
      ASSERT_FALSE(numbers.empty());
      for (uint32_t number : numbers) EXPECT_EQ(mask.count(number), 1u);
      for (const HardwareThread& thread : usable) {
        if (thread.number == numbers.front()) taken.insert(thread.core);
      }
    }
    if (workers < CountCores(usable)) continue;  // free on some nodes
    EXPECT_EQ(taken.size(), CountCores(usable));
  }
}

TEST(RestrictToTest, AnUnknownMachineIsItsMask) {
  const Numbers mask = {3, 5};
  for (const auto& machine : {std::vector<HardwareThread>{}, MadeUp("core:4 pu:1")}) {
    const auto threads = RestrictTo(machine, mask);  // the second one has no 5
    ASSERT_THAT(threads, SizeIs(2));
    EXPECT_EQ(threads[0].number, 3u);
    EXPECT_EQ(threads[1].number, 5u);
    EXPECT_EQ(CountCores(threads), 2u);
    EXPECT_EQ(threads[0].node, threads[1].node);
  }
}

// ---- this machine

Numbers MaskOfThisThread() {
  cpu_set_t set;
  CPU_ZERO(&set);
  Numbers numbers;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return numbers;
  for (uint32_t i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) numbers.push_back(i);
  }
  return numbers;
}

TEST(ThisMachineTest, UsableThreadsAreTheMask) {
  Numbers numbers;
  for (const HardwareThread& thread : UsableThreads()) numbers.push_back(thread.number);
  std::sort(numbers.begin(), numbers.end());
  EXPECT_EQ(numbers, MaskOfThisThread());
  std::thread([&numbers] {
    BindThisThread({numbers.back()});
    EXPECT_THAT(MaskOfThisThread(), ElementsAre(numbers.back()));
    ASSERT_THAT(UsableThreads(), SizeIs(1));
    EXPECT_EQ(UsableThreads()[0].number, numbers.back());
    BindThisThread({});
    EXPECT_THAT(MaskOfThisThread(), ElementsAre(numbers.back()));
  }).join();
}

// As the kernel's own list of this process's mappings says; no verdict where there is none.
std::string PolicyOf(const uint8_t* data) {
  std::ostringstream begin;
  begin << std::hex << reinterpret_cast<uint64_t>(data);
  std::ifstream maps("/proc/self/numa_maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.rfind(begin.str() + " ", 0) == 0) return line.substr(begin.str().size() + 1);
  }
  return "";
}

TEST(ThisMachineTest, MemoryGoesToTheNodesAsked) {
  const auto memory = MapHostMemory(1 << 20, 4096);
  ASSERT_TRUE(memory.ok()) << memory.status();
  uint8_t* const data = (*memory)->data();
  EXPECT_TRUE(PlaceMemory(data, 1 << 20, {}));
  const uint32_t node = UsableThreads()[0].node;
  const bool is_placed = PlaceMemory(data, 1 << 20, {node});
  data[0] = 1;
  const std::string policy = PolicyOf(data);
  if (!is_placed || policy.empty()) GTEST_SKIP() << "memory cannot be placed here, or not seen";
  EXPECT_THAT(policy, testing::HasSubstr("prefer"));
  EXPECT_THAT(policy, testing::HasSubstr(":" + std::to_string(node)));
  EXPECT_FALSE(PlaceMemory(data, 1 << 20, {1u << 20}));  // no such node
}

// Workers of a team that fills the machine stay apart; those of another one are as free as the
// thread that made it.
TEST(ThisMachineTest, WorkersRunWhereTheyAreMeantTo) {
  const auto usable = UsableThreads();
  const uint32_t cores = CountCores(usable);
  for (const uint32_t workers : {1u, cores, cores + 7}) {
    CpuDeviceOptions options;
    options.threads = workers;
    const auto device = MakeCpuDevice(options);
    ASSERT_TRUE(device.ok()) << device.status();
    const auto stream = (*device)->NewStream();
    std::vector<Numbers> masks(workers);
    Numbers* const first = masks.data();
    static_cast<CpuStream&>(*stream).Launch(
        [first](uint32_t worker, uint32_t, CpuStream&) { first[worker] = MaskOfThisThread(); });
    stream->Wait(stream->Record());
    const TeamPlace place = PlaceTeam(usable, workers);
    for (uint32_t w = 0; w < workers; ++w) {
      EXPECT_EQ(masks[w], place.workers.empty() ? MaskOfThisThread() : place.workers[w]) << w;
    }
  }
}

}  // namespace
}  // namespace weir
