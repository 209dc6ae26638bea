#include "engine/planner.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/base.h"
#include "tests/engine/engine_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

PlannerOptions WithBudget(uint64_t dram_bytes) {
  PlannerOptions options;
  options.dram_bytes = dram_bytes;
  return options;
}

TEST(Planner, NoBudgetIsExceededAndBelowTheFloorEachIsRefused) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  uint64_t least_planned = UINT64_MAX;
  double last_share = -1;
  for (uint64_t budget = 256 * kKiB; budget <= 16 * kMiB; budget += 96 * kKiB) {
    const auto made = PlanModel(*model, WithBudget(budget));
    if (made.ok()) {
      least_planned = std::min(least_planned, budget);
      EXPECT_LE(made->plan.dram_bytes(), budget);
      EXPECT_EQ(made->plan.dram_budget_bytes, budget);
      last_share = Summarise(made->transformer->program(), made->plan).resident_share();
      continue;
    }
    EXPECT_EQ(least_planned, UINT64_MAX) << "refused although less was enough: " << budget;
    EXPECT_TRUE(absl::IsResourceExhausted(made.status())) << made.status();
    const std::string message(made.status().message());
    EXPECT_THAT(message, HasSubstr("tiny.gguf"));
    EXPECT_THAT(message, HasSubstr("floor"));
    EXPECT_THAT(message, HasSubstr("KV"));
    EXPECT_THAT(message, HasSubstr("--dram"));
  }
  EXPECT_LT(least_planned, 4 * kMiB);
  EXPECT_EQ(last_share, 1.0);
}

TEST(Planner, HeadsThatCudaKernelsDoNotTakeAreRefusedForThem) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  model->config.value_columns = 512;
  PlannerOptions options = WithBudget(kGiB);
  options.hbm_bytes = kGiB;
  options.accelerator.kind = AcceleratorKind::kCuda;
  const auto made = PlanModel(*model, options);
  EXPECT_TRUE(absl::IsUnimplemented(made.status())) << made.status();
  EXPECT_THAT(std::string(made.status().message()), HasSubstr("tiny.gguf"));
  EXPECT_THAT(std::string(made.status().message()), HasSubstr("512 columns"));
}

TEST(Planner, KeysAndValuesOfEightBitsAreForTheCpu) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  PlannerOptions options = WithBudget(kGiB);
  const auto whole = PlanModel(*model, options);
  ASSERT_TRUE(whole.ok()) << whole.status();
  options.kv = {KvFormat::kQ8_0, KvFormat::kQ8_0};
  const auto half = PlanModel(*model, options);
  ASSERT_TRUE(half.ok()) << half.status();
  EXPECT_EQ(half->plan.shape.kv, options.kv);
  EXPECT_LT(half->plan.overhead.kv, whole->plan.overhead.kv * 6 / 10);
  options.hbm_bytes = kGiB;
  options.accelerator.kind = AcceleratorKind::kCuda;
  const auto cuda = PlanModel(*model, options);
  EXPECT_TRUE(absl::IsInvalidArgument(cuda.status())) << cuda.status();
  EXPECT_THAT(std::string(cuda.status().message()), HasSubstr("q8_0"));
}

TEST(Planner, ResidentShareIsReachedToWithinABlock) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  for (const double share : {0.0, 0.1, 0.25, 0.5, 0.75, 1.0}) {
    PlannerOptions options;
    options.resident_share = share;
    const auto made = PlanModel(*model, options);
    ASSERT_TRUE(made.ok()) << made.status();
    const Program& program = made->transformer->program();
    const double block = static_cast<double>(program.max_memory_bytes()) /
                         static_cast<double>(program.payload_bytes());
    EXPECT_NEAR(Summarise(program, made->plan).resident_share(), share, block);
    EXPECT_LE(made->plan.dram_bytes(), made->plan.dram_budget_bytes);
  }
}

// Large blocks are for those that are read once; what streams is cut for the disk.
TEST(Planner, BlocksAreWholeMatricesWhereAllStays) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const auto blocks_of = [&](const PlannerOptions& options) {
    const auto made = PlanModel(*model, options);
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? made->transformer->program().blocks.size() : 0;
  };
  PlannerOptions all, most;
  all.resident_share = 1.0;
  most.resident_share = 0.9;
  EXPECT_LT(blocks_of(all), blocks_of(most));
  EXPECT_EQ(blocks_of(WithBudget(kGiB)), blocks_of(all));
  // The weights fit, what else a run needs does not.
  const PlannerOptions scarce = WithBudget(model->index.tensor_bytes() + 64 * kKiB);
  EXPECT_EQ(blocks_of(scarce), blocks_of(most));
  PlannerOptions chosen = all;
  chosen.block_bytes = 128 * kKiB;
  EXPECT_EQ(blocks_of(chosen), blocks_of(most));
}

TEST(Planner, WhatTheUserAskedForIsKept) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  PlannerOptions options = WithBudget(64 * kMiB);
  options.context_tokens = 300;
  options.chunk_tokens = 7;
  options.logit_rows = 5;
  const auto made = PlanModel(*model, options);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->plan.shape.context_tokens, 300u);
  EXPECT_EQ(made->plan.shape.chunk_tokens, 7u);
  EXPECT_EQ(made->plan.shape.logit_rows, 5u);
  options.chunk_tokens = 5000;  // more than the context holds
  const auto wide = PlanModel(*model, options);
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_EQ(wide->plan.shape.chunk_tokens, 300u);
}

TEST(Planner, ContextIsCheckedAgainstPromptAndTraining) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  PlannerOptions options = WithBudget(64 * kMiB);
  options.context_tokens = model->config.context_length + 1;
  EXPECT_TRUE(absl::IsInvalidArgument(PlanModel(*model, options).status()));
  options.context_tokens = 100;
  options.min_context_tokens = 101;
  const absl::Status status = PlanModel(*model, options).status();
  EXPECT_TRUE(absl::IsOutOfRange(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("101"));
  options.min_context_tokens = 100;
  EXPECT_TRUE(PlanModel(*model, options).ok());
}

class SavedPlan : public testing::Test {
 protected:
  void SetUp() override {
    model_ = LoadTiny();
    ASSERT_NE(model_, nullptr);
    PlannerOptions options;
    options.resident_share = 0.5;
    options.context_tokens = 256;
    options.chunk_tokens = 16;
    absl::StatusOr<ModelPlan> made = PlanModel(*model_, options);
    ASSERT_TRUE(made.ok()) << made.status();
    plan_ = made->plan;
    saved_.saved_plan_json = PlanToJson(made->transformer->program(), made->plan);
    saved_.saved_plan_source = "half.json";
  }

  std::unique_ptr<Model> model_;
  Plan plan_;
  PlannerOptions saved_;
};

TEST_F(SavedPlan, ComesBackTheSame) {
  const auto loaded = PlanModel(*model_, saved_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->plan.fingerprint, plan_.fingerprint);
  EXPECT_EQ(loaded->plan.dram_bytes(), plan_.dram_bytes());
  EXPECT_EQ(loaded->plan.slots, plan_.slots);
  ASSERT_EQ(loaded->plan.placements.size(), plan_.placements.size());
  for (size_t i = 0; i < plan_.placements.size(); ++i) {
    EXPECT_EQ(loaded->plan.placements[i].home, plan_.placements[i].home);
    EXPECT_EQ(loaded->plan.placements[i].arena_offset_bytes,
              plan_.placements[i].arena_offset_bytes);
  }
}

TEST_F(SavedPlan, ForAnotherModelIsRefused) {
  SyntheticSpec spec;
  spec.layers = 2;
  const SyntheticFile file(spec);
  const auto other = LoadModel(file.path());
  ASSERT_TRUE(other.ok()) << other.status();
  const absl::Status status = PlanModel(**other, saved_).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("half.json"));
}

TEST_F(SavedPlan, WithTooSmallAContextIsRefused) {
  saved_.min_context_tokens = 257;
  const absl::Status status = PlanModel(*model_, saved_).status();
  EXPECT_TRUE(absl::IsOutOfRange(status)) << status;
}

TEST_F(SavedPlan, ThatThisRunWouldExceedIsRefused) {
  saved_.logit_rows = 4000;
  const absl::Status status = PlanModel(*model_, saved_).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("half.json"));
}

TEST_F(SavedPlan, ThatIsNoneIsRefused) {
  for (const char* text : {"{}", "[1, 2]", "not json", "{\"format\": \"weir plan\"}"}) {
    saved_.saved_plan_json = text;
    const absl::Status status = PlanModel(*model_, saved_).status();
    EXPECT_FALSE(status.ok()) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("half.json"));
  }
}

}  // namespace
}  // namespace weir
