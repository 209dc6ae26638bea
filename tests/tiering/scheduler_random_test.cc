// The scheduler on the simulated machine, over random programs, budgets, hardware, delays, errors
// and cancellations. The machine checks its contract at every call.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tests/tiering/synthetic_helper.h"
#include "tiering/scheduler.h"

namespace weir {
namespace {

constexpr PassSpec kWithHead{.head = true};

// From the floor to a little more than everything.
Plan RandomPlan(const Program& program, Dice* dice) {
  PlanOptions options = SmallOverhead();
  options.preferred_ring_bytes = dice->Between(1, 64) * 65536;
  if (dice->OneIn(4)) return *MakePlanForResidentShare(program, dice->Share(), options);
  const uint64_t floor_bytes = FloorBytes(program, options);
  uint64_t all_bytes = 1 << 16;
  for (const Block& block : program.blocks) all_bytes += block.memory_bytes;
  return *MakePlan(program, floor_bytes + dice->Below(all_bytes), options);
}

struct PassOrder {
  PassSpec pass;
  std::optional<PassSpec> next;
};

std::vector<PassOrder> RandomPasses(Dice* dice) {
  std::vector<PassOrder> order(dice->Between(1, 6));
  for (PassOrder& entry : order) {
    entry.pass.head = !dice->OneIn(3);
    if (!dice->OneIn(5)) entry.next = PassSpec{.head = !dice->OneIn(3)};
  }
  return order;
}

// Runs one random case to its end; its trace. Everything comes from the seed.
std::vector<Trace::Record> RunRandomCase(uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Dice dice(seed);
  const Program program = RandomProgram(seed);
  const Plan plan = RandomPlan(program, &dice);
  const SimHardware hardware = RandomHardware(&dice);
  Rig rig(program, plan, hardware, RandomDelays(&dice));
  uint64_t steps = 0;
  uint64_t used = 0;
  uint64_t rows = 0;
  for (const Block& block : program.blocks) rows += block.kind == BlockKind::kRows ? 1 : 0;
  for (const PassOrder& entry : RandomPasses(&dice)) {
    EXPECT_EQ(rig.scheduler.RunPass(entry.pass, entry.next), absl::OkStatus());
    EXPECT_EQ(rig.machine.violation(), absl::OkStatus());
    steps += StepsOf(program, entry.pass);
    used += StreamedUses(program, plan, entry.pass) + (StepsOf(program, entry.pass) > 0 ? rows : 0);
    if (dice.OneIn(2)) rig.machine.Elapse(static_cast<int64_t>(dice.Below(5'000'000)));
  }
  rig.scheduler.Drain();
  EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
  EXPECT_EQ(rig.machine.stats().steps, steps);
  EXPECT_LE(rig.machine.stats().peak_held_bytes, plan.dram_budget_bytes);
  uint64_t resident = 0;
  for (BlockId id = 0; id < program.blocks.size(); ++id) {
    if (rig.scheduler.IsResident(id)) {
      EXPECT_EQ(rig.machine.ReadsOf(id), 1u);
      ++resident;
    }
  }
  const SchedulerStats& stats = rig.scheduler.stats();
  EXPECT_EQ(stats.transfers, used + resident + stats.discarded);
  EXPECT_EQ(stats.transfer_bytes, rig.machine.stats().transfer_bytes);
  return rig.trace.records();
}

TEST(SchedulerRandomTest, CompletesWithinTheContractAndEqualSeedsGiveEqualTraces) {
  for (uint64_t seed = 0; seed < 600; ++seed) {
    const std::vector<Trace::Record> first = RunRandomCase(seed);
    if (seed % 4 == 0) {
      EXPECT_TRUE(first == RunRandomCase(seed)) << seed;
    }
    if (HasFailure()) return;
  }
}

TEST(SchedulerRandomTest, TheDiskNeverRestsWhileASlotIsFree) {
  for (uint64_t seed = 1000; seed < 1200; ++seed) {
    Dice dice(seed);
    const Program program = RandomProgram(seed);
    const Plan plan = RandomPlan(program, &dice);
    Rig rig(program, plan, RandomHardware(&dice), RandomDelays(&dice));
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(rig.scheduler.RunPass(kWithHead, kWithHead).ok());
    EXPECT_EQ(rig.machine.stats().idle_disk_waits, 0u) << "seed " << seed;
  }
}

// One run with a fault somewhere; the pass that it hits is run again. How many passes failed.
uint32_t RunWithFault(const Program& program, const Plan& plan, const SimFaults& faults,
                      absl::StatusCode expected, SimStats* stats) {
  SimHardware hardware;
  hardware.max_transfers = 6;
  Rig rig(program, plan, hardware, faults);
  uint32_t failed = 0;
  for (int i = 0; i < 3; ++i) {
    const PassSpec pass{.head = i > 0};
    const auto next = i < 2 ? std::optional<PassSpec>(kWithHead) : std::nullopt;
    absl::Status status = rig.scheduler.RunPass(pass, next);
    if (!status.ok()) {
      ++failed;
      EXPECT_EQ(status.code(), expected) << status;
      if (expected == absl::StatusCode::kDataLoss) {
        EXPECT_TRUE(absl::StrContains(status.message(), "failed at offset")) << status;
      }
      // Everything has ended, without Drain.
      EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
      EXPECT_EQ(rig.scheduler.RunPass(pass, next), absl::OkStatus());
    }
  }
  rig.scheduler.Drain();
  EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
  for (BlockId id = 0; id < program.blocks.size(); ++id) {
    if (plan.placements[id].home == Tier::kHost) {
      EXPECT_EQ(rig.machine.ReadsOf(id), 1u);
    }
  }
  if (stats != nullptr) *stats = rig.machine.stats();
  return failed;
}

class SchedulerFaultTest : public testing::TestWithParam<double> {
 protected:
  const Program program_ =
      UniformProgram({.layers = 4, .blocks_per_layer = 3, .head_blocks = 3, .block_bytes = 65536});
  const Plan plan_ = *MakePlanForResidentShare(program_, GetParam(), SmallOverhead());
};

TEST_P(SchedulerFaultTest, CancellationAtEveryEventEndsOnePassCleanly) {
  SimStats stats;
  ASSERT_EQ(RunWithFault(program_, plan_, {}, absl::StatusCode::kOk, &stats), 0u);
  ASSERT_GT(stats.events, 50u);
  for (uint64_t event = 0; event < stats.events; ++event) {
    SimFaults faults;
    faults.cancel_at_event = event;
    EXPECT_EQ(RunWithFault(program_, plan_, faults, absl::StatusCode::kCancelled, nullptr), 1u)
        << "event " << event;
  }
}

TEST_P(SchedulerFaultTest, AFailedReadOfAnyBlockIsNamedAndALaterPassWorks) {
  SimStats stats;
  ASSERT_EQ(RunWithFault(program_, plan_, {}, absl::StatusCode::kOk, &stats), 0u);
  for (uint64_t transfer = 0; transfer < stats.transfers; ++transfer) {
    SimFaults faults;
    faults.eio_at = transfer;
    faults.late_share = 0.3;
    faults.late_ns = 300'000;
    EXPECT_EQ(RunWithFault(program_, plan_, faults, absl::StatusCode::kDataLoss, nullptr), 1u)
        << "transfer " << transfer;
  }
}

INSTANTIATE_TEST_SUITE_P(Shares, SchedulerFaultTest, testing::Values(0.0, 0.5, 1.0));

TEST(SchedulerRandomTest, ManyErrorsAndCancellationsNeverBreakTheContract) {
  uint32_t failed = 0;
  for (uint64_t seed = 5000; seed < 5300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Dice dice(seed);
    const Program program = RandomProgram(seed);
    const Plan plan = RandomPlan(program, &dice);
    const SimHardware hardware = RandomHardware(&dice);
    SimFaults faults = RandomDelays(&dice);
    faults.eio_forever_share = 0.02;
    if (dice.OneIn(2)) faults.cancel_at_event = dice.Below(100);
    Rig rig(program, plan, hardware, faults);
    for (int i = 0; i < 8; ++i) {
      const std::optional<PassSpec> next =
          dice.OneIn(4) ? std::nullopt : std::optional<PassSpec>(PassSpec{!dice.OneIn(3)});
      const absl::Status status = rig.scheduler.RunPass({.head = !dice.OneIn(3)}, next);
      failed += status.ok() ? 0 : 1;
      if (!status.ok()) {
        ASSERT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
      }
    }
    rig.scheduler.Drain();
    ASSERT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
  }
  EXPECT_GT(failed, 300u);
}

// A read for a pass that did not come may fail: nobody wants it.
TEST(SchedulerRandomTest, AFailedReadThatNobodyWantsIsNoError) {
  const Program program =
      UniformProgram({.layers = 1, .blocks_per_layer = 1, .head_blocks = 4, .block_bytes = 65536});
  const Plan plan = *MakePlanForResidentShare(program, 0.0, SmallOverhead());
  // Pass 1: the rows and the block, then 5 blocks ahead; pass 2 wants only the first of these.
  SimFaults faults;
  faults.eio_at = 5;
  faults.spike_share = 0;
  Rig rig(program, plan, {}, faults);
  ASSERT_TRUE(rig.scheduler.RunPass({.head = false}, kWithHead).ok());
  ASSERT_EQ(rig.scheduler.RunPass({.head = false}, std::nullopt), absl::OkStatus());
  rig.scheduler.Drain();
  EXPECT_EQ(rig.machine.stats().failed_transfers, 1u);
  EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
}

}  // namespace
}  // namespace weir
