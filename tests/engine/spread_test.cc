#include "engine/spread.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(SpreadTest, MedianIsTheMiddleOrTheMeanOfTheTwoThere) {
  const Spread odd = SpreadOf({5, 1, 3});
  EXPECT_EQ(odd.median, 3);
  EXPECT_EQ(odd.min, 1);
  EXPECT_EQ(odd.max, 5);
  EXPECT_EQ(SpreadOf({4, 1, 2, 9}).median, 3);
  EXPECT_EQ(SpreadOf({7}).median, 7);
}

}  // namespace
}  // namespace weir
