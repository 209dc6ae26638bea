#include "tiering/residency.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(ResidencyTest, ABlockArrivesIsUsedAndLeaves) {
  Residency memory(/*blocks=*/4, /*slots=*/2);
  EXPECT_TRUE(memory.IsAbsent(1));
  EXPECT_EQ(memory.Begin(1, /*in_slot=*/true), 0u);
  EXPECT_TRUE(memory.IsArriving(1));
  EXPECT_TRUE(memory.Holds(1));
  EXPECT_FALSE(memory.IsReady(1));
  EXPECT_EQ(memory.free_slots(), 1u);
  memory.Arrive(1);
  EXPECT_TRUE(memory.IsReady(1));
  memory.Pin(1);
  memory.Pin(1);
  memory.Leave(1);
  EXPECT_FALSE(memory.IsReady(1));
  EXPECT_FALSE(memory.Holds(1));
  memory.Unpin(1);
  EXPECT_EQ(memory.free_slots(), 1u);  // the other still holds it
  memory.Unpin(1);
  EXPECT_TRUE(memory.IsAbsent(1));
  EXPECT_EQ(memory.free_slots(), 2u);
}

TEST(ResidencyTest, WhatLeavesWhileItArrivesIsGoneWhenItHas) {
  Residency memory(2, 1);
  memory.Begin(0, true);
  memory.Leave(0);
  EXPECT_TRUE(memory.IsArriving(0));
  EXPECT_EQ(memory.free_slots(), 0u);  // it is still being written
  memory.Arrive(0);
  EXPECT_TRUE(memory.IsAbsent(0));
  EXPECT_EQ(memory.free_slots(), 1u);
}

TEST(ResidencyTest, WhatIsWantedAfterAllStays) {
  Residency memory(2, 1);
  memory.Begin(0, true);
  memory.Leave(0);
  memory.Keep(0);
  memory.Arrive(0);
  EXPECT_TRUE(memory.IsReady(0));
}

TEST(ResidencyTest, AFailureFreesTheSlotAtOnce) {
  Residency memory(2, 1);
  memory.Begin(0, true);
  memory.Fail(0);
  EXPECT_TRUE(memory.IsAbsent(0));
  EXPECT_EQ(memory.Begin(1, true), 0u);
}

TEST(ResidencyTest, OwnMemoryTakesNoSlot) {
  Residency memory(2, 1);
  EXPECT_EQ(memory.Begin(0, false), Residency::kOwnMemory);
  EXPECT_EQ(memory.slots_in_use(), 0u);
  memory.Arrive(0);
  memory.Leave(0);
  EXPECT_TRUE(memory.IsAbsent(0));
}

TEST(ResidencyDeathTest, RefusesWhatNoSchedulerMayDo) {
  Residency memory(3, 1);
  EXPECT_DEATH(memory.Arrive(0), "check failed");
  EXPECT_DEATH(memory.Unpin(0), "check failed");
  EXPECT_DEATH(memory.Leave(0), "check failed");
  memory.Begin(0, true);
  EXPECT_DEATH(memory.Begin(0, true), "check failed");
  EXPECT_DEATH(memory.Begin(1, true), "check failed");  // no slot is free
}

}  // namespace
}  // namespace weir
