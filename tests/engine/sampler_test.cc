#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr SamplerOptions kPlain = {.temperature = 1,
                                   .top_k = 0,
                                   .top_p = 1,
                                   .min_p = 0,
                                   .repeat_penalty = 1,
                                   .repeat_last_n = 64,
                                   .seed = 42};

std::vector<float> SomeLogits(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// Probabilities by definition; zero where `keep` does not have the id.
std::vector<double> Softmax(const std::vector<float>& logits, const std::set<TokenId>& keep,
                            double temperature) {
  std::vector<double> p(logits.size());
  double sum = 0;
  for (const TokenId id : keep) {
    p[static_cast<size_t>(id)] = std::exp(logits[static_cast<size_t>(id)] / temperature);
    sum += p[static_cast<size_t>(id)];
  }
  for (double& value : p) value /= sum;
  return p;
}

std::vector<TokenId> Sorted(const std::vector<float>& logits) {
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  return ids;
}

std::set<TokenId> All(size_t count) {
  std::set<TokenId> ids;
  for (size_t i = 0; i < count; ++i) ids.insert(static_cast<TokenId>(i));
  return ids;
}

// Draws often and compares counts with the probabilities: each within five standard deviations.
void ExpectDistribution(const SamplerOptions& options, const std::vector<float>& logits,
                        const std::vector<double>& p) {
  constexpr int kDraws = 20000;
  Sampler sampler(options, static_cast<uint32_t>(logits.size()));
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sampler.Sample(logits, {}))];
  for (size_t id = 0; id < p.size(); ++id) {
    if (p[id] == 0) {
      EXPECT_EQ(counts[id], 0) << "token " << id << " was filtered out";
      continue;
    }
    const double sigma = std::sqrt(kDraws * p[id] * (1 - p[id]));
    EXPECT_NEAR(counts[id], kDraws * p[id], 5 * sigma + 1) << "token " << id;
  }
}

TEST(Sampler, TemperatureAlone) {
  const std::vector<float> logits = SomeLogits(30, 1);
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    SamplerOptions options = kPlain;
    options.temperature = temperature;
    ExpectDistribution(options, logits, Softmax(logits, All(30), temperature));
  }
}

TEST(Sampler, TopK) {
  const std::vector<float> logits = SomeLogits(30, 2);
  const std::vector<TokenId> sorted = Sorted(logits);
  for (const uint32_t k : {1u, 5u, 29u, 30u, 1000u}) {
    SamplerOptions options = kPlain;
    options.top_k = k;
    const std::set<TokenId> keep(sorted.begin(), sorted.begin() + std::min(k, 30u));
    ExpectDistribution(options, logits, Softmax(logits, keep, 1));
  }
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  const std::vector<float> logits = SomeLogits(30, 3);
  const std::vector<TokenId> sorted = Sorted(logits);
  const std::vector<double> p = Softmax(logits, All(30), 1);
  for (const float top_p : {0.01f, 0.5f, 0.9f, 0.999f}) {
    std::set<TokenId> keep;
    double sum = 0;
    for (const TokenId id : sorted) {
      if (sum >= top_p) break;
      keep.insert(id);
      sum += p[static_cast<size_t>(id)];
    }
    SamplerOptions options = kPlain;
    options.top_p = top_p;
    ExpectDistribution(options, logits, Softmax(logits, keep, 1));
  }
}

TEST(Sampler, MinPIsAShareOfTheBest) {
  const std::vector<float> logits = SomeLogits(30, 4);
  const std::vector<double> p = Softmax(logits, All(30), 1);
  const double best = *std::max_element(p.begin(), p.end());
  for (const float min_p : {0.01f, 0.1f, 0.5f, 1.0f}) {
    std::set<TokenId> keep;
    for (size_t id = 0; id < p.size(); ++id) {
      if (p[id] >= best * min_p * (1 - 1e-6)) keep.insert(static_cast<TokenId>(id));
    }
    SamplerOptions options = kPlain;
    options.min_p = min_p;
    ExpectDistribution(options, logits, Softmax(logits, keep, 1));
  }
}

// Top-p judges what top-k left, and temperature comes last: filters do not depend on it.
TEST(Sampler, OrderOfTheFilters) {
  const std::vector<float> logits = SomeLogits(30, 5);
  const std::vector<TokenId> sorted = Sorted(logits);
  const std::set<TokenId> top(sorted.begin(), sorted.begin() + 6);
  const std::vector<double> p = Softmax(logits, top, 1);
  std::set<TokenId> keep;
  double sum = 0;
  for (size_t i = 0; i < 6 && sum < 0.8f; ++i) {
    keep.insert(sorted[i]);
    sum += p[static_cast<size_t>(sorted[i])];
  }
  ASSERT_LT(keep.size(), 6u);
  SamplerOptions options = kPlain;
  options.top_k = 6;
  options.top_p = 0.8f;
  options.temperature = 1.7f;
  ExpectDistribution(options, logits, Softmax(logits, keep, 1.7f));
}

TEST(Sampler, RepeatPenaltyMovesBothSignsDownAndLooksBackSoFar) {
  const std::vector<float> logits = {2.0f, 1.9f, 1.5f, -1.0f, -1.1f};
  SamplerOptions options = kPlain;
  options.temperature = 0;
  options.repeat_penalty = 1.25f;
  options.repeat_last_n = 3;
  Sampler sampler(options, 5);
  EXPECT_EQ(sampler.Sample(logits, std::vector<TokenId>{}), 0);
  EXPECT_EQ(sampler.Sample(logits, std::vector<TokenId>{0}), 1);           // 1.6 < 1.9
  EXPECT_EQ(sampler.Sample(logits, std::vector<TokenId>{0, 0, 0}), 1);     // once, not 1.024
  EXPECT_EQ(sampler.Sample(logits, std::vector<TokenId>{0, 1, 3}), 0);     // 1.6 > 1.52 > 1.5
  EXPECT_EQ(sampler.Sample(logits, std::vector<TokenId>{0, 3, 3, 3}), 0);  // too long ago
  const std::vector<float> negative = {-1.0f, -1.1f};
  EXPECT_EQ(sampler.Sample(negative, std::vector<TokenId>{0}), 1);  // -1.25 < -1.1
}

TEST(Sampler, AHugeLookBackTakesNoMemoryForIt) {
  SamplerOptions options = kPlain;
  options.repeat_penalty = 1.1f;
  options.repeat_last_n = UINT32_MAX;
  Sampler sampler(options, 4);
  const std::vector<float> logits = {0, 1, 2, 3};
  EXPECT_GE(sampler.Sample(logits, std::vector<TokenId>{1, 2, 3, 3, 3}), 0);
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  const std::vector<float> logits = {1, 5, 3, 5, 5};
  EXPECT_EQ(ArgMax(logits), 1);
  SamplerOptions options = kPlain;
  options.temperature = 0;
  Sampler sampler(options, 5);
  EXPECT_EQ(sampler.Sample(logits, {}), 1);
  options.repeat_penalty = 2;
  Sampler penalising(options, 5);
  EXPECT_EQ(penalising.Sample(logits, std::vector<TokenId>{1}), 3);
}

TEST(Sampler, EqualSeedsDrawEqualTokens) {
  const std::vector<float> logits = SomeLogits(500, 6);
  std::map<uint64_t, std::vector<TokenId>> drawn;
  for (const uint64_t seed : {1u, 2u, 1u}) {
    SamplerOptions options;
    options.seed = seed;
    Sampler sampler(options, 500);
    std::vector<TokenId> tokens;
    tokens.reserve(100);
    for (int i = 0; i < 100; ++i) tokens.push_back(sampler.Sample(logits, tokens));
    const auto [at, is_new] = drawn.emplace(seed, tokens);
    if (!is_new) {
      EXPECT_EQ(at->second, tokens);
    }
  }
  EXPECT_NE(drawn[1], drawn[2]);
}

TEST(Sampler, ExtremeLogitsStayFinite) {
  const std::vector<float> logits = {-1e30f, 1e30f, -INFINITY, 88, 3e38f};
  Sampler sampler({.temperature = 0.01f}, 5);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(sampler.Sample(logits, {}), 4);
  EXPECT_EQ(LogProbability(logits, 4), 0);
}

TEST(Sampler, LogProbabilitiesAreThoseOfTheSoftmax) {
  const std::vector<float> logits = SomeLogits(40, 8);
  const std::vector<double> p = Softmax(logits, All(40), 1);
  for (TokenId id = 0; id < 40; ++id) {
    EXPECT_NEAR(LogProbability(logits, id), std::log(p[static_cast<size_t>(id)]), 1e-12);
  }
}

TEST(Sampler, WhatIsNoNumberIsLeastLikely) {
  const float nan = std::nanf("");
  const std::vector<float> logits = {nan, 1.0f, nan, 2.0f, nan};
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Sampler sampler({.temperature = 1, .top_k = 3, .seed = seed}, 5);
    const TokenId token = sampler.Sample(logits, {});
    EXPECT_TRUE(token == 1 || token == 3) << token;
  }
  Sampler sampler({.temperature = 1}, 2);
  const TokenId token = sampler.Sample(std::vector<float>{nan, nan}, {});
  EXPECT_TRUE(token == 0 || token == 1) << token;
}

// A row as TopLogits of kernels/ops.h gives it: NaN as the lowest, equals by id.
struct Top {
  std::vector<float> values;
  std::vector<TokenId> ids;
};
Top TopOf(const std::vector<float>& logits, uint32_t k) {
  std::vector<float> ordered = logits;
  for (float& logit : ordered) {
    if (std::isnan(logit)) logit = std::numeric_limits<float>::lowest();
  }
  Top top;
  top.ids = Sorted(ordered);
  top.ids.resize(k);
  for (const TokenId id : top.ids) top.values.push_back(ordered[static_cast<size_t>(id)]);
  return top;
}

TEST(Sampler, TheLargestLogitsAreEnough) {
  const std::vector<SamplerOptions> variants = {
      {.temperature = 0},
      {.temperature = 0, .top_k = 0, .repeat_penalty = 2, .repeat_last_n = 0},
      {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f},
      {.temperature = 1.5f, .top_k = 1, .top_p = 1, .min_p = 0},
      {.temperature = 3, .top_k = 256, .top_p = 0.99f, .min_p = 0},
      {.temperature = 1, .top_k = 1000, .top_p = 1, .min_p = 0.001f},  // more than there are
  };
  for (size_t variant = 0; variant < variants.size(); ++variant) {
    for (uint64_t seed = 1; seed <= 30; ++seed) {
      SCOPED_TRACE(testing::Message() << "variant " << variant << " seed " << seed);
      SamplerOptions options = variants[variant];
      options.seed = seed;
      const uint32_t vocabulary = options.top_k == 1000 ? 200 : 2000;
      Sampler whole(options, vocabulary);
      Sampler top(options, vocabulary);
      ASSERT_GT(top.candidates(), 0u);
      for (uint64_t step = 0; step < 20; ++step) {
        std::vector<float> logits = SomeLogits(vocabulary, seed * 100 + step);
        std::mt19937_64 random(step);
        for (float& logit : logits) {
          if (step % 2 == 1) logit = std::round(logit);  // ties
          if (step % 4 >= 2 && random() % 8 == 0) logit = std::nanf("");
        }
        if (step == 19) logits[0] = std::nanf("");
        const Top largest = TopOf(logits, top.candidates());
        ASSERT_EQ(top.SampleTop(largest.values, largest.ids), whole.Sample(logits, {}));
      }
    }
  }
}

TEST(Sampler, SaysWhenAllLogitsAreNeeded) {
  EXPECT_EQ(Sampler({.temperature = 0, .repeat_penalty = 1.1f}, 1000).candidates(), 0u);
  EXPECT_EQ(Sampler({.top_k = 0}, 1000).candidates(), 0u);
  EXPECT_EQ(Sampler({.top_k = 257}, 1000).candidates(), 0u);
  EXPECT_EQ(Sampler({.top_k = 256}, 1000).candidates(), 256u);
  EXPECT_EQ(Sampler({.top_k = 257}, 100).candidates(), 100u);
  EXPECT_EQ(Sampler({.temperature = 0, .top_k = 0}, 1000).candidates(), 1u);
}

TEST(Sampler, OptionsOutOfRangeAreRefusedByName) {
  auto refusal = [](auto change) {
    SamplerOptions options;
    change(&options);
    return std::string(CheckSamplerOptions(options).message());
  };
  EXPECT_TRUE(CheckSamplerOptions(SamplerOptions()).ok());
  EXPECT_THAT(refusal([](auto* o) { o->temperature = -1; }), HasSubstr("--temp"));
  EXPECT_THAT(refusal([](auto* o) { o->temperature = NAN; }), HasSubstr("--temp"));
  EXPECT_THAT(refusal([](auto* o) { o->top_p = 0; }), HasSubstr("--top-p"));
  EXPECT_THAT(refusal([](auto* o) { o->top_p = 1.01f; }), HasSubstr("--top-p"));
  EXPECT_THAT(refusal([](auto* o) { o->min_p = -0.1f; }), HasSubstr("--min-p"));
  EXPECT_THAT(refusal([](auto* o) { o->repeat_penalty = 0; }), HasSubstr("--repeat-penalty"));
}

}  // namespace
}  // namespace weir
