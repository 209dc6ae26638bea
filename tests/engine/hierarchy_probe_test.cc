#include "engine/hierarchy_probe.h"

#include <gtest/gtest.h>

#include <vector>

#include "io/base.h"

namespace weir {
namespace {

CacheLevel Cache(uint32_t level, uint64_t bytes, uint32_t threads) {
  return {.level = level, .bytes = bytes, .line_bytes = 64, .shared_threads = threads};
}

TEST(HierarchyPlan, MemoryOfALevelLiesInItAndInNoNearerOne) {
  const std::vector<LevelPlan> levels =
      PlanLevels({Cache(1, 32 * kKiB, 1), Cache(2, 512 * kKiB, 1), Cache(3, 32 * kMiB, 2)});
  ASSERT_EQ(levels.size(), 4u);
  EXPECT_EQ(levels[0].name, "L1");
  EXPECT_EQ(levels[0].probe_bytes, 16 * kKiB);
  EXPECT_EQ(levels[1].probe_bytes, 128 * kKiB);
  EXPECT_EQ(levels[2].probe_bytes, 2 * kMiB);
  EXPECT_EQ(levels[3].name, "DRAM");
  EXPECT_EQ(levels[3].probe_bytes, 256 * kMiB);
  for (size_t i = 1; i < levels.size(); ++i) {
    EXPECT_GE(levels[i].probe_bytes, 2 * levels[i - 1].capacity_bytes);
  }
  // Caches of nearly the same size, and a machine that tells nothing.
  const std::vector<LevelPlan> close =
      PlanLevels({Cache(1, 48 * kKiB, 2), Cache(2, 64 * kKiB, 2), Cache(3, kGiB, 64)});
  ASSERT_EQ(close.size(), 3u);
  EXPECT_EQ(close[1].name, "L3");
  EXPECT_EQ(close[2].probe_bytes, 4 * kGiB);
  ASSERT_EQ(PlanLevels({}).size(), 1u);
}

TEST(HierarchySteps, LieBetweenThePlateaus) {
  const std::vector<LatencyPoint> curve = {
      {16 << 10, 1, 4}, {32 << 10, 1, 4}, {64 << 10, 3, 12}, {128 << 10, 3, 12}, {1 << 20, 10, 40}};
  const uint64_t first = StepBytes(curve, 4, 12);
  EXPECT_GT(first, 32u << 10);
  EXPECT_LT(first, 64u << 10);
  const uint64_t second = StepBytes(curve, 12, 40);
  EXPECT_GT(second, 128u << 10);
  EXPECT_LT(second, 1u << 20);
  EXPECT_EQ(StepBytes(curve, 40, 200), 0u) << "it never gets there";
  EXPECT_EQ(StepBytes(curve, 12, 12), 0u) << "no step";
}

TEST(HierarchyProbeTest, MeasuresEveryLevelAndCanBeEnded) {
  HierarchyProbeOptions options;
  options.cell_ns = 100'000;
  options.rounds = 1;
  double last = 0;
  const auto found = ProbeHierarchy(options, [&](double share) {
    EXPECT_GE(share, last);
    last = share;
    return true;
  });
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_NEAR(last, 1, 1e-6);
  EXPECT_GE(found->threads, 1u);
  EXPECT_GT(found->clock_hz, 1e8);
  ASSERT_FALSE(found->levels.empty());
  for (const MemoryLevel& level : found->levels) {
    EXPECT_GT(level.latency_ns, 0) << level.plan.name;
    for (int pass = 0; pass < kMemoryPasses; ++pass) {
      EXPECT_GT(level.one_core[pass].median_bytes_per_s, 0) << level.plan.name;
      EXPECT_GT(level.all_cores[pass].median_bytes_per_s, 0) << level.plan.name;
    }
  }
  int calls = 0;
  const auto ended = ProbeHierarchy(options, [&](double) { return ++calls < 3; });
  EXPECT_TRUE(absl::IsCancelled(ended.status()));
  EXPECT_EQ(calls, 3);
  options.rounds = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(ProbeHierarchy(options, {}).status()));
}

}  // namespace
}  // namespace weir
