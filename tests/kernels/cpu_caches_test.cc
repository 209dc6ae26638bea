#include "kernels/cpu_caches.h"

#include <gtest/gtest.h>

#include "kernels/cpu_topology.h"

namespace weir {
namespace {

TEST(CpuCaches, ComeNearestFirstWithWhoSharesThem) {
  const auto caches =
      SyntheticCaches("l3:1(size=33554432) l2:2(size=524288) l1d:1(size=32768) core:1 pu:2");
  ASSERT_TRUE(caches.ok()) << caches.status();
  ASSERT_EQ(caches->size(), 3u);
  EXPECT_EQ((*caches)[0].level, 1u);
  EXPECT_EQ((*caches)[0].bytes, 32768u);
  EXPECT_EQ((*caches)[0].shared_threads, 2u);
  EXPECT_EQ((*caches)[1].level, 2u);
  EXPECT_EQ((*caches)[1].bytes, 524288u);
  EXPECT_EQ((*caches)[2].bytes, 33554432u);
  EXPECT_EQ((*caches)[2].shared_threads, 4u);
}

TEST(CpuCaches, WhatIsNoMachineIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(SyntheticCaches("l3:none").status()));
}

TEST(CpuCaches, OfThisMachineAscend) {
  const std::vector<HardwareThread> usable = UsableThreads();
  ASSERT_FALSE(usable.empty());
  const std::vector<CacheLevel> caches = CpuCaches(usable[0].number);
  for (size_t i = 1; i < caches.size(); ++i) EXPECT_GT(caches[i].level, caches[i - 1].level);
  EXPECT_TRUE(CpuCaches(1u << 20).empty());
}

}  // namespace
}  // namespace weir
