// The engine with the CUDA kernels, on the host grid: the tokens of the CPU, and passes as graphs.
#include <gtest/gtest.h>

#ifdef WEIR_HAVE_HOST_GRID

#include <memory>
#include <vector>

#include "engine/engine.h"
#include "engine/sampler.h"
#include "tests/engine/engine_helper.h"
#include "tests/kernels/host_grid/device.h"

namespace weir {
namespace {

constexpr size_t kTokens = 6;

std::vector<TokenId> PromptOf(size_t tokens) {
  std::vector<TokenId> prompt(tokens);
  for (size_t i = 0; i < tokens; ++i) prompt[i] = static_cast<TokenId>(3 + 7 * i % 200);
  return prompt;
}

EngineSetup OnHostGrid(double hbm_share, InPlace in_place, bool graphs) {
  EngineSetup setup;
  setup.hbm_share = hbm_share;
  setup.in_place = in_place;
  setup.context_tokens = 512;
  setup.chunk_tokens = 128;
  setup.activations = ActivationFormat::kQ16;
  setup.engine.accelerator.graphs = graphs;
  setup.engine.accelerator.kind = AcceleratorKind::kCuda;
  setup.engine.accelerator.make = [](uint64_t) {
    return absl::StatusOr<std::unique_ptr<Device>>(host_grid::MakeHostGridDevice({}));
  };
  return setup;
}

class CudaKernelsTest : public testing::Test {
 protected:
  void SetUp() override {
    model_ = LoadTiny();
    ASSERT_NE(model_, nullptr);
  }
  std::unique_ptr<Engine> Open(const EngineSetup& setup) {
    auto engine = OpenEngineWith(*model_, setup);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }

  std::unique_ptr<Model> model_;
};

TEST_F(CudaKernelsTest, TheCpusTokensWhereverWeightsLive) {
  EngineSetup cpu;
  cpu.activations = ActivationFormat::kQ16;
  const auto on_cpu = Open(cpu);
  ASSERT_NE(on_cpu, nullptr);
  const auto expected = Greedy(*on_cpu, PromptOf(20), kTokens);
  ASSERT_TRUE(expected.ok());
  for (const double hbm : {0.2, 1.2}) {
    for (const InPlace in_place : {InPlace::kOff, InPlace::kOn}) {
      const EngineSetup setup = OnHostGrid(hbm, in_place, /*graphs=*/true);
      SCOPED_TRACE(setup.Text());
      const auto engine = Open(setup);
      ASSERT_NE(engine, nullptr);
      const auto made = Greedy(*engine, PromptOf(20), kTokens);
      ASSERT_TRUE(made.ok()) << made.status();
      EXPECT_EQ(*made, *expected);
      // The first pass of one token is enqueued as it is, the next is recorded.
      EXPECT_EQ(engine->graph_runs(), hbm > 1 ? kTokens - 2 : 0);
    }
  }
}

// Logits of passes of one token after one another, over the end of what a graph serves.
TEST_F(CudaKernelsTest, GraphsChangeNoBit) {
  const auto with = Open(OnHostGrid(1.2, InPlace::kOff, /*graphs=*/true));
  const auto without = Open(OnHostGrid(1.2, InPlace::kOff, /*graphs=*/false));
  ASSERT_TRUE(with != nullptr && without != nullptr);
  constexpr size_t kPrompt = 60;
  const auto session = with->NewSession();
  const auto other = without->NewSession();
  ASSERT_TRUE(with->Forward(*session, PromptOf(kPrompt), 1, true).ok());
  ASSERT_TRUE(without->Forward(*other, PromptOf(kPrompt), 1, true).ok());
  for (TokenId token = 10; token < 20; ++token) {
    // Some passes without logits: another graph.
    const uint32_t rows = token % 3 == 0 ? 0 : 1;
    ASSERT_TRUE(with->Forward(*session, {token}, rows, true).ok());
    ASSERT_TRUE(without->Forward(*other, {token}, rows, true).ok());
    if (rows == 0) continue;
    const auto logits = with->logits(0);
    const auto expected = without->logits(0);
    EXPECT_TRUE(std::equal(logits.begin(), logits.end(), expected.begin(), expected.end()))
        << "position " << kPrompt + token - 10;
  }
  EXPECT_EQ(without->graph_runs(), 0u);
  // Of ten passes the first of each of four kinds: with logits and without, up to 64 and beyond.
  EXPECT_EQ(with->graph_runs(), 6u);
}

// Two sessions whose pages lie elsewhere, by turns.
TEST_F(CudaKernelsTest, OneGraphServesAllSessions) {
  const auto engine = Open(OnHostGrid(1.2, InPlace::kOff, /*graphs=*/true));
  ASSERT_NE(engine, nullptr);
  const auto prompts = {PromptOf(5), PromptOf(9)};
  std::vector<std::vector<TokenId>> alone;
  for (const auto& prompt : prompts) alone.push_back(*Greedy(*engine, prompt, kTokens));
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<std::vector<TokenId>> made(2);
  for (const auto& prompt : prompts) {
    sessions.push_back(engine->NewSession());
    ASSERT_TRUE(engine->Forward(*sessions.back(), prompt, 1, true).ok());
    made[sessions.size() - 1].push_back(ArgMax(engine->logits(0)));
  }
  const uint64_t before = engine->graph_runs();
  for (size_t i = 1; i < kTokens; ++i) {
    for (size_t s = 0; s < 2; ++s) {
      ASSERT_TRUE(engine->Forward(*sessions[s], {made[s].back()}, 1, true).ok());
      made[s].push_back(ArgMax(engine->logits(0)));
    }
  }
  EXPECT_EQ(made, alone);
  EXPECT_EQ(engine->graph_runs() - before, 2 * (kTokens - 1));
}

}  // namespace
}  // namespace weir

#endif
