#include "engine/numa_nodes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "io/base.h"
#include "tests/io/fake_root_helper.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kNodes[] = "/sys/devices/system/node";

TEST(NumberList, AsTheKernelWritesIt) {
  EXPECT_THAT(ParseNumberList("0-3,8\n").value(), ElementsAre(0, 1, 2, 3, 8));
  EXPECT_THAT(ParseNumberList("5").value(), ElementsAre(5));
  EXPECT_TRUE(ParseNumberList("\n").value().empty());
  for (const char* const text : {"a", "3-1", "1-", "-1", "1,,2", "0-4000000000", "1 2"}) {
    EXPECT_FALSE(ParseNumberList(text).has_value()) << text;
  }
}

// Three nodes: 0 and 1 with cores, 4 with memory alone, the farthest.
void WriteNodes(const FakeRoot& root) {
  const std::string nodes = kNodes;
  root.Write(nodes + "/online", "0-1,4\n");
  root.Write(nodes + "/has_memory", "0-1,4\n");
  root.Write(nodes + "/node0/distance", "10 21 28\n");
  root.Write(nodes + "/node1/distance", "21 10 28\n");
}

std::vector<HardwareThread> Threads() {
  return {{.number = 2, .core = 1, .node = 0},
          {.number = 3, .core = 2, .node = 1},
          {.number = 5, .core = 3, .node = 0}};
}

TEST(ChooseNodes, TheFirstNodesCoresAndTheFarthestMemory) {
  FakeRoot root;
  WriteNodes(root);
  EXPECT_THAT(NodesWithMemory(root.path()), ElementsAre(0, 1, 4));
  const NodeChoice choice = ChooseNodes(Threads(), root.path());
  ASSERT_TRUE(choice.pair.has_value()) << choice.missing;
  EXPECT_EQ(choice.pair->near, 0u);
  EXPECT_EQ(choice.pair->far, 4u);
  EXPECT_EQ(choice.pair->distance, 28u);
  EXPECT_THAT(choice.pair->threads, ElementsAre(2, 5));
}

TEST(ChooseNodes, WhatACpusetForbidsIsLeftOut) {
  FakeRoot root;
  WriteNodes(root);
  root.Write("/proc/self/status", "Name:\tx\nMems_allowed:\t3\nMems_allowed_list:\t0-1\n");
  EXPECT_EQ(ChooseNodes(Threads(), root.path()).pair.value().far, 1u);
  // Cores of node 1 alone: from there node 0 is the other one.
  const NodeChoice second = ChooseNodes({{.number = 3, .core = 2, .node = 1}}, root.path());
  EXPECT_EQ(second.pair.value().near, 1u);
  EXPECT_EQ(second.pair->far, 0u);
  root.Write("/proc/self/status", "Mems_allowed_list:\t0\n");
  const NodeChoice none = ChooseNodes(Threads(), root.path());
  EXPECT_FALSE(none.pair.has_value());
  EXPECT_THAT(none.missing, HasSubstr("3 nodes, but memory of none but node 0"));
}

TEST(ChooseNodes, OneNodeAndMachinesThatTellNothing) {
  FakeRoot root;
  EXPECT_THAT(NodesWithMemory(root.path()), ElementsAre(0));
  EXPECT_THAT(ChooseNodes(Threads(), root.path()).missing, HasSubstr("one node"));
  root.Write(std::string(kNodes) + "/has_memory", "0\n");
  EXPECT_THAT(ChooseNodes(Threads(), root.path()).missing, HasSubstr("one node"));
  root.Write(std::string(kNodes) + "/has_memory", "0-1\n");
  EXPECT_FALSE(ChooseNodes({}, root.path()).pair.has_value());
  const NodeChoice untold = ChooseNodes(Threads(), root.path());
  ASSERT_TRUE(untold.pair.has_value()) << "distances are not needed";
  EXPECT_EQ(untold.pair->far, 1u);
  EXPECT_EQ(untold.pair->distance, 0u);
}

// Node 0 is everywhere; being "far" it is measured like any other.
TEST(ProbeNodeMemory, MeasuresWhatTheNodeGaveOrSaysThatItDidNot) {
  const std::vector<HardwareThread> usable = UsableThreads();
  ASSERT_FALSE(usable.empty());
  NodePair pair = {.near = usable[0].node, .far = usable[0].node, .distance = 10, .threads = {}};
  pair.threads = {usable[0].number};
  const NodeMemoryProbe options = {.bytes = 2 * kMiB, .cell_ns = 100'000, .rounds = 2};
  const auto figures = ProbeNodeMemory(pair, options, nullptr);
  if (!figures.ok()) {  // a sandbox that forbids asking where memory lies
    EXPECT_EQ(figures.status().code(), absl::StatusCode::kFailedPrecondition);
  } else {
    EXPECT_GT(figures->latency_ns, 0);
    EXPECT_GT(figures->read.low_bytes_per_s, 0);
    EXPECT_GE(figures->read.high_bytes_per_s, figures->read.low_bytes_per_s);
    EXPECT_TRUE(absl::IsCancelled(ProbeNodeMemory(pair, options, [] { return false; }).status()));
  }
  pair.far = 60000;
  EXPECT_EQ(ProbeNodeMemory(pair, options, nullptr).status().code(),
            absl::StatusCode::kFailedPrecondition)
      << "no such node: the memory came from another";
  pair.threads.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(ProbeNodeMemory(pair, options, nullptr).status()));
}

}  // namespace
}  // namespace weir
