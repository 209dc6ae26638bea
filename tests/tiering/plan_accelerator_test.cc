// Plans for three tiers: homes, budgets, the CPU's share, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "io/base.h"
#include "tests/tiering/accelerator_helper.h"
#include "tests/tiering/synthetic_helper.h"
#include "tiering/plan_layout.h"

namespace weir {
namespace {

using testing::HasSubstr;

constexpr uint64_t kMiBytes = 1 << 20;
constexpr uint64_t kBlock = kMiBytes + 4096;  // in an arena or a slot

Ceilings CeilingsOf(double disk, double link, double cpu, double accelerator) {
  Ceilings ceilings;
  ceilings.disk_bytes_per_s = disk;
  ceilings.link_bytes_per_s = link;
  ceilings.link_latency_ns = 10'000;
  ceilings.host_compute_bytes_per_s = cpu;
  ceilings.compute_bytes_per_s = accelerator;
  return ceilings;
}

class PlanAcceleratorTest : public testing::Test {
 protected:
  PlanAcceleratorTest() {
    options_.preferred_ring_bytes = 6 * kBlock;
    options_.preferred_device_ring_bytes = 4 * kBlock;
  }
  // Budgets of so many blocks beside the overhead.
  Plan PlanOf(uint64_t dram_blocks, uint64_t hbm_blocks) const {
    Plan plan =
        *MakeAcceleratorPlan(program_, options_.overhead.total() + dram_blocks * kBlock,
                             options_.device_overhead.total() + hbm_blocks * kBlock, options_);
    EXPECT_EQ(CheckPlanFits(program_, plan, "plan"), absl::OkStatus());
    return plan;
  }
  uint32_t Count(const Plan& plan, Tier home) const {
    return static_cast<uint32_t>(WeightBlocks(program_, [&](BlockId id) {
                                   return plan.placements[id].home == home;
                                 }).size());
  }

  const Program program_ = GroupedProgram(/*layers=*/11, kMiBytes);  // 96 blocks
  PlanOptions options_ = SmallAcceleratorOptions();
};

TEST_F(PlanAcceleratorTest, WhatFitsLivesOnTheAcceleratorAndTheHostOnlyLoads) {
  const Plan plan = PlanOf(6, 96);
  EXPECT_EQ(Count(plan, Tier::kDevice), 96u);
  EXPECT_EQ(plan.accelerator->slots, 0u);
  EXPECT_EQ(plan.accelerator->arena_bytes, 96 * kBlock);
  EXPECT_EQ(plan.accelerator->hbm_bytes(), plan.accelerator->hbm_budget_bytes);
  EXPECT_EQ(plan.slots, 6u);
  EXPECT_EQ(plan.resident_arena_bytes, 0u);
  const PlanSummary summary = Summarise(program_, plan);
  EXPECT_EQ(summary.device_payload_bytes, 96 * kMiBytes);
  EXPECT_EQ(summary.resident_share(), 1.0);
  EXPECT_EQ(summary.copied_bytes, 0u);
  // A block's room less, and a ring takes its place.
  const Plan tight = PlanOf(100, 95);
  EXPECT_EQ(tight.accelerator->slots, 4u);
  EXPECT_EQ(Count(tight, Tier::kDevice), 91u);
}

TEST_F(PlanAcceleratorTest, ThenTheHostArenaThenTheDiskEachSpreadEvenly) {
  options_.in_place = InPlace::kOff;
  const Plan plan = PlanOf(6 + 32, 4 + 32);
  EXPECT_EQ(Count(plan, Tier::kDevice), 32u);
  EXPECT_EQ(Count(plan, Tier::kHost), 32u);
  EXPECT_EQ(Count(plan, Tier::kDisk), 32u);
  EXPECT_EQ(plan.slots, 6u);
  EXPECT_EQ(plan.accelerator->slots, 4u);
  const PlanSummary summary = Summarise(program_, plan);
  EXPECT_EQ(summary.device_payload_bytes, 32 * kMiBytes);
  EXPECT_EQ(summary.resident_payload_bytes, 64 * kMiBytes);
  EXPECT_EQ(summary.streamed_payload_bytes, 32 * kMiBytes);
  EXPECT_EQ(summary.copied_payload_bytes, 64 * kMiBytes);
  EXPECT_EQ(summary.copied_bytes, 64 * kBlock);
  // In any run of twelve blocks each home has its third.
  for (BlockId begin = 1; begin + 12 <= program_.blocks.size(); ++begin) {
    std::vector<int> homes(3, 0);
    for (BlockId id = begin; id < begin + 12; ++id) {
      ++homes[static_cast<size_t>(plan.placements[id].home)];
    }
    for (int count : homes) EXPECT_NEAR(count, 4, 1) << begin;
  }
}

// A ring that only loads is needed once; it may not push blocks out that stream ever after.
TEST_F(PlanAcceleratorTest, ALoadingRingGivesWayToBlocksThatStay) {
  const Plan roomy = PlanOf(64 + 6, 4 + 32);
  EXPECT_EQ(Count(roomy, Tier::kHost), 64u);
  EXPECT_EQ(roomy.slots, 6u);
  const Plan tight = PlanOf(64 + 3, 4 + 32);
  EXPECT_EQ(Count(tight, Tier::kHost), 64u);
  EXPECT_EQ(tight.slots, 3u);
  const Plan least = PlanOf(64 + 2, 4 + 32);
  EXPECT_EQ(Count(least, Tier::kHost), 64u);
  EXPECT_EQ(least.slots, 2u);
  const Plan streams = PlanOf(64 + 1, 4 + 32);
  EXPECT_EQ(streams.slots, 6u);
  EXPECT_EQ(Count(streams, Tier::kHost), 59u);
}

TEST_F(PlanAcceleratorTest, WithoutAnyBlockOnTheAcceleratorTheHostNeedsNoRing) {
  const Plan plan = PlanOf(96, 2);
  EXPECT_EQ(Count(plan, Tier::kHost), 96u);
  EXPECT_EQ(plan.slots, 0u);
  EXPECT_EQ(plan.accelerator->slots, 2u);
}

TEST_F(PlanAcceleratorTest, InPlaceOffAndOn) {
  options_.in_place = InPlace::kOff;
  EXPECT_EQ(Summarise(program_, PlanOf(6 + 32, 4 + 32)).in_place_payload_bytes, 0u);
  options_.in_place = InPlace::kOn;
  const Plan plan = PlanOf(6 + 32, 4 + 32);
  EXPECT_EQ(Summarise(program_, plan).in_place_payload_bytes, 32 * kMiBytes);
  for (BlockId id = 1; id < program_.blocks.size(); ++id) {
    EXPECT_EQ(plan.placements[id].compute_device == ComputeDevice::kCpu,
              plan.placements[id].home == Tier::kHost);
  }
}

TEST_F(PlanAcceleratorTest, WithoutCeilingsNothingIsMultipliedInPlace) {
  EXPECT_EQ(Summarise(program_, PlanOf(96 + 6, 4)).in_place_payload_bytes, 0u);
}

// With the whole model on the host and a link as fast as the CPU, half is best: both legs then take
// the same time. A CPU three times as fast takes three quarters.
TEST_F(PlanAcceleratorTest, AutoBalancesTheLinkAndTheCpu) {
  struct Case {
    double link;
    double cpu;
    double share;
  };
  for (const Case& c : {Case{10e9, 10e9, 0.5}, Case{10e9, 30e9, 0.75}, Case{30e9, 10e9, 0.25},
                        Case{100e9, 1e9, 0.0}, Case{1e9, 100e9, 1.0}}) {
    options_.ceilings = CeilingsOf(5e9, c.link, c.cpu, 1000e9);
    const Plan plan = PlanOf(96 + 6, 4);
    const double share = static_cast<double>(Summarise(program_, plan).in_place_payload_bytes) /
                         static_cast<double>(program_.payload_bytes());
    EXPECT_NEAR(share, c.share, 0.13) << c.link << " " << c.cpu;
    // No other setting is predicted to be shorter.
    for (InPlace other : {InPlace::kOff, InPlace::kOn}) {
      PlanOptions options = options_;
      options.in_place = other;
      const Plan fixed = *MakeAcceleratorPlan(program_, plan.dram_budget_bytes,
                                              plan.accelerator->hbm_budget_bytes, options);
      EXPECT_LE(plan.prediction.pass_s, fixed.prediction.pass_s * 1.0001);
    }
  }
}

TEST_F(PlanAcceleratorTest, BelowAFloorTheMessageNamesItItsPartsAndTheOption) {
  const uint64_t dram_floor = AcceleratorDramFloorBytes(program_, options_);
  const uint64_t hbm_floor = HbmFloorBytes(program_, options_);
  EXPECT_EQ(dram_floor, options_.overhead.total() + 2 * kBlock);
  EXPECT_EQ(hbm_floor, options_.device_overhead.total() + 2 * kBlock);
  EXPECT_TRUE(MakeAcceleratorPlan(program_, dram_floor, hbm_floor, options_).ok());
  const absl::Status dram =
      MakeAcceleratorPlan(program_, dram_floor - 1, hbm_floor, options_).status();
  EXPECT_EQ(dram.code(), absl::StatusCode::kResourceExhausted);
  for (const std::string& part : {FormatBytes(dram_floor), FormatBytes(options_.overhead.kv),
                                  std::string("--dram"), std::string("512 tokens")}) {
    EXPECT_THAT(std::string(dram.message()), HasSubstr(part));
  }
  const absl::Status hbm =
      MakeAcceleratorPlan(program_, dram_floor, hbm_floor - 1, options_).status();
  EXPECT_EQ(hbm.code(), absl::StatusCode::kResourceExhausted);
  const DeviceOverheadBytes& overhead = options_.device_overhead;
  for (const std::string& part :
       {FormatBytes(hbm_floor), FormatBytes(overhead.kv), FormatBytes(overhead.activations),
        FormatBytes(overhead.small_tensors), FormatBytes(overhead.inputs),
        FormatBytes(overhead.scratch), std::string("--hbm")}) {
    EXPECT_THAT(std::string(hbm.message()), HasSubstr(part));
  }
  EXPECT_FALSE(MakeAcceleratorPlan(program_, 0, 0, options_).ok());
}

TEST_F(PlanAcceleratorTest, StepsRunWhereTheirBlocksSay) {
  options_.in_place = InPlace::kOn;
  const Plan plan = PlanOf(6 + 32, 4 + 32);
  EXPECT_EQ(StepDevice(program_, plan, 0, false), ComputeDevice::kAccelerator);  // rows only
  for (StepId step = 1; step < program_.steps.size(); ++step) {
    const Placement& placement = plan.placements[program_.steps[step].needs[0]];
    EXPECT_EQ(StepDevice(program_, plan, step, false), placement.compute_device);
    EXPECT_EQ(StepDevice(program_, plan, step, true), ComputeDevice::kAccelerator);
  }
  const Plan without = *MakePlanForResidentShare(program_, 0.5, SmallOverhead());
  EXPECT_EQ(StepDevice(program_, without, 1, true), ComputeDevice::kCpu);
}

TEST(PlanAcceleratorRandomTest, NoBudgetIsExceededAndMoreMemoryIsUsed) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Program program = RandomProgram(seed);
    PlanOptions options = SmallAcceleratorOptions();
    options.preferred_ring_bytes = (seed % 7) * 100'000;
    options.preferred_device_ring_bytes = (seed % 5) * 100'000;
    options.in_place = static_cast<InPlace>(seed % 3);
    const uint64_t dram_floor = AcceleratorDramFloorBytes(program, options);
    const uint64_t hbm_floor = HbmFloorBytes(program, options);
    const uint64_t all = WeightArenaBytes(program);
    for (uint64_t i = 0; i < 36; ++i) {
      const uint64_t dram = dram_floor + all * (i % 6) / 5;
      const uint64_t hbm = hbm_floor + all * (i / 6) / 5;
      const absl::StatusOr<Plan> plan = MakeAcceleratorPlan(program, dram, hbm, options);
      ASSERT_TRUE(plan.ok()) << plan.status();
      ASSERT_EQ(CheckPlanFits(program, *plan, "plan"), absl::OkStatus());
      ASSERT_LE(plan->dram_bytes(), dram);
      ASSERT_LE(plan->accelerator->hbm_bytes(), hbm);
      for (BlockId id = 0; id < program.blocks.size(); ++id) {
        // Nothing that would still fit is kept further away.
        const uint64_t bytes = ArenaBytes(program.blocks[id]);
        if (bytes == 0) continue;
        if (plan->placements[id].home != Tier::kDevice) {
          ASSERT_GT(bytes + plan->accelerator->hbm_bytes(), hbm);
        }
        if (plan->placements[id].home == Tier::kDisk) {
          ASSERT_GT(bytes + plan->dram_bytes(), dram);
        }
      }
      if (hbm >= all + options.device_overhead.total()) {
        ASSERT_EQ(Summarise(program, *plan).device_payload_bytes, program.payload_bytes());
      }
    }
  }
}

TEST(PlanAcceleratorRandomTest, WhatDoesNotFitTogetherIsRefused) {
  const Program program = GroupedProgram(2, 65536);
  const Plan good = PlanOfShares(program, {.device = 0.3, .host = 0.5, .cpu = 0.5});
  ASSERT_EQ(CheckPlanFits(program, good, "p"), absl::OkStatus());
  const auto first = [&](Tier home) {
    return WeightBlocks(program, [&](BlockId id) { return good.placements[id].home == home; })[0];
  };
  const auto refused = [&](const char* part, auto change) {
    Plan plan = good;
    change(&plan);
    const absl::Status status = CheckPlanFits(program, plan, "p");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << part;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  };
  refused("cannot reach", [&](Plan* plan) {
    plan->placements[first(Tier::kDevice)].compute_device = ComputeDevice::kCpu;
  });
  refused("the plan has none", [](Plan* plan) { plan->accelerator.reset(); });
  refused("device arena", [](Plan* plan) { plan->accelerator->arena_bytes += 4096; });
  refused("device arena",
          [&](Plan* plan) { plan->placements[first(Tier::kDevice)].arena_offset_bytes = 4096; });
  refused("device ring", [](Plan* plan) { plan->accelerator->slots = 1; });
  refused("device ring", [](Plan* plan) { plan->accelerator->slot_bytes -= 4096; });
  refused("ring", [](Plan* plan) { plan->slots = 1; });
  refused("accelerator's memory", [](Plan* plan) { --plan->accelerator->hbm_budget_bytes; });
  refused("DRAM", [](Plan* plan) { --plan->dram_budget_bytes; });
  refused("gathered anew",
          [](Plan* plan) { plan->placements[0].compute_device = ComputeDevice::kAccelerator; });
  Program joined = program;  // two blocks of different devices in one step
  const BlockId on_cpu = WeightBlocks(program, [&](BlockId id) {
    return good.placements[id].compute_device == ComputeDevice::kCpu;
  })[0];
  joined.steps[first(Tier::kDevice)].needs.push_back(on_cpu);
  joined.steps[on_cpu].needs.clear();
  EXPECT_THAT(std::string(CheckPlanFits(joined, good, "p").message()), HasSubstr("its step"));
}

}  // namespace
}  // namespace weir
