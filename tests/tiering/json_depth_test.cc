#include "tiering/json_depth.h"

#include <gtest/gtest.h>

#include <string>

namespace weir {
namespace {

TEST(JsonDepth, CountsWhatIsOpenAtOnce) {
  EXPECT_TRUE(IsJsonWithinDepth("", 0));
  EXPECT_TRUE(IsJsonWithinDepth("1", 0));
  EXPECT_FALSE(IsJsonWithinDepth("[]", 0));
  EXPECT_TRUE(IsJsonWithinDepth(R"({"a": [1, {"b": 2}], "c": [[], []]})", 3));
  EXPECT_FALSE(IsJsonWithinDepth(R"({"a": [1, {"b": 2}], "c": [[], []]})", 2));
  EXPECT_FALSE(IsJsonWithinDepth(std::string(1000000, '['), 100));
}

TEST(JsonDepth, BracketsInStringsDoNotCount) {
  EXPECT_TRUE(IsJsonWithinDepth(R"(["[[[{{{", "\"[[[", "\\"])", 1));
  EXPECT_FALSE(IsJsonWithinDepth(R"(["\\", [1]])", 1));
  EXPECT_TRUE(IsJsonWithinDepth("[\"\\", 1));
}

}  // namespace
}  // namespace weir
