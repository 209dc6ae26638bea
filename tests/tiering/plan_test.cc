#include "tiering/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "io/base.h"
#include "tests/tiering/synthetic_helper.h"

namespace weir {
namespace {

using testing::HasSubstr;

uint64_t ArenaBytes(const Block& block) { return AlignUp(block.memory_bytes, 4096); }

uint64_t AllWeightBytes(const Program& program) {
  uint64_t total = 0;
  for (const Block& block : program.blocks) {
    if (block.kind == BlockKind::kWeights) total += ArenaBytes(block);
  }
  return total;
}

// How far the resident bytes of any run of blocks from the start are from their even share.
uint64_t WorstUnevenness(const Program& program, const Plan& plan) {
  const double share = Summarise(program, plan).resident_share();
  double wanted = 0;
  double resident = 0;
  double worst = 0;
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    if (program.blocks[i].kind != BlockKind::kWeights) continue;
    const auto bytes = static_cast<double>(program.blocks[i].payload_bytes);
    wanted += share * bytes;
    if (plan.placements[i].home == Tier::kHost) resident += bytes;
    worst = std::max(worst, std::abs(resident - wanted));
  }
  return static_cast<uint64_t>(worst);
}

TEST(PlanTest, ResidentShareIsMetAndSpreadEvenlyOverTheLayers) {
  const Program program = UniformProgram({.layers = 20, .blocks_per_layer = 4, .head_blocks = 0});
  for (double share : {0.0, 0.1, 0.25, 0.5, 0.75, 1.0}) {
    const Plan plan = *MakePlanForResidentShare(program, share, SmallOverhead());
    ASSERT_EQ(CheckPlanFits(program, plan, "plan"), absl::OkStatus());
    EXPECT_DOUBLE_EQ(Summarise(program, plan).resident_share(), share);
    std::vector<uint32_t> resident(20, 0);
    for (size_t i = 1; i < program.blocks.size(); ++i) {
      resident[(i - 1) / 4] += plan.placements[i].home == Tier::kHost ? 1 : 0;
    }
    const auto [least, most] = std::minmax_element(resident.begin(), resident.end());
    EXPECT_LE(*most - *least, 1u) << share;
    EXPECT_LE(WorstUnevenness(program, plan), uint64_t{1} << 20) << share;
    EXPECT_EQ(plan.dram_budget_bytes, plan.dram_bytes());
  }
}

TEST(PlanTest, ResidentShareOfUnequalBlocksIsWithinOneBlock) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Program program = RandomProgram(seed);
    uint64_t largest = 0;
    for (const Block& block : program.blocks) largest = std::max(largest, block.payload_bytes);
    for (double share : {0.0, 0.1, 0.25, 0.5, 0.75, 1.0}) {
      const Plan plan = *MakePlanForResidentShare(program, share, SmallOverhead());
      ASSERT_EQ(CheckPlanFits(program, plan, "plan"), absl::OkStatus()) << seed;
      const double all = static_cast<double>(program.payload_bytes());
      const auto resident = static_cast<double>(Summarise(program, plan).resident_payload_bytes);
      EXPECT_LE(resident, share * all + 0.5) << seed;
      EXPECT_GE(resident, share * all - static_cast<double>(largest) - 1) << seed;
      EXPECT_LE(WorstUnevenness(program, plan), 3 * largest) << seed << " " << share;
    }
  }
}

TEST(PlanTest, SharesOutOfRangeAreRefused) {
  const Program program = UniformProgram({});
  for (double share : {-0.01, 1.01, std::nan("")}) {
    EXPECT_EQ(MakePlanForResidentShare(program, share, SmallOverhead()).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(PlanTest, NoBudgetIsExceededAndMoreMemoryNeverKeepsMuchLess) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Program program = RandomProgram(seed);
    PlanOptions options = SmallOverhead();
    options.preferred_ring_bytes = (seed % 7) * 100'000;
    const uint64_t floor_bytes = FloorBytes(program, options);
    const uint64_t all_bytes = options.overhead.total() + AllWeightBytes(program);
    for (int i = 0; i <= 60; ++i) {
      const uint64_t budget = floor_bytes + (all_bytes + 8192 - floor_bytes) * i / 60;
      const absl::StatusOr<Plan> plan = MakePlan(program, budget, options);
      ASSERT_TRUE(plan.ok()) << plan.status();
      ASSERT_EQ(CheckPlanFits(program, *plan, "plan"), absl::OkStatus());
      ASSERT_LE(plan->dram_bytes(), budget);
      ASSERT_EQ(plan->dram_budget_bytes, budget);
      // Nothing that would still fit is left on disk.
      const uint64_t left = budget - plan->dram_bytes();
      for (size_t b = 0; b < program.blocks.size(); ++b) {
        if (program.blocks[b].kind != BlockKind::kWeights) continue;
        if (plan->placements[b].home == Tier::kDisk) {
          ASSERT_GT(ArenaBytes(program.blocks[b]), left);
        }
      }
      if (budget >= all_bytes) {
        EXPECT_EQ(Summarise(program, *plan).resident_share(), 1.0);
      }
    }
  }
}

TEST(PlanTest, EverythingResidentNeedsNoRing) {
  const Program program = UniformProgram({});
  const PlanOptions options = SmallOverhead();
  const uint64_t all_bytes = options.overhead.total() + AllWeightBytes(program);
  const Plan exact = *MakePlan(program, all_bytes, options);
  EXPECT_EQ(exact.slots, 0u);
  EXPECT_EQ(exact.dram_bytes(), all_bytes);
  EXPECT_EQ(Summarise(program, exact).streamed_payload_bytes, 0u);
  EXPECT_EQ(MakePlanForResidentShare(program, 1, options)->slots, 0u);
  // A byte less, and a ring is needed.
  EXPECT_GE(MakePlan(program, all_bytes - 1, options)->slots, 2u);
}

TEST(PlanTest, TheRingKeepsItsPreferredSizeOnceThereIsRoom) {
  const Program program = UniformProgram({.layers = 64});
  PlanOptions options = SmallOverhead();
  options.preferred_ring_bytes = 8 << 20;
  const uint64_t overhead = options.overhead.total();
  const uint64_t slot_bytes = (1 << 20) + 4096;
  const Plan tight = *MakePlan(program, overhead + 2 * slot_bytes, options);
  EXPECT_EQ(tight.slots, 2u);
  EXPECT_EQ(tight.slot_bytes, slot_bytes);
  EXPECT_EQ(tight.resident_arena_bytes, 0u);
  const Plan middle = *MakePlan(program, overhead + 8 * slot_bytes, options);
  EXPECT_EQ(middle.slots, 6u);  // three quarters for the ring while it is small
  const Plan roomy = *MakePlan(program, overhead + 100 * slot_bytes, options);
  EXPECT_EQ(roomy.slots, 7u);  // 8 MiB
  EXPECT_EQ(roomy.resident_arena_bytes, 93 * slot_bytes);
}

TEST(PlanTest, BelowTheFloorTheMessageNamesItAndItsParts) {
  const Program program = UniformProgram({});
  const PlanOptions options = SmallOverhead();
  const uint64_t floor_bytes = FloorBytes(program, options);
  EXPECT_EQ(floor_bytes, options.overhead.total() + 2 * ((1 << 20) + 4096));
  EXPECT_TRUE(MakePlan(program, floor_bytes, options).ok());
  const absl::Status status = MakePlan(program, floor_bytes - 1, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  const std::string message(status.message());
  for (const std::string& part :
       {FormatBytes(floor_bytes), FormatBytes(options.overhead.kv),
        FormatBytes(options.overhead.activations), FormatBytes(options.overhead.small_tensors),
        FormatBytes(options.overhead.rows), std::string("512 tokens"), std::string("--dram")}) {
    EXPECT_THAT(message, HasSubstr(part));
  }
  EXPECT_EQ(MakePlan(program, 0, options).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(PlanTest, AStepOfSeveralBlocksNeedsAsManySlotsAndOneMore) {
  Program program = UniformProgram({.layers = 4, .blocks_per_layer = 4, .head_blocks = 0});
  program.steps[1].needs = {1, 2, 3};
  program.steps.erase(program.steps.begin() + 2, program.steps.begin() + 4);
  program.head_step = static_cast<StepId>(program.steps.size());
  PlanOptions options = SmallOverhead();
  EXPECT_EQ(MakePlan(program, FloorBytes(program, options), options)->slots, 4u);
}

TEST(PlanTest, AProgramWithoutWeightsNeedsOnlyTheOverhead) {
  Program program;
  program.steps.push_back({.label = "nothing", .needs = {}, .payload_bytes = 0});
  const PlanOptions options = SmallOverhead();
  const Plan plan = *MakePlan(program, options.overhead.total(), options);
  EXPECT_EQ(plan.slots, 0u);
  EXPECT_EQ(Summarise(program, plan).resident_share(), 1.0);
}

TEST(PlanTest, ThePredictionCountsPaddingOnDiskAndWeightsInCompute) {
  const Program program = UniformProgram({.layers = 4, .blocks_per_layer = 1, .head_blocks = 0});
  PlanOptions options = SmallOverhead();
  options.ceilings = {.disk_bytes_per_s = 1e6, .compute_bytes_per_s = 1e7};
  const Plan plan = *MakePlanForResidentShare(program, 0.5, options);
  EXPECT_DOUBLE_EQ(plan.prediction.disk_s, 2 * ((1 << 20) + 4096) / 1e6);
  EXPECT_DOUBLE_EQ(plan.prediction.compute_s, 4 * (1 << 20) / 1e7);  // rows are not multiplied
}

TEST(ProgramTest, SumsLookAtWeightsOnly) {
  Program program = UniformProgram({.layers = 2, .blocks_per_layer = 2, .head_blocks = 1});
  EXPECT_EQ(program.payload_bytes(), 5u << 20);
  EXPECT_EQ(program.max_memory_bytes(), (1u << 20) + 4096);
  EXPECT_EQ(program.max_needs(), 1u);
  program.blocks[0].memory_bytes = uint64_t{1} << 40;
  EXPECT_EQ(program.max_memory_bytes(), (1u << 20) + 4096);
}

}  // namespace
}  // namespace weir
