// The engine with an emulated accelerator: the same tokens as on the CPU wherever blocks live and
// whoever multiplies them, within both budgets, and clean ends.
#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/sampler.h"
#include "gtest/gtest.h"
#include "io/allocation_counter.h"
#include "models/architecture.h"
#include "tests/engine/engine_helper.h"

namespace weir {
namespace {

constexpr size_t kTokens = 10;

std::vector<TokenId> Prompt() {
  std::vector<TokenId> prompt(40);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<TokenId>(3 + 7 * i % 200);
  return prompt;
}

EngineSetup Accelerated(double hbm_share, double dram_share, InPlace in_place) {
  EngineSetup setup;
  setup.hbm_share = hbm_share;
  setup.dram_share = dram_share;
  setup.in_place = in_place;
  setup.engine.accelerator = FastLink();
  return setup;
}

std::vector<TokenId> OnTheCpu(const Model& model, ActivationFormat activations) {
  EngineSetup setup;
  setup.resident_share = 1;
  setup.activations = activations;
  const auto engine = OpenEngineWith(model, setup);
  if (!engine.ok()) return {};
  const auto made = Greedy(**engine, Prompt(), kTokens);
  return made.ok() ? *made : std::vector<TokenId>();
}

class SameTokensBeside : public testing::TestWithParam<ActivationFormat> {
 protected:
  void SetUp() override {
    model_ = LoadTiny();
    ASSERT_NE(model_, nullptr);
    expected_ = OnTheCpu(*model_, GetParam());
    ASSERT_EQ(expected_.size(), kTokens);
  }

  void Expect(EngineSetup setup) {
    setup.activations = GetParam();
    SCOPED_TRACE(setup.Text());
    const auto engine = OpenEngineWith(*model_, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    const Plan& plan = (*engine)->plan();
    EXPECT_LE((*engine)->accelerator_bytes_in_use(), plan.accelerator->hbm_budget_bytes);
    EXPECT_GT((*engine)->accelerator_bytes_in_use(), 0u);
    const auto made = Greedy(**engine, Prompt(), kTokens);
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ(*made, expected_);
    EXPECT_LE((*engine)->accelerator_bytes_in_use(), plan.accelerator->hbm_budget_bytes);
    stats_ = (*engine)->stats().scheduler;
  }

  std::unique_ptr<Model> model_;
  std::vector<TokenId> expected_;
  SchedulerStats stats_;  // of the latest run
};

TEST_P(SameTokensBeside, EveryPairOfBudgetsAndBothWaysToMultiply) {
  for (const double hbm : {0.1, 0.5, 1.2}) {
    for (const double dram : {0.1, 0.5, 1.2}) {
      for (const InPlace in_place : {InPlace::kOff, InPlace::kOn}) {
        Expect(Accelerated(hbm, dram, in_place));
        const uint64_t cpu_steps = stats_.devices[static_cast<size_t>(ComputeDevice::kCpu)].steps;
        const bool some = in_place == InPlace::kOn && hbm < 1;
        EXPECT_EQ(cpu_steps > 0, some) << hbm << " " << dram;
      }
    }
  }
}

TEST_P(SameTokensBeside, BothReadersAndMoreThreads) {
  for (const char* reader : {"auto", "threads"}) {
    for (const uint32_t threads : {1u, 2u}) {
      EngineSetup setup = Accelerated(0.3, 0.3, InPlace::kOn);
      setup.engine.reader = reader;
      setup.engine.threads = threads;
      Expect(setup);
    }
  }
}

// Passes of up to kInPlaceTokens tokens, of more, and of one kind after the other.
TEST_P(SameTokensBeside, EveryChunkSize) {
  for (const uint32_t chunk : {1u, 2u, 3u, 4u, 5u, 16u, 39u, 40u}) {
    EngineSetup setup = Accelerated(0.2, 0.4, InPlace::kOn);
    setup.chunk_tokens = chunk;
    Expect(setup);
  }
}

// As on a GPU: many steps at once, and few notifications.
TEST_P(SameTokensBeside, StepsEnqueuedFarAhead) {
  for (const double hbm : {0.1, 0.5, 1.2}) {
    for (const InPlace in_place : {InPlace::kOff, InPlace::kOn}) {
      EngineSetup setup = Accelerated(hbm, 0.4, in_place);
      setup.engine.accelerator.runs_far_ahead = true;
      Expect(setup);
    }
  }
}

TEST_P(SameTokensBeside, ASlowLinkAndFaultsOfTheDisk) {
  EngineSetup setup = Accelerated(0.1, 0.4, InPlace::kOn);
  setup.engine.accelerator.h2d_bytes_per_s = 200e6;
  setup.engine.accelerator.d2h_bytes_per_s = 50e6;
  setup.engine.accelerator.latency_ns = 200'000;
  setup.engine.faults = FaultOptions{.seed = 5,
                                     .short_share = 0.3,
                                     .again_share = 0.2,
                                     .spike_share = 0.1,
                                     .spike_ns = 1'000'000,
                                     .reorder_share = 0.3};
  Expect(setup);
}

INSTANTIATE_TEST_SUITE_P(Formats, SameTokensBeside,
                         testing::Values(ActivationFormat::kF32, ActivationFormat::kQ16,
                                         ActivationFormat::kQ8),
                         [](const auto& format) {
                           return std::string(format.param == ActivationFormat::kF32   ? "F32"
                                              : format.param == ActivationFormat::kQ16 ? "Q16"
                                                                                       : "Q8");
                         });

// Post norms, biases, soft caps, fused and tied matrices: bit for bit the logits of the CPU.
TEST(AcceleratorLogits, AreThoseOfTheCpuInEveryArchitecture) {
  for (const Architecture& architecture : AllArchitectures()) {
    SCOPED_TRACE(std::string(architecture.name));
    const SyntheticFile file(SmallSpecOf(architecture));
    const auto model = LoadModel(file.path());
    ASSERT_TRUE(model.ok()) << model.status();
    std::vector<std::vector<float>> logits;
    std::vector<EngineSetup> setups(1);
    for (const InPlace in_place : {InPlace::kOff, InPlace::kOn}) {
      setups.push_back(Accelerated(0.3, 0.5, in_place));
    }
    for (EngineSetup& setup : setups) {
      setup.activations = ActivationFormat::kQ8;
      setup.logit_rows = 2;
      const auto engine = OpenEngineWith(**model, setup);
      ASSERT_TRUE(engine.ok()) << engine.status();
      const std::unique_ptr<Session> session = (*engine)->NewSession();
      ASSERT_TRUE((*engine)->Forward(*session, Prompt(), 1, true).ok());
      ASSERT_TRUE((*engine)->Forward(*session, {3, 4, 5}, 2, false).ok());
      std::vector<float>& all = logits.emplace_back();
      for (uint32_t row = 0; row < 2; ++row) {
        const absl::Span<const float> values = (*engine)->logits(row);
        all.insert(all.end(), values.begin(), values.end());
      }
    }
    EXPECT_EQ(logits[0], logits[1]);
    EXPECT_EQ(logits[0], logits[2]);
  }
}

// The few that a sampler asks for are those that all of them have largest, on either device.
TEST(AcceleratorLogits, TheLargestComeAlone) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup on_cpu;
  for (EngineSetup setup : {on_cpu, Accelerated(0.5, 0.5, InPlace::kOn)}) {
    const auto all = OpenEngineWith(*model, setup);
    setup.engine.top_logits = 5;
    const auto some = OpenEngineWith(*model, setup);
    ASSERT_TRUE(all.ok() && some.ok()) << some.status();
    const auto all_session = (*all)->NewSession();
    const auto some_session = (*some)->NewSession();
    for (const std::vector<TokenId>& tokens : {Prompt(), std::vector<TokenId>{5}}) {
      ASSERT_TRUE((*all)->Forward(*all_session, tokens, 1, true).ok());
      ASSERT_TRUE((*some)->Forward(*some_session, tokens, 1, true).ok());
      std::vector<float> logits((*all)->logits(0).begin(), (*all)->logits(0).end());
      for (size_t i = 0; i < 5; ++i) {
        const TokenId best = ArgMax(logits);
        EXPECT_EQ((*some)->top_ids(0)[i], best);
        EXPECT_EQ((*some)->top_values(0)[i], logits[static_cast<size_t>(best)]);
        logits[static_cast<size_t>(best)] = -1e30f;
      }
    }
  }
}

TEST(AcceleratorSessions, TakeTurns) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  std::vector<std::vector<TokenId>> made;
  EngineSetup on_cpu;
  for (const EngineSetup& setup : {on_cpu, Accelerated(0.4, 0.4, InPlace::kOn)}) {
    const auto engine = OpenEngineWith(*model, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    const auto one = (*engine)->NewSession();
    const auto other = (*engine)->NewSession();
    std::vector<TokenId>& tokens = made.emplace_back();
    ASSERT_TRUE((*engine)->Forward(*one, Prompt(), 1, true).ok());
    tokens.push_back(ArgMax((*engine)->logits(0)));
    ASSERT_TRUE((*engine)->Forward(*other, {9, 8, 7}, 1, true).ok());
    tokens.push_back(ArgMax((*engine)->logits(0)));
    for (int i = 0; i < 6; ++i) {
      Session& session = i % 2 == 0 ? *one : *other;
      const TokenId token = tokens[tokens.size() - 2];
      ASSERT_TRUE((*engine)->Forward(session, {token}, 1, true).ok());
      tokens.push_back(ArgMax((*engine)->logits(0)));
    }
  }
  EXPECT_EQ(made[0], made[1]);
}

class AcceleratorAllocations : public testing::TestWithParam<double> {};

TEST_P(AcceleratorAllocations, NoneFromTheFirstTokenToTheLast) {
  if (!AllocationCount()) GTEST_SKIP() << "not with the sanitizer's operator new";
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup = Accelerated(GetParam(), 0.4, InPlace::kOn);
  setup.activations = ActivationFormat::kQ8;
  setup.engine.trace_records = 100000;
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const std::unique_ptr<Session> session = (*engine)->NewSession();
  // Loading the resident blocks pins memory piece by piece.
  ASSERT_TRUE((*engine)->Forward(*session, Prompt(), 1, true).ok());
  const uint64_t before = *AllocationCount();
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) {
    const TokenId next = ArgMax((*engine)->logits(0));
    status = (*engine)->Forward(*session, absl::MakeConstSpan(&next, 1), 1, true);
  }
  const uint64_t after = *AllocationCount();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(after - before, 0u);
}

INSTANTIATE_TEST_SUITE_P(Shares, AcceleratorAllocations, testing::Values(0.1, 0.5, 1.2));

TEST(AcceleratorEnds, AFailedReadIsAnErrorAndTheNextPassIsRight) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const std::vector<TokenId> expected = OnTheCpu(*model, ActivationFormat::kF32);
  uint32_t failed = 0;
  uint32_t right = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    EngineSetup setup = Accelerated(0.2, 0.3, seed % 2 == 0 ? InPlace::kOn : InPlace::kOff);
    setup.engine.faults = FaultOptions{.seed = seed, .eio_forever_share = 0.004};
    const auto engine = OpenEngineWith(*model, setup);
    if (!engine.ok()) continue;  // the norms could not be read
    for (int i = 0; i < 6; ++i) {
      const auto made = Greedy(**engine, Prompt(), kTokens);
      if (made.ok()) {
        EXPECT_EQ(*made, expected);
        ++right;
      } else {
        ++failed;
        EXPECT_NE(made.status().message().find("tiny.gguf"), std::string::npos) << made.status();
      }
    }
  }
  EXPECT_GT(failed, 0u);
  EXPECT_GT(right, 0u);
}

TEST(AcceleratorEnds, AReadThatIsStuckIsLeftBehind) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  for (const InPlace in_place : {InPlace::kOff, InPlace::kOn}) {
    EngineSetup setup = Accelerated(0.2, 0.3, in_place);
    setup.engine.reader = "threads";
    setup.engine.read_timeout_ns = 100'000'000;
    setup.engine.faults = FaultOptions{.stuck_at = 90};
    const auto engine = OpenEngineWith(*model, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    const absl::Status status = Greedy(**engine, Prompt(), 100).status();
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  }
}

TEST(AcceleratorEnds, ACancelledPassEndsAndAnotherFollows) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const std::vector<TokenId> expected = OnTheCpu(*model, ActivationFormat::kF32);
  for (const InPlace in_place : {InPlace::kOff, InPlace::kOn}) {
    std::atomic<bool> cancel{false};
    uint32_t steps = 0;
    bool armed = true;
    EngineSetup setup = Accelerated(0.1, 0.2, in_place);
    setup.engine.cancel = &cancel;
    setup.engine.on_progress = [&](const EngineProgress&) {
      if (armed && ++steps % 31 == 0) cancel = true;
    };
    const auto engine = OpenEngineWith(*model, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    for (int i = 0; i < 8; ++i) {
      cancel = false;
      const auto session = (*engine)->NewSession();
      const absl::Status status = (*engine)->Forward(*session, {1, 2, 3}, 1, true);
      EXPECT_TRUE(absl::IsCancelled(status)) << status;
    }
    armed = false;
    cancel = false;
    const auto made = Greedy(**engine, Prompt(), kTokens);
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ(*made, expected);
  }
}

TEST(AcceleratorBudgets, BelowTheFloorIsRefusedWithFiguresAndWhatToRaise) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  PlannerOptions planner;
  planner.accelerator = FastLink();
  planner.dram_bytes = 1 << 30;
  planner.hbm_bytes = 1 << 20;
  planner.context_tokens = 2048;
  planner.chunk_tokens = 64;
  const auto plan = PlanModel(*model, planner);
  ASSERT_FALSE(plan.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(plan.status())) << plan.status();
  for (const char* part : {"1.0 MiB", "KV pages", "--hbm", "tiny.gguf"}) {
    EXPECT_NE(plan.status().message().find(part), std::string::npos) << plan.status();
  }
}

TEST(AcceleratorLink, IsMeasuredThroughTheRunsOwnMemory) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  for (const double hbm : {0.2, 1.2}) {
    EngineSetup setup = Accelerated(hbm, 0.4, InPlace::kOff);
    setup.engine.accelerator.h2d_bytes_per_s = 100e6;
    setup.engine.accelerator.latency_ns = 1'000'000;
    const auto engine = OpenEngineWith(*model, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    const auto link = (*engine)->MeasureLink();
    ASSERT_TRUE(link.ok()) << link.status();
    EXPECT_LE(link->bytes_per_s, 101e6);
    EXPECT_GT(link->bytes_per_s, 10e6);
    EXPECT_GE(link->latency_ns, 1'000'000);
    const auto made = Greedy(**engine, Prompt(), kTokens);
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ(*made, OnTheCpu(*model, ActivationFormat::kF32));
  }
}

}  // namespace
}  // namespace weir
