#include "engine/attention_experiment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "tests/engine/engine_helper.h"

namespace weir {
namespace {

// Token t, query head h, in double precision.
std::vector<double> Reference(const AttentionExperiment& experiment, const AttentionShape& shape,
                              const AttentionSize& size, uint32_t token, uint32_t head) {
  const uint32_t kv_head = head / (shape.heads / shape.kv_heads);
  const uint32_t end = size.context - size.tokens + token + 1;
  const float* const query =
      experiment.queries().data() + (uint64_t{token} * shape.heads + head) * shape.key_columns;
  std::vector<double> weights;
  double sum = 0;
  for (uint32_t p = 0; p < end; ++p) {
    const float* const key =
        experiment.keys().data() + (uint64_t{p} * shape.kv_heads + kv_head) * shape.key_columns;
    double score = 0;
    for (uint32_t c = 0; c < shape.key_columns; ++c) score += double{query[c]} * key[c];
    score *= shape.scale;
    if (shape.soft_cap > 0) score = shape.soft_cap * std::tanh(score / shape.soft_cap);
    weights.push_back(std::exp(score));
    sum += weights.back();
  }
  std::vector<double> output(shape.value_columns);
  for (uint32_t p = 0; p < end; ++p) {
    const float* const value =
        experiment.values().data() + (uint64_t{p} * shape.kv_heads + kv_head) * shape.value_columns;
    for (uint32_t c = 0; c < shape.value_columns; ++c) output[c] += weights[p] / sum * value[c];
  }
  return output;
}

TEST(AttentionExperiment, BothWaysMatchDoublePrecision) {
  const AttentionShape shapes[] = {
      {4, 2, 64, 64, 0.125f, 0}, {3, 1, 32, 48, 0.2f, 0}, {2, 2, 16, 16, 0.5f, 4}};
  const AttentionSize sizes[] = {{1, 1}, {5, 5}, {7, 130}, {33, 300}};
  for (const uint32_t threads : {1u, 2u}) {
    const auto device = MakeCpuDevice({.threads = threads});
    ASSERT_TRUE(device.ok()) << device.status();
    const std::unique_ptr<Stream> stream = (*device)->NewStream();
    for (const AttentionShape& shape : shapes) {
      for (const AttentionSize& size : sizes) {
        SCOPED_TRACE(testing::Message() << shape.heads << " heads, " << size.context);
        const auto made =
            AttentionExperiment::Make(shape, size, static_cast<CpuStream*>(stream.get()));
        ASSERT_TRUE(made.ok()) << made.status();
        AttentionExperiment& experiment = **made;
        experiment.RunNaive();
        experiment.RunTiled();
        for (const uint32_t token : {0u, size.tokens / 2, size.tokens - 1}) {
          for (uint32_t head = 0; head < shape.heads; ++head) {
            const std::vector<double> expected = Reference(experiment, shape, size, token, head);
            for (uint32_t c = 0; c < shape.value_columns; ++c) {
              const uint64_t at = (uint64_t{token} * shape.heads + head) * shape.value_columns + c;
              ASSERT_NEAR(experiment.naive()[at], expected[c], 1e-5) << token << ", " << head;
              ASSERT_NEAR(experiment.tiled()[at], expected[c], 1e-5) << token << ", " << head;
            }
          }
        }
        EXPECT_LT(experiment.LargestDifference(), 2e-5);
      }
    }
  }
}

TEST(AttentionExperiment, ADifferenceIsSeen) {
  const auto device = MakeCpuDevice({.threads = 1});
  ASSERT_TRUE(device.ok()) << device.status();
  const std::unique_ptr<Stream> stream = (*device)->NewStream();
  const auto made = AttentionExperiment::Make({2, 1, 16, 16, 0.25f, 0}, {3, 40},
                                              static_cast<CpuStream*>(stream.get()));
  ASSERT_TRUE(made.ok()) << made.status();
  (*made)->RunNaive();  // the other's output is still zero
  EXPECT_GT((*made)->LargestDifference(), 0.01);
}

TEST(AttentionExperiment, BytesByHand) {
  // 2 query heads of 1 KV head, 4 key and 6 value columns; 20 tokens at the end of 100 positions.
  const AttentionShape shape = {2, 1, 4, 6, 1, 0};
  const AttentionSize size = {20, 100};
  const uint64_t queries = 4 * 20 * 2 * 4, outputs = 4 * 20 * 2 * 6;
  const uint64_t once = queries + outputs + 100 * (8 + 12);
  EXPECT_EQ(TiledAttentionBytes(shape, size), once);
  EXPECT_EQ(NaiveAttentionBytes(shape, size), once + 16 * 20 * 2 * 100);
  // Of two KV heads there are twice as many keys and values.
  EXPECT_EQ(TiledAttentionBytes({2, 2, 4, 6, 1, 0}, size), once + 100 * (8 + 12));
}

TEST(CompareAttention, MeasuresEveryContextAndEndsWhenTold) {
  const std::unique_ptr<Model> model = LoadTiny();
  const AttentionShape shape = AttentionShapeOf(model->config);
  EXPECT_EQ(shape.heads, model->config.layers[0].heads);
  AttentionExperimentOptions options;
  options.contexts = {16, 100};
  options.chunk_tokens = 32;
  options.rounds = 3;
  options.threads = 2;
  std::vector<double> shares;
  const auto result = CompareAttention(shape, options, [&](double share) {
    shares.push_back(share);
    return true;
  });
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->size(), 2u);
  EXPECT_EQ((*result)[0].size.tokens, 16u);
  EXPECT_EQ((*result)[1].size.tokens, 32u);
  EXPECT_EQ(shares.size(), 6u);
  EXPECT_DOUBLE_EQ(shares.back(), 1);
  for (const AttentionComparison& comparison : *result) {
    EXPECT_GT(comparison.naive_s, 0);
    EXPECT_GT(comparison.tiled_s, 0);
    EXPECT_LT(comparison.largest_difference, 1e-5);
  }
  options.limit_s = 0;
  shares.clear();
  ASSERT_TRUE(CompareAttention(shape, options, [&](double share) {
                shares.push_back(share);
                return true;
              }).ok());
  EXPECT_EQ(shares.size(), 2u) << "one round each";
  EXPECT_EQ(CompareAttention(shape, options, [](double) { return false; }).status().code(),
            absl::StatusCode::kCancelled);
  options.rounds = 0;
  EXPECT_EQ(CompareAttention(shape, options, nullptr).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(AttentionShapeOf, TakesALayerThatSeesEverything) {
  ModelConfig config;
  config.layers = {{.heads = 4, .kv_heads = 2, .window = 512}, {.heads = 8, .kv_heads = 4}};
  EXPECT_EQ(AttentionShapeOf(config).heads, 8u);
  config.layers.pop_back();
  EXPECT_EQ(AttentionShapeOf(config).heads, 4u);
}

}  // namespace
}  // namespace weir
