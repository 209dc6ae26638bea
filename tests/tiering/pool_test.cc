#include "tiering/pool.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/tiering/synthetic_helper.h"

namespace weir {
namespace {

TEST(SlotPoolTest, GivesTheLowestFreeNumber) {
  SlotPool pool(3);
  EXPECT_EQ(pool.size(), 3u);
  EXPECT_EQ(pool.Acquire(), 0u);
  EXPECT_EQ(pool.Acquire(), 1u);
  EXPECT_EQ(pool.Acquire(), 2u);
  EXPECT_EQ(pool.Acquire(), std::nullopt);
  pool.Release(1);
  pool.Release(0);
  EXPECT_EQ(pool.in_use(), 1u);
  EXPECT_EQ(pool.Acquire(), 0u);
  EXPECT_EQ(pool.Acquire(), 1u);
}

TEST(SlotPoolTest, AnEmptyPoolHasNone) {
  SlotPool pool(0);
  EXPECT_EQ(pool.Acquire(), std::nullopt);
  EXPECT_EQ(pool.in_use(), 0u);
}

TEST(SlotPoolTest, AgreesWithASet) {
  Dice dice(7);
  SlotPool pool(9);
  std::set<SlotId> used;
  for (int i = 0; i < 5000; ++i) {
    if (dice.OneIn(2) || used.empty()) {
      const std::optional<SlotId> slot = pool.Acquire();
      ASSERT_EQ(slot.has_value(), used.size() < 9);
      if (slot.has_value()) {
        ASSERT_TRUE(used.insert(*slot).second);
      }
    } else {
      const auto it = std::next(used.begin(), static_cast<int64_t>(dice.Below(used.size())));
      pool.Release(*it);
      used.erase(it);
    }
    ASSERT_EQ(pool.in_use(), used.size());
  }
}

TEST(SlotPoolDeathTest, RefusesAReleaseOfWhatIsNotInUse) {
  SlotPool pool(2);
  EXPECT_DEATH(pool.Release(0), "check failed");
  EXPECT_DEATH(pool.Release(2), "check failed");
}

}  // namespace
}  // namespace weir
