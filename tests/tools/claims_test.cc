#include "tools/claims.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(Claims, HoldWithinTheirRangeAndAQuarterBeyond) {
  const Claim claim = {"L2 answers in", 10, 12, "cycles"};
  EXPECT_EQ(VerdictText(Judge(claim, 11)), "holds");
  EXPECT_EQ(VerdictText(Judge(claim, 15)), "holds");
  EXPECT_EQ(VerdictText(Judge(claim, 8)), "holds");
  EXPECT_EQ(VerdictText(Judge(claim, 24)), "2 times more");
  EXPECT_EQ(VerdictText(Judge(claim, 4)), "2.5 times less");
  EXPECT_EQ(Judge(claim, 11).factor, 1);
  EXPECT_EQ(ClaimText(claim), "10 to 12 cycles");
  EXPECT_EQ(ClaimText({"", 100, 100, "x"}), "100 x");
}

TEST(Claims, AndMoreHasNoUpperEnd) {
  const Claim claim = {"disk answers in", 100'000, std::numeric_limits<double>::infinity(),
                       "cycles"};
  EXPECT_EQ(VerdictText(Judge(claim, 1e9)), "holds");
  EXPECT_EQ(VerdictText(Judge(claim, 80'000)), "holds");
  EXPECT_EQ(VerdictText(Judge(claim, 50'000)), "2 times less");
  EXPECT_EQ(ClaimText(claim), "100000 cycles and more");
}

TEST(Claims, WhatWasNotMeasuredIsNotJudged) {
  const Verdict verdict = NotMeasured({"that", 1, 4, "x"}, "no GPU");
  EXPECT_EQ(VerdictText(verdict), "not measured");
  EXPECT_THAT(VerdictsToText({verdict}), HasSubstr("1 to 4 x"));
  const nlohmann::json json = VerdictsToJson({verdict, Judge({"this", 1, 4, "x"}, 2)});
  EXPECT_TRUE(json[0]["measured"].is_null());
  EXPECT_EQ(json[0]["missing"], "no GPU");
  EXPECT_EQ(json[1]["measured"], 2);
  EXPECT_EQ(json[1]["high"], 4);
  EXPECT_TRUE(json[1]["missing"].is_null());
}

TEST(Claims, TableHasALineForEach) {
  const std::string text = VerdictsToText(
      {Judge({"DRAM answers in", 200, 300, "cycles"}, 412.4), Judge({"that", 1, 4, "x"}, 1.31)});
  EXPECT_THAT(text, HasSubstr("what is said"));
  EXPECT_THAT(text, HasSubstr("200 to 300 cycles"));
  EXPECT_THAT(text, HasSubstr("412 cycles"));
  EXPECT_THAT(text, HasSubstr("1.37 times more"));
  EXPECT_THAT(text, HasSubstr("1.31 x"));
}

}  // namespace
}  // namespace weir
