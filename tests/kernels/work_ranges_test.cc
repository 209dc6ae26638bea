#include "kernels/work_ranges.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "kernels/cpu_device.h"

namespace weir {
namespace {

std::vector<WorkRange> TakeAll(WorkRanges& ranges, uint32_t worker, const WorkPortion& portion) {
  std::vector<WorkRange> taken;
  WorkRange range;
  while (ranges.Take(worker, portion, &range)) taken.push_back(range);
  return taken;
}

uint32_t CountOf(const std::vector<WorkRange>& taken) {
  uint32_t count = 0;
  for (const WorkRange& range : taken) count += range.end - range.begin;
  return count;
}

TEST(WorkRanges, AWorkerTakesItsOwnShareInOrderAndTheRestOfALateOne) {
  WorkRanges ranges(2);
  for (int kernel = 0; kernel < 1000; ++kernel) {  // past the wrap of what tells them apart
    ranges.Begin(0, 100);
    const std::vector<WorkRange> taken = TakeAll(ranges, 0, {.least = 2, .most = 8});
    ASSERT_EQ(CountOf(taken), 100u);
    uint32_t next = 0;
    for (const WorkRange& range : taken) {
      ASSERT_LE(range.end - range.begin, 8u);
      if (range.begin < 50) {
        ASSERT_EQ(range.begin, next);
        next = range.end;
      }
    }
    ASSERT_EQ(next, 50u);
    ASSERT_EQ(taken.front().end, 8u);
    ranges.Begin(1, 100);
    ASSERT_TRUE(TakeAll(ranges, 1, {}).empty());
  }
}

TEST(WorkRanges, PortionsShrinkTowardsTheEnd) {
  WorkRanges ranges(1);
  ranges.Begin(0, 64);
  const std::vector<WorkRange> taken = TakeAll(ranges, 0, {});
  EXPECT_EQ(CountOf(taken), 64u);
  EXPECT_EQ(taken.front().end, 16u);
  EXPECT_EQ(taken.back().end - taken.back().begin, 1u);
  for (size_t i = 1; i < taken.size(); ++i) {
    EXPECT_LE(taken[i].end - taken[i].begin, taken[i - 1].end - taken[i - 1].begin);
    EXPECT_EQ(taken[i].begin, taken[i - 1].end);
  }
}

TEST(WorkRanges, FewerItemsThanWorkersAndNoneAtAll) {
  WorkRanges ranges(7);
  for (const uint32_t items : {0u, 1u, 3u, 7u}) {
    uint32_t count = 0;
    for (uint32_t worker = 0; worker < 7; ++worker) {
      ranges.Begin(worker, items);
      count += CountOf(TakeAll(ranges, worker, {.least = 4, .most = 4}));
    }
    EXPECT_EQ(count, items);
  }
}

// A team of real threads, some of which are held up: every item exactly once, in every kernel.
class WorkRangesTeam : public testing::TestWithParam<uint32_t> {};

TEST_P(WorkRangesTeam, EveryItemOnce) {
  constexpr uint32_t kMostItems = 3000;
  auto device = MakeCpuDevice({.threads = GetParam()});
  ASSERT_TRUE(device.ok()) << device.status();
  const std::unique_ptr<Stream> stream = (*device)->NewStream();
  std::vector<std::atomic<uint32_t>> done(kMostItems);
  std::mt19937 dice(GetParam());
  const auto between = [&dice](uint32_t least, uint32_t most) {
    return std::uniform_int_distribution<uint32_t>(least, most)(dice);
  };
  for (int kernel = 0; kernel < 400; ++kernel) {
    const uint32_t items = between(0, kMostItems);
    const uint32_t least = between(1, 40);
    const uint32_t most = least + between(0, 40);
    const uint32_t held_up = between(0, GetParam());
    for (std::atomic<uint32_t>& count : done) count.store(0);
    std::atomic<uint32_t>* const counts = done.data();
    static_cast<CpuStream&>(*stream).Launch([=](uint32_t worker, uint32_t, CpuStream& cpu) {
      if (worker == held_up) std::this_thread::yield();
      WorkRanges& ranges = cpu.ranges();
      ranges.Begin(worker, items);
      WorkRange range;
      while (ranges.Take(worker, {.least = least, .most = most}, &range)) {
        for (uint32_t i = range.begin; i < range.end; ++i) counts[i].fetch_add(1);
        if (worker == held_up) std::this_thread::yield();
      }
    });
    stream->Wait(stream->Record());
    for (uint32_t i = 0; i < kMostItems; ++i) {
      ASSERT_EQ(done[i].load(), i < items ? 1u : 0u) << "item " << i << " of " << items;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Workers, WorkRangesTeam, testing::Values(1, 2, 3, 4, 12),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace weir
