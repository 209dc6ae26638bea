#include "tools/wall_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/base.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

WallArm Arm(const char* name, double tokens_per_s, double predicted) {
  WallArm arm;
  arm.name = name;
  arm.tokens_per_s = {tokens_per_s, tokens_per_s, tokens_per_s};
  arm.predicted_tokens_per_s = predicted;
  arm.prediction_error = predicted / tokens_per_s - 1;
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
  report.passes = {
      {1, 0.05, 0.5, 0.5}, {16, 0.16, 0.5, 0.5}, {64, 0.64, 0.66, 0.64}, {256, 2.56, 2.6, 2.56}};
  return report;
}

TEST(WallReport, BreakEvenIsWhereArithmeticFillsTheTimeOfTheDisk) {
  WallReport report = Example();
  EXPECT_NEAR(BreakEvenTokens(report), 50, 1e-9);
  // Resident passes take 10 ms a token, one token on disk half a second.
  EXPECT_NEAR(MeasuredBreakEvenTokens(report), 50, 1e-9);
  report.passes.resize(2);
  EXPECT_EQ(MeasuredBreakEvenTokens(report), 0) << "not within what was measured";
  report.passes.clear();
  EXPECT_EQ(BreakEvenTokens(report), 0);
  EXPECT_EQ(MeasuredBreakEvenTokens(report), 0);
}

TEST(WallReport, NoSlowerIsFromWhereNoWiderPassIsSlower) {
  WallReport report = Example();
  const double tokens = NoSlowerTokens(report, &WallPass::slowdown);
  EXPECT_GT(tokens, 16);
  EXPECT_LT(tokens, 64);
  const double predicted = NoSlowerTokens(report, &WallPass::predicted_slowdown);
  EXPECT_GT(predicted, 16);
  EXPECT_LT(predicted, tokens);
  WallReport back = report;
  back.passes.push_back({512, 5, 6, 0});
  EXPECT_EQ(NoSlowerTokens(back, &WallPass::slowdown), 0) << "a wider pass is slower again";
  EXPECT_EQ(NoSlowerTokens(back, &WallPass::predicted_slowdown), 0) << "one is not predicted";
  for (WallPass& pass : report.passes) pass.disk_s = pass.resident_s;
  EXPECT_EQ(NoSlowerTokens(report, &WallPass::slowdown), 1) << "from the first on";
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
  EXPECT_THAT(text, HasSubstr("* put together"));
  EXPECT_THAT(text, HasSubstr("  +5.0 %  #########\n"));  // 10 times slower: a decade of marks
  EXPECT_THAT(text, HasSubstr("as long as the disk from 50 tokens on"));
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

TEST(WallReport, LinksAreShownWhereThereIsOne) {
  WallReport report = Example();
  EXPECT_THAT(WallToText(report), Not(HasSubstr("of link")));
  report.ladder = "emulated";
  report.link_bytes_per_s = 16e9;
  report.arms[1].link_bytes_per_token = 1 << 30;
  report.arms[1].link_share = 0.25;
  report.sections.push_back({"training", "A step.\n", {{"tokens", 7}}});
  const std::string text = WallToText(report);
  EXPECT_THAT(text, HasSubstr("(no figure is a GPU's)"));
  EXPECT_THAT(text, HasSubstr("    1.0 GiB     25 %"));
  EXPECT_THAT(text, HasSubstr("\nA step.\n"));
  report.passes[0].predicted_disk_s = 0;
  EXPECT_THAT(WallToText(report), HasSubstr("    10.0          -  #")) << "not predicted";
  report.sections.push_back({"levers", "left out\n", nlohmann::json()});
  EXPECT_FALSE(WallToJson(report).contains("levers")) << "nothing was measured";
  const nlohmann::json document = WallToJson(report);
  EXPECT_EQ(document["arms"][1]["ladder"], "emulated");
  EXPECT_EQ(document["training"]["tokens"], 7);
}

}  // namespace
}  // namespace weir
