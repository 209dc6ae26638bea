// The engine on tests/data/tiny.gguf: right against an oracle, the same tokens however its bytes
// move, and clean ends of everything that can go wrong.
#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "gtest/gtest.h"
#include "models/architecture.h"
#include "nlohmann/json.hpp"
#include "tests/engine/engine_helper.h"

namespace weir {
namespace {

nlohmann::json Golden() {
  std::ifstream file("tests/data/golden_tiny.json");
  return nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
}

std::string FormatName(ActivationFormat format) {
  return format == ActivationFormat::kF32 ? "F32" : format == ActivationFormat::kQ16 ? "Q16" : "Q8";
}

std::vector<TokenId> GoldenPrompt(size_t sequence = 0) {
  return Golden()["sequences"][sequence]["ids"].get<std::vector<TokenId>>();
}

// Log-probabilities of the oracle's five likeliest tokens after every token of the sequence.
// float32 sums of a few hundred terms and float16 keys and values stand between the two.
void CompareWithOracle(Engine& engine, const nlohmann::json& sequence, double tolerance_nats) {
  const auto ids = sequence["ids"].get<std::vector<TokenId>>();
  const std::unique_ptr<Session> session = engine.NewSession();
  const auto rows = static_cast<uint32_t>(ids.size());
  ASSERT_TRUE(engine.Forward(*session, ids, rows, false).ok());
  double worst = 0;
  for (uint32_t t = 0; t < rows; ++t) {
    for (size_t k = 0; k < sequence["top_ids"][t].size(); ++k) {
      const auto id = sequence["top_ids"][t][k].get<TokenId>();
      const double oracle = sequence["top_logprobs"][t][k].get<double>();
      worst = std::max(worst, std::abs(LogProbability(engine.logits(t), id) - oracle));
    }
  }
  EXPECT_LT(worst, tolerance_nats);
}

// Greedy tokens up to the first that the oracle won by less than `margin_nats`.
void CompareGreedy(Engine& engine, const nlohmann::json& sequence, double margin_nats) {
  const auto prompt = sequence["ids"].get<std::vector<TokenId>>();
  const auto greedy = sequence["greedy"].get<std::vector<TokenId>>();
  const auto margins = sequence["greedy_margins"].get<std::vector<double>>();
  const absl::StatusOr<std::vector<TokenId>> made = Greedy(engine, prompt, greedy.size());
  ASSERT_TRUE(made.ok()) << made.status();
  size_t compared = 0;
  while (compared < greedy.size() && margins[compared] >= margin_nats) {
    EXPECT_EQ((*made)[compared], greedy[compared]) << "token " << compared;
    ++compared;
  }
  EXPECT_GE(compared, 4u);
}

TEST(EngineOracle, LogProbabilitiesAndGreedyTokensInFloat32) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const nlohmann::json golden = Golden();
  ASSERT_GE(golden["sequences"].size(), 2u);
  EngineSetup setup;
  setup.chunk_tokens = 64;
  setup.logit_rows = 64;
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  for (const nlohmann::json& sequence : golden["sequences"]) {
    CompareWithOracle(**engine, sequence, 0.02);
    CompareGreedy(**engine, sequence, 0.02);
  }
}

TEST(EngineOracle, LogProbabilitiesAndGreedyTokensInSixteenBits) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  setup.chunk_tokens = 64;
  setup.logit_rows = 64;
  setup.activations = ActivationFormat::kQ16;
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const nlohmann::json golden = Golden();
  for (const nlohmann::json& sequence : golden["sequences"]) {
    CompareWithOracle(**engine, sequence, 0.02);
    CompareGreedy(**engine, sequence, 0.02);
  }
}

// Codes are half a step off, 1/254 of the largest of their 32; random weights make 0.3 nats of that
// (what it costs trained models: docs/performance.md).
TEST(EngineOracle, KeysAndValuesOfEightBits) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const nlohmann::json golden = Golden();
  for (const KvFormats kv :
       {KvFormats{KvFormat::kQ8_0, KvFormat::kF16}, KvFormats{KvFormat::kF16, KvFormat::kQ8_0},
        KvFormats{KvFormat::kQ8_0, KvFormat::kQ8_0}}) {
    EngineSetup setup;
    setup.chunk_tokens = 64;
    setup.logit_rows = 64;
    setup.kv = kv;
    SCOPED_TRACE(setup.Text());
    const auto engine = OpenEngineWith(*model, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    for (const nlohmann::json& sequence : golden["sequences"]) {
      CompareWithOracle(**engine, sequence, 0.5);
    }
  }
}

void ExpectSameTokens(const Model& model, const std::vector<TokenId>& prompt,
                      const EngineSetup& setup, const std::vector<TokenId>& expected) {
  SCOPED_TRACE(setup.Text());
  const auto engine = OpenEngineWith(model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto made = Greedy(**engine, prompt, expected.size());
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(*made, expected);
}

std::vector<TokenId> Reference(const Model& model, const std::vector<TokenId>& prompt,
                               ActivationFormat activations, size_t count) {
  EngineSetup setup;
  setup.resident_share = 1;
  setup.activations = activations;
  setup.engine.reader = "threads";
  const auto engine = OpenEngineWith(model, setup);
  if (!engine.ok()) return {};
  const auto made = Greedy(**engine, prompt, count);
  return made.ok() ? *made : std::vector<TokenId>();
}

class SameTokens : public testing::TestWithParam<ActivationFormat> {};

TEST_P(SameTokens, WhateverIsResidentWhicheverReaderHoweverManyThreads) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const std::vector<TokenId> prompt = GoldenPrompt();
  const std::vector<TokenId> expected = Reference(*model, prompt, GetParam(), 12);
  ASSERT_EQ(expected.size(), 12u);
  for (const double share : {0.0, 0.1, 0.25, 0.5, 0.75, 1.0}) {
    for (const char* reader : {"auto", "threads"}) {
      for (const uint32_t threads : {1u, 2u}) {
        EngineSetup setup;
        setup.resident_share = share;
        setup.activations = GetParam();
        setup.engine.reader = reader;
        setup.engine.threads = threads;
        ExpectSameTokens(*model, prompt, setup, expected);
      }
    }
  }
}

TEST_P(SameTokens, WithKeysAndValuesOfEightBits) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  setup.resident_share = 1;
  setup.activations = GetParam();
  setup.kv = {KvFormat::kQ8_0, KvFormat::kQ8_0};
  const std::vector<TokenId> prompt = GoldenPrompt();
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto expected = Greedy(**engine, prompt, 12);
  ASSERT_TRUE(expected.ok()) << expected.status();
  for (const uint32_t chunk : {1u, 7u, 64u}) {
    setup.chunk_tokens = chunk;
    setup.resident_share = chunk == 7 ? 0.0 : 0.5;
    setup.engine.threads = chunk == 7 ? 2 : 1;
    ExpectSameTokens(*model, prompt, setup, *expected);
  }
}

TEST_P(SameTokens, ReadingEachMatrixWhenItIsNeeded) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const std::vector<TokenId> prompt = GoldenPrompt();
  const std::vector<TokenId> expected = Reference(*model, prompt, GetParam(), 8);
  ASSERT_EQ(expected.size(), 8u);
  for (const double share : {0.0, 0.5, 1.0}) {
    EngineSetup setup;
    setup.resident_share = share;
    setup.activations = GetParam();
    setup.reads_ahead = false;
    ExpectSameTokens(*model, prompt, setup, expected);
  }
}

TEST_P(SameTokens, WithInjectedFaults) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const std::vector<TokenId> prompt = GoldenPrompt(1);
  const std::vector<TokenId> expected = Reference(*model, prompt, GetParam(), 8);
  ASSERT_EQ(expected.size(), 8u);
  for (const uint64_t seed : {1u, 2u}) {
    for (const double share : {0.0, 0.5}) {
      for (const char* reader : {"auto", "threads"}) {
        EngineSetup setup;
        setup.resident_share = share;
        setup.activations = GetParam();
        setup.engine.reader = reader;
        setup.engine.faults = FaultOptions{.seed = seed,
                                           .short_share = 0.3,
                                           .again_share = 0.2,
                                           .spike_share = 0.1,
                                           .spike_ns = 1'000'000,
                                           .eio_share = 0.1,
                                           .reorder_share = 0.2};
        ExpectSameTokens(*model, prompt, setup, expected);
      }
    }
  }
}

TEST_P(SameTokens, InEveryChunkSize) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const std::vector<TokenId> prompt = GoldenPrompt();
  const std::vector<TokenId> expected = Reference(*model, prompt, GetParam(), 8);
  ASSERT_EQ(expected.size(), 8u);
  for (const uint32_t chunk : {1u, 3u, 16u, 47u, 48u, 64u}) {
    EngineSetup setup;
    setup.chunk_tokens = chunk;
    setup.activations = GetParam();
    ExpectSameTokens(*model, prompt, setup, expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, SameTokens,
                         testing::Values(ActivationFormat::kF32, ActivationFormat::kQ16,
                                         ActivationFormat::kQ8),
                         [](const auto& format) { return FormatName(format.param); });

TEST(EngineSessions, SecondSessionAndSecondRunGiveTheSame) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto first = Greedy(**engine, GoldenPrompt(), 6);
  const auto other = Greedy(**engine, GoldenPrompt(1), 6);
  const auto again = Greedy(**engine, GoldenPrompt(), 6);
  ASSERT_TRUE(first.ok() && other.ok() && again.ok());
  EXPECT_EQ(*first, *again);
  EXPECT_NE(*first, *other);
}

// Two sequences that take turns share the pages, not their contents.
TEST(EngineSessions, TheRingMayBeWrittenToBetweenPasses) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  setup.resident_share = 0.3;
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto expected = Greedy(**engine, GoldenPrompt(), 6);
  ASSERT_TRUE(expected.ok()) << expected.status();
  const auto session = (*engine)->NewSession();
  std::vector<TokenId> next = GoldenPrompt();
  for (const TokenId token : *expected) {
    ASSERT_TRUE((*engine)->Forward(*session, next, 1, /*expect_more=*/true).ok());
    const absl::Span<const float> logits = (*engine)->logits(0);
    EXPECT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), token);
    const absl::Span<uint8_t> ring = (*engine)->IdleRing();
    EXPECT_FALSE(ring.empty());
    std::fill(ring.begin(), ring.end(), 0xa5);
    next = {token};
  }
}

TEST(EngineSessions, InterleavedSessionsDoNotMix) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::vector<std::vector<TokenId>> alone;
  for (size_t i = 0; i < 2; ++i) {
    const auto made = Greedy(**engine, GoldenPrompt(i), 5);
    ASSERT_TRUE(made.ok());
    alone.push_back(*made);
  }
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<std::vector<TokenId>> made(2);
  for (size_t i = 0; i < 2; ++i) {
    sessions.push_back((*engine)->NewSession());
    ASSERT_TRUE((*engine)->Forward(*sessions[i], GoldenPrompt(i), 1, true).ok());
    made[i].push_back(ArgMax((*engine)->logits(0)));
  }
  while (made[1].size() < 5) {
    for (size_t i = 0; i < 2; ++i) {
      ASSERT_TRUE((*engine)->Forward(*sessions[i], {made[i].back()}, 1, true).ok());
      made[i].push_back(ArgMax((*engine)->logits(0)));
    }
  }
  EXPECT_EQ(made, alone);
}

TEST(EngineArchitectures, EachRunsAndGivesTheSameResidentAndStreamed) {
  for (const Architecture& architecture : AllArchitectures()) {
    SCOPED_TRACE(std::string(architecture.name));
    const SyntheticFile file(SmallSpecOf(architecture));
    const auto model = LoadModel(file.path());
    ASSERT_TRUE(model.ok()) << model.status();
    std::vector<TokenId> prompt(40);
    for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<TokenId>(7 + 11 * i % 500);
    std::vector<std::vector<float>> logits;
    for (const double share : {0.0, 1.0}) {
      EngineSetup setup;
      setup.resident_share = share;
      setup.activations = ActivationFormat::kQ8;
      const auto engine = OpenEngineWith(**model, setup);
      ASSERT_TRUE(engine.ok()) << engine.status();
      const std::unique_ptr<Session> session = (*engine)->NewSession();
      ASSERT_TRUE((*engine)->Forward(*session, prompt, 1, true).ok());
      ASSERT_TRUE((*engine)->Forward(*session, {3}, 1, false).ok());
      const absl::Span<const float> row = (*engine)->logits(0);
      logits.emplace_back(row.begin(), row.end());
    }
    EXPECT_TRUE(std::all_of(logits[0].begin(), logits[0].end(),
                            [](float value) { return std::isfinite(value); }));
    EXPECT_NE(logits[0].front(), logits[0].back());
    EXPECT_EQ(logits[0], logits[1]);
  }
}

// The memory through which norms are read at the start is small in a small model.
TEST(EngineArchitectures, TheSmallestModelOpens) {
  SyntheticSpec spec;
  spec.layers = 1;
  spec.columns = 32;
  spec.heads = 1;
  spec.kv_heads = 1;
  spec.feed_forward_columns = 32;
  spec.format = "Q8_0";
  const SyntheticFile file(spec);
  const auto model = LoadModel(file.path());
  ASSERT_TRUE(model.ok()) << model.status();
  for (const double share : {0.0, 1.0}) {
    EngineSetup setup;
    setup.resident_share = share;
    setup.chunk_tokens = 1;
    setup.context_tokens = 8;
    const auto engine = OpenEngineWith(**model, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    EXPECT_TRUE(Greedy(**engine, {1, 2, 3}, 3).ok());
  }
}

}  // namespace
}  // namespace weir
