#include "tools/wall_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/base.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

WallArm Arm(const char* name, double tokens_per_s, double predicted) {
  WallArm arm;
  arm.name = name;
  arm.tokens_per_s = {tokens_per_s, tokens_per_s, tokens_per_s};
  arm.predicted_tokens_per_s = predicted;
  return arm;
}

// 1e9 parameters of one byte, a disk of 2 GB/s: half a second a pass. 100 tokens a second by
// arithmetic, so that half a second is 50 tokens.
WallReport Example() {
  WallReport report;
  report.model = "m.gguf";
  report.device = "cpu";
  report.weight_bytes = 1'000'000'000;
  report.parameters = 1e9;
  report.disk_bytes_per_s = 2e9;
  report.arms = {Arm(kWallResident, 20, 19), Arm(kWallPipelined, 2, 2.1),
                 Arm(kWallLiteral, 1.6, 1.6)};
  report.arms[1].bytes_per_token = 1e9;
  report.arms[1].disk_share = 0.98;
  report.passes = {{1, 0.05, 0.5}, {16, 0.16, 0.5}, {64, 0.64, 0.66}, {256, 2.56, 2.6}};
  return report;
}

TEST(WallReport, BreakEvenIsWhereArithmeticFillsTheTimeOfTheDisk) {
  const WallReport report = Example();
  EXPECT_NEAR(BreakEvenTokens(report), 50, 1e-9);
  const double measured = MeasuredBreakEvenTokens(report);
  EXPECT_GT(measured, 16);
  EXPECT_LT(measured, 64);
  WallReport steep = report;
  steep.passes.resize(2);
  EXPECT_EQ(MeasuredBreakEvenTokens(steep), 0) << "not within what was measured";
  WallReport back = report;
  back.passes.push_back({512, 5, 5.5});
  EXPECT_EQ(MeasuredBreakEvenTokens(back), 0) << "a wider pass is slower again";
  steep.passes.clear();
  EXPECT_EQ(BreakEvenTokens(steep), 0);
  WallReport fast = report;
  for (WallPass& pass : fast.passes) pass.disk_s = pass.resident_s;
  EXPECT_EQ(MeasuredBreakEvenTokens(fast), 1) << "from the first on";
}

TEST(WallReport, EndsWithOneSentenceOfNumbers) {
  WallReport report = Example();
  EXPECT_THAT(WallSentence(report),
              HasSubstr("cost 12.5 x at batch 1 done literally, 10.0 x read ahead, and nothing"));
  report.passes.clear();
  EXPECT_THAT(WallSentence(report), HasSubstr("10.0 x read ahead.\n"));
  report.arms.pop_back();
  EXPECT_EQ(WallSentence(report), "");
}

TEST(WallReport, TextAndJsonSayTheSame) {
  WallReport report = Example();
  report.arms.push_back(Arm("on disk, page by page", 0.02, 0.02));
  report.arms.back().is_scaled = true;
  const std::string text = WallToText(report);
  EXPECT_THAT(text, HasSubstr("on disk, page by page*"));
  EXPECT_THAT(text, HasSubstr("* scaled"));
  EXPECT_THAT(text, HasSubstr("  +5.0 %  #########\n"));  // 10 times slower: a decade of marks
  EXPECT_THAT(text, HasSubstr("from 50 tokens by arithmetic over link"));
  const nlohmann::json document = WallToJson(report);
  ASSERT_EQ(document["arms"].size(), 4u);
  EXPECT_EQ(document["arms"][1]["slowdown"], 10);
  EXPECT_NEAR(document["arms"][1]["prediction_error"].get<double>(), 0.05, 1e-12);
  EXPECT_EQ(document["arms"][3]["scaled"], true);
  EXPECT_FALSE(document["arms"][3].contains("prediction_error")) << "nothing was predicted";
  EXPECT_EQ(document["passes"].size(), 4u);
  EXPECT_EQ(document["passes"][0]["slowdown"], 10);
  EXPECT_EQ(document["sentence"], WallSentence(report));
}

}  // namespace
}  // namespace weir
