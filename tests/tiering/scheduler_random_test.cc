// The scheduler on the simulated machine, over random programs, budgets, hardware, delays, errors
// and cancellations. The machine checks its contract at every call.
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "tests/tiering/random_run_helper.h"
#include "tests/tiering/synthetic_helper.h"
#include "tiering/scheduler.h"

namespace weir {
namespace {

constexpr PassSpec kWithHead{.head = true};

// One stretch of lives for each case, so that a failure is found again quickly.
class RandomLivesTest : public testing::TestWithParam<std::tuple<bool, uint64_t>> {};

// 10,000 lives without an accelerator and as many with one: no hang, no invariant broken, every
// pass complete or ended by the error that was injected.
TEST_P(RandomLivesTest, KeepEveryInvariant) {
  constexpr uint64_t kLives = 1000;
  const auto [accelerated, stretch] = GetParam();
  const MakeScheduler make = Maker<Scheduler, PassSpec>();
  RandomLife sum;
  for (uint64_t seed = stretch * kLives; seed < (stretch + 1) * kLives; ++seed) {
    const RandomLife life = LiveRandomly(seed, make, accelerated);
    ASSERT_EQ(life.problem, "") << "seed " << seed;
    if (seed % 16 == 0) {
      ASSERT_EQ(life.trace_hash, LiveRandomly(seed, make, accelerated).trace_hash)
          << "seed " << seed;
    }
    sum.passes += life.passes;
    sum.io_errors += life.io_errors;
    sum.deadlines += life.deadlines;
    sum.cancellations += life.cancellations;
    sum.stats.copies += life.stats.copies;
    sum.stats.host_steps += life.stats.host_steps;
    sum.stats.unused_copies += life.stats.unused_copies;
    sum.stats.faults.stuck_reads += life.stats.faults.stuck_reads;
    sum.stats.faults.eio_errors += life.stats.faults.eio_errors;
    sum.stats.faults.short_attempts += life.stats.faults.short_attempts;
  }
  // They did meet what they were meant to.
  EXPECT_GT(sum.passes, 2 * kLives);
  EXPECT_GT(sum.io_errors, kLives / 50);
  EXPECT_GT(sum.deadlines, kLives / 50);
  EXPECT_GT(sum.cancellations, kLives / 10);
  EXPECT_GT(sum.stats.faults.eio_errors, kLives / 10);
  EXPECT_GT(sum.stats.faults.short_attempts, kLives);
  if (!accelerated) return;
  EXPECT_GT(sum.stats.copies, 10 * kLives);
  EXPECT_GT(sum.stats.host_steps, 5 * kLives);
  EXPECT_GT(sum.stats.unused_copies, kLives / 4);
}

INSTANTIATE_TEST_SUITE_P(Stretches, RandomLivesTest,
                         testing::Combine(testing::Bool(), testing::Range<uint64_t>(0, 10)));

TEST(SchedulerRandomTest, TheDiskNeverRestsWhileASlotIsFree) {
  for (uint64_t seed = 1000; seed < 1200; ++seed) {
    Dice dice(seed);
    const Program program = RandomProgram(seed);
    const Plan plan = RandomPlan(program, &dice);
    const SimHardware hardware = RandomHardware(&dice);
    // A ring that holds all there is to read may wait for a block that others of its group
    // overtook.
    if (StreamedUses(program, plan, kWithHead) <= plan.slots) continue;
    Rig rig(program, plan, hardware, RandomDelays(&dice));
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
