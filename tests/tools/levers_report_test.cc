#include "tools/levers_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/kv_pages.h"
#include "tools/measure_levers.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

LeversReport Example() {
  LeversReport report;
  report.precision = {{"Q4_K_M", 1e9, 10, 2, 12.5}, {"F16", 3e9, 3, 0.5, 0}};
  report.attention = {{.size = {256, 4096},
                       .naive_s = 0.3,
                       .tiled_s = 0.1,
                       .naive_bytes = 300 << 20,
                       .tiled_bytes = 50 << 20,
                       .largest_difference = 1.5e-6}};
  report.compute_in_place = InPlaceLever{"PCIe", 40e9, 20e9, 0.03, 0.05};
  report.kv = {{"f16", 28672, {{0x1p30, 37440, 9}}}};
  report.recompute = {{512, 1e9, 1e8, 1.0 / 3}};
  return report;
}

std::unique_ptr<Model> LoadTiny() {
  auto model = LoadModel("tests/data/tiny.gguf");
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
}

TEST(LeversReport, TextAndJsonSayTheSame) {
  const LeversReport report = Example();
  const std::string text = LeversToText(report);
  EXPECT_THAT(text, HasSubstr("12.50"));
  EXPECT_THAT(text, HasSubstr("3.00    300.0 MiB     50.0 MiB"));
  EXPECT_THAT(text, HasSubstr("computing in place is faster"));
  EXPECT_THAT(text, HasSubstr("37440"));
  EXPECT_THAT(text, HasSubstr("33 %"));
  const nlohmann::json json = LeversToJson(report);
  EXPECT_EQ(json["precision"][0]["perplexity"], 12.5);
  EXPECT_FALSE(json["precision"][1].contains("perplexity")) << "it was not measured";
  EXPECT_EQ(json["precision"][1]["disk_tokens_per_s"], 0.5);
  EXPECT_EQ(json["attention"][0]["tokens"], 4096);
  EXPECT_EQ(json["attention"][0]["chunk_tokens"], 256);
  EXPECT_EQ(json["attention"][0]["same"], 1.5e-6);
  EXPECT_EQ(json["compute_in_place"]["moved_s"], 0.05);
  EXPECT_EQ(json["kv"][0]["budgets"][0]["largest_batch"], 9);
  EXPECT_EQ(json["recompute"][0]["keep_bytes"], 1e9);
  EXPECT_EQ(json["claims"][0]["fewer_bytes"], 6);
}

TEST(LeversReport, WhatIsSaidIsHeldAgainstBytesAndTime) {
  LeversReport report = Example();
  std::vector<LeverClaim> claims = JudgeLevers(report);
  ASSERT_EQ(claims.size(), 3u);
  EXPECT_EQ(claims[0].fewer_bytes, 6);
  EXPECT_NEAR(claims[0].faster, 3, 1e-12);
  EXPECT_TRUE(claims[0].holds());
  // The ladder's last format is the wider one here.
  EXPECT_NEAR(claims[2].faster, 0.25, 1e-12);
  EXPECT_FALSE(claims[2].holds());
  EXPECT_THAT(LeversToText(report), HasSubstr("F16 instead of Q4_K_M, on disk"));
  report.attention[0].tiled_s = 0.29;
  EXPECT_FALSE(JudgeLevers(report)[0].holds()) << "fewer bytes, and hardly any faster";
  report.precision.pop_back();
  report.attention.clear();
  EXPECT_TRUE(JudgeLevers(report).empty());
}

TEST(LeversReport, WhatWasNotMeasuredIsLeftOut) {
  EXPECT_EQ(LeversToText(LeversReport()), "");
  EXPECT_EQ(LeversToJson(LeversReport()), nlohmann::json::object());
  LeversReport report = Example();
  report.compute_in_place.reset();
  EXPECT_THAT(LeversToText(report), Not(HasSubstr("in place")));
  EXPECT_FALSE(LeversToJson(report).contains("compute_in_place"));
  report.compute_in_place = InPlaceLever{"PCIe", 10e9, 20e9, 0.06, 0.05};
  EXPECT_THAT(LeversToText(report), HasSubstr("moving is faster"));
}

// Two layers of 2 and 1 KV heads of 32 columns, one of them with a window.
ModelConfig SmallConfig() {
  ModelConfig config;
  config.key_columns = config.value_columns = 32;
  config.layers = {{.heads = 4, .kv_heads = 2, .window = 8}, {.heads = 4, .kv_heads = 1}};
  return config;
}

TEST(CountKv, CountsAllLayersAsTheEngineKeepsThem) {
  // A token: 3 heads of 32 columns, keys and values, two bytes each: 384 bytes; a page of 64 is
  // 24576. As q8_0 34 bytes for 32 columns: 204 bytes.
  const std::vector<KvLever> levers = CountKv(SmallConfig(), {100'000, 1'572'864});
  ASSERT_EQ(levers.size(), 2u);
  EXPECT_EQ(levers[0].type, "f16");
  EXPECT_DOUBLE_EQ(levers[0].bytes_per_token, 384);
  EXPECT_DOUBLE_EQ(levers[0].budgets[0].largest_context, 4 * 64);
  EXPECT_DOUBLE_EQ(levers[0].budgets[0].largest_batch, 0);
  EXPECT_DOUBLE_EQ(levers[0].budgets[1].largest_context, 4096);
  EXPECT_DOUBLE_EQ(levers[0].budgets[1].largest_batch, 1) << "exactly one";
  EXPECT_EQ(levers[1].type, "q8_0");
  EXPECT_DOUBLE_EQ(levers[1].bytes_per_token, 204);
  // The engine's own account is no larger than the budget, and with a page more it would be.
  const KvFormats formats;
  const auto context = static_cast<uint32_t>(levers[0].budgets[0].largest_context);
  EXPECT_LE(KvBytes(SmallConfig(), formats, context), 100'000u);
  EXPECT_GT(KvBytes(SmallConfig(), formats, context + 1), 100'000u);
}

TEST(CountKv, LeavesOutAFormatThatTheHeadsDoNotTake) {
  ModelConfig config = SmallConfig();
  config.value_columns = 40;
  EXPECT_EQ(CountKv(config, {1e9}).size(), 1u);
}

TEST(MeasureLevers, MeasuresEveryLeverButPrecision) {
  const std::unique_ptr<Model> model = LoadTiny();
  LeverOptions options;
  options.threads = 2;
  options.contexts = {16, 64};
  options.attention_rounds = 1;
  options.link_bytes_per_s = 8e9;
  options.link = "emulated";
  options.recompute_tokens = {10, 20};
  double last = 0;
  const auto report = MeasureLevers(*model, options, [&](double share) { last = share; });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(last, 1);
  EXPECT_TRUE(report->precision.empty());
  EXPECT_EQ(report->attention.size(), 2u);
  ASSERT_TRUE(report->compute_in_place.has_value());
  EXPECT_GT(report->compute_in_place->in_place_s, 0);
  EXPECT_GT(report->compute_in_place->dram_bytes_per_s, 0);
  EXPECT_GT(report->compute_in_place->moved_s, 0);
  EXPECT_FALSE(report->kv.empty());
  ASSERT_EQ(report->recompute.size(), 2u);
  EXPECT_DOUBLE_EQ(report->recompute[1].keep_bytes, 2 * report->recompute[0].keep_bytes);
  EXPECT_DOUBLE_EQ(report->recompute[0].extra_operations_share, 1.0 / 3);
  options.link_bytes_per_s = 0;
  EXPECT_FALSE(MeasureLevers(*model, options, nullptr)->compute_in_place.has_value());
}

}  // namespace
}  // namespace weir
