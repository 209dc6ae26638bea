#include "tiering/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/tiering/synthetic_helper.h"

namespace weir {
namespace {

constexpr PassSpec kWithHead{.head = true};
constexpr PassSpec kNoHead{.head = false};

Plan PlanOfShare(const Program& program, double share) {
  return *MakePlanForResidentShare(program, share, SmallOverhead());
}

struct Speed {
  const char* name;
  double disk_bytes_per_s;
  double compute_bytes_per_s;
};

// Latency and step time are small beside a block's time, as they are for real.
SimHardware HardwareOf(const Speed& speed) {
  return {.disk_bytes_per_s = speed.disk_bytes_per_s,
          .disk_latency_ns = 50'000,
          .compute_bytes_per_s = speed.compute_bytes_per_s,
          .each_step_ns = 500};
}

// Time per pass, once the stream is full; what the trace says was busy meanwhile.
struct Steady {
  double pass_s;
  double disk_share;
  double compute_share;
};

Steady Measure(Rig* rig, uint32_t passes) {
  const PassSpec pass = kWithHead;
  for (uint32_t i = 0; i < 3; ++i) EXPECT_TRUE(rig->scheduler.RunPass(pass, pass).ok());
  const int64_t begin_ns = rig->machine.Now();
  for (uint32_t i = 0; i < passes; ++i) EXPECT_TRUE(rig->scheduler.RunPass(pass, pass).ok());
  const int64_t end_ns = rig->machine.Now();
  rig->scheduler.Drain();  // so that reads under way at the end are in the trace
  EXPECT_EQ(rig->machine.CheckIdle(), absl::OkStatus());
  EXPECT_EQ(rig->machine.stats().idle_disk_waits, 0u);
  const auto all = static_cast<double>(end_ns - begin_ns);
  return {
      .pass_s = all * 1e-9 / passes,
      .disk_share =
          static_cast<double>(BusyNs(rig->trace, Trace::Lane::kDisk, begin_ns, end_ns)) / all,
      .compute_share =
          static_cast<double>(BusyNs(rig->trace, Trace::Lane::kCompute, begin_ns, end_ns)) / all};
}

TEST(SchedulerTest, DiskBoundTimeIsThePredictedOneAndTheDiskNeverRests) {
  for (double share : {0.0, 0.1, 0.25, 0.5, 0.75, 0.9}) {
    const Speed speed{"disk", 1e9, 40e9};
    const Program program = UniformProgram({.layers = 16});
    PlanOptions options = SmallOverhead();
    options.ceilings = {speed.disk_bytes_per_s, speed.compute_bytes_per_s};
    const Plan plan = *MakePlanForResidentShare(program, share, options);
    ASSERT_EQ(plan.prediction.bottleneck, "disk");
    Rig rig(program, plan, HardwareOf(speed), {});
    const Steady steady = Measure(&rig, 40);
    EXPECT_GT(steady.disk_share, 0.99) << share;
    EXPECT_NEAR(steady.pass_s / plan.prediction.pass_s, 1.0, 0.1) << share;
    // Busy with bytes, not only with waiting for them.
    const double bytes_s = static_cast<double>(rig.machine.stats().disk_busy_ns) * 1e-9;
    const double all_s = static_cast<double>(rig.machine.Now()) * 1e-9;
    EXPECT_GT(bytes_s / all_s, 0.98) << share;
  }
}

// No read of a block and no step begins before the others have ended. Steps may be enqueued
// together, and rows are gathered together, before the first step.
void ExpectNothingOverlaps(const Trace& trace, const Program& program) {
  std::vector<Trace::Record> records;
  for (const Trace::Record& record : trace.records()) {
    const bool is_read = record.lane == Trace::Lane::kDisk;
    const bool is_rows = is_read && program.blocks[record.id].kind == BlockKind::kRows;
    if ((is_read && !is_rows) || record.lane == Trace::Lane::kCompute) records.push_back(record);
  }
  ASSERT_GT(records.size(), 10u);
  std::sort(records.begin(), records.end(),
            [](const auto& a, const auto& b) { return a.begin_ns < b.begin_ns; });
  for (size_t i = 1; i < records.size(); ++i) {
    const bool both_steps =
        records[i].lane == Trace::Lane::kCompute && records[i - 1].lane == Trace::Lane::kCompute;
    if (both_steps) continue;
    ASSERT_GE(records[i].begin_ns, records[i - 1].end_ns) << "record " << i;
  }
}

TEST(SchedulerTest, WithoutReadingAheadNothingOverlapsAndTimesAddUp) {
  for (const double share : {0.0, 0.5}) {
    for (const Speed& speed : {Speed{"disk", 1e9, 4e9}, Speed{"compute", 4e9, 1e9}}) {
      const Program program = UniformProgram({.layers = 8, .blocks_per_layer = 3});
      PlanOptions options = SmallOverhead();
      options.ceilings = {speed.disk_bytes_per_s, speed.compute_bytes_per_s};
      options.shape.reads_ahead = false;
      const Plan plan = *MakePlanForResidentShare(program, share, options);
      EXPECT_NEAR(plan.prediction.pass_s, plan.prediction.disk_s + plan.prediction.compute_s,
                  1e-12);
      Rig rig(program, plan, HardwareOf(speed), {});
      int64_t begin_ns = 0;
      for (int i = 0; i < 11; ++i) {
        if (i == 1) begin_ns = rig.machine.Now();  // what stays is there
        ASSERT_TRUE(rig.scheduler.RunPass(kWithHead, kWithHead).ok());
      }
      const double pass_s = static_cast<double>(rig.machine.Now() - begin_ns) * 1e-10;
      EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
      // The latency of each read, which nothing hides, comes on top.
      EXPECT_GT(pass_s, 0.999 * plan.prediction.pass_s) << share << speed.name;
      EXPECT_LT(pass_s, 1.25 * plan.prediction.pass_s) << share << speed.name;
      if (share == 0) ExpectNothingOverlaps(rig.trace, program);
    }
  }
}

TEST(SchedulerTest, ComputeBoundTimeIsThePredictedOneAndComputeNeverRests) {
  for (double share : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    const Speed speed{"compute", 20e9, 1e9};
    const Program program = UniformProgram({.layers = 16});
    PlanOptions options = SmallOverhead();
    options.ceilings = {speed.disk_bytes_per_s, speed.compute_bytes_per_s};
    const Plan plan = *MakePlanForResidentShare(program, share, options);
    ASSERT_EQ(plan.prediction.bottleneck, "compute");
    Rig rig(program, plan, HardwareOf(speed), {});
    const Steady steady = Measure(&rig, 40);
    EXPECT_GT(steady.compute_share, 0.99) << share;
    EXPECT_NEAR(steady.pass_s / plan.prediction.pass_s, 1.0, 0.1) << share;
  }
}

// At half residency, spread evenly, both links are near their ceilings when their times are equal.
TEST(SchedulerTest, BalancedLinksOverlap) {
  const Program program = UniformProgram({.layers = 16});
  PlanOptions options = SmallOverhead();
  options.ceilings = {1e9, 2e9};
  const Plan plan = *MakePlanForResidentShare(program, 0.5, options);
  Rig rig(program, plan, HardwareOf({"both", 1e9, 2e9}), {});
  const Steady steady = Measure(&rig, 40);
  EXPECT_NEAR(steady.pass_s / plan.prediction.pass_s, 1.0, 0.1);
}

TEST(SchedulerTest, TheStreamGoesOnWhileTheCallerIsBusy) {
  const Program program = UniformProgram({.layers = 4});
  Rig rig(program, PlanOfShare(program, 0.0), HardwareOf({"disk", 1e9, 40e9}), {});
  ASSERT_TRUE(rig.scheduler.RunPass(kWithHead, kWithHead).ok());
  const uint64_t before = rig.machine.stats().transfers;
  rig.machine.Elapse(1'000'000'000);
  const int64_t begin_ns = rig.machine.Now();
  ASSERT_TRUE(rig.scheduler.RunPass(kWithHead, std::nullopt).ok());
  const int64_t took_ns = rig.machine.Now() - begin_ns;
  const uint64_t reads = rig.machine.stats().transfers - before;
  // The slots were full when the pass began: that many blocks cost no time any more.
  const int64_t block_ns = (1 << 20) + 4096;
  const auto ahead = static_cast<int64_t>(rig.plan.slots);
  EXPECT_LT(took_ns, (static_cast<int64_t>(reads) - ahead + 2) * block_ns);
}

TEST(SchedulerTest, WithoutANextPassNothingIsReadAhead) {
  const Program program = UniformProgram({});
  for (double share : {0.0, 0.5, 1.0}) {
    Rig rig(program, PlanOfShare(program, share), {}, {});
    ASSERT_TRUE(rig.scheduler.RunPass(kNoHead, std::nullopt).ok());
    EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());         // without Drain
    EXPECT_EQ(rig.machine.stats().transfers, program.head_step);  // a block each, and the rows
    for (StepId step = program.head_step; step < program.steps.size(); ++step) {
      EXPECT_EQ(rig.machine.ReadsOf(program.steps[step].needs[0]), 0u);
    }
  }
}

TEST(SchedulerTest, ResidentBlocksAreReadOnceAndTotalsAreAsPlanned) {
  const Program program = UniformProgram({});
  for (double share : {0.0, 0.1, 0.25, 0.5, 0.75, 1.0}) {
    Rig rig(program, PlanOfShare(program, share), {}, {});
    constexpr uint32_t kPasses = 7;
    ASSERT_TRUE(rig.RunPasses(kPasses, kWithHead).ok());
    rig.scheduler.Drain();
    EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
    uint64_t resident_bytes = 0;
    uint64_t rows_bytes = 0;
    for (BlockId id = 0; id < program.blocks.size(); ++id) {
      const Block& block = program.blocks[id];
      const bool rows = block.kind == BlockKind::kRows;
      const bool resident = !rows && rig.plan.placements[id].home == Tier::kHost;
      EXPECT_EQ(rig.machine.ReadsOf(id), resident ? 1 : kPasses);
      EXPECT_EQ(rig.scheduler.IsResident(id), resident);
      if (rows) rows_bytes += ReadBytesOf(block);
      if (resident) resident_bytes += ReadBytesOf(block);
    }
    const uint64_t streamed_bytes = Summarise(program, rig.plan).streamed_read_bytes;
    const SchedulerStats& stats = rig.scheduler.stats();
    EXPECT_EQ(stats.transfer_bytes, resident_bytes + kPasses * (streamed_bytes + rows_bytes));
    EXPECT_EQ(stats.transfer_bytes, rig.machine.stats().transfer_bytes);
    EXPECT_EQ(stats.discarded, 0u);
    EXPECT_EQ(stats.passes, kPasses);
    EXPECT_EQ(stats.compute_ns + stats.disk_stall_ns, rig.machine.Now());
  }
}

// Every order of passes with and without head, each foreseen rightly, wrongly or not at all.
TEST(SchedulerTest, AnyPassMayFollowAny) {
  constexpr int kKinds = 6;  // of a pass and what it foresees
  constexpr int kLength = 4;
  constexpr int kOrders = kKinds * kKinds * kKinds * kKinds;
  const Program program =
      UniformProgram({.layers = 3, .blocks_per_layer = 2, .head_blocks = 3, .block_bytes = 8192});
  SimFaults late;
  late.late_share = 0.3;
  late.late_ns = 100'000;
  for (double share : {0.0, 0.6}) {
    const Plan plan = PlanOfShare(program, share);
    for (int order = 0; order < kOrders; ++order) {
      Rig rig(program, plan, {}, late);
      uint64_t used = 0;
      uint64_t steps = 0;
      for (int i = 0, digits = order; i < kLength; ++i, digits /= kKinds) {
        const PassSpec pass{.head = digits % 2 == 0};
        std::optional<PassSpec> next;
        if (digits / 2 % 3 != 2) next = PassSpec{.head = digits / 2 % 3 == 0};
        ASSERT_EQ(rig.scheduler.RunPass(pass, next), absl::OkStatus()) << order;
        steps += StepsOf(program, pass);
        used += StreamedUses(program, plan, pass) + 1;
      }
      rig.scheduler.Drain();
      ASSERT_EQ(rig.machine.CheckIdle(), absl::OkStatus()) << order;
      ASSERT_EQ(rig.machine.stats().steps, steps);
      uint64_t resident = 0;
      for (BlockId id = 0; id < program.blocks.size(); ++id)
        resident += rig.scheduler.IsResident(id);
      const SchedulerStats& stats = rig.scheduler.stats();
      ASSERT_EQ(stats.transfers, used + resident + stats.discarded) << order;
    }
  }
}

TEST(SchedulerTest, WhatWasReadAheadIsTakenOverByAnotherKindOfPass) {
  const Program program = UniformProgram({});
  Rig rig(program, PlanOfShare(program, 0.0), {}, {});
  ASSERT_TRUE(rig.scheduler.RunPass(kNoHead, kNoHead).ok());
  ASSERT_TRUE(rig.scheduler.RunPass(kWithHead, std::nullopt).ok());
  EXPECT_EQ(rig.scheduler.stats().discarded, 0u);
  for (BlockId id = 1; id < program.blocks.size(); ++id) {
    EXPECT_EQ(rig.machine.ReadsOf(id), id < program.head_step ? 2u : 1u);
  }
}

// A head is read ahead and a pass without one comes: its blocks leave the ring at once, those still
// under way when they arrive.
TEST(SchedulerTest, WhatAnUnforeseenPassDoesNotUseIsDropped) {
  const Program program =
      UniformProgram({.layers = 1, .blocks_per_layer = 1, .head_blocks = 4, .block_bytes = 65536});
  const Plan plan = PlanOfShare(program, 0.0);
  Rig under_way(program, plan, {}, {});
  ASSERT_TRUE(under_way.scheduler.RunPass(kNoHead, kWithHead).ok());
  ASSERT_TRUE(under_way.scheduler.RunPass(kNoHead, std::nullopt).ok());
  under_way.machine.Elapse(1'000'000'000);
  ASSERT_TRUE(under_way.scheduler.RunPass(kNoHead, std::nullopt).ok());
  EXPECT_EQ(under_way.scheduler.stats().discarded, 4u);

  SimHardware slow_compute;
  slow_compute.compute_bytes_per_s = 1e6;
  Rig arrived(program, plan, slow_compute, {});
  ASSERT_TRUE(arrived.scheduler.RunPass(kWithHead, kWithHead).ok());
  ASSERT_TRUE(arrived.scheduler.RunPass(kNoHead, std::nullopt).ok());
  EXPECT_GE(arrived.scheduler.stats().discarded, 3u);
}

// The same, but the head is wanted again before its reads have ended: they are not repeated.
TEST(SchedulerTest, AReadThatIsWantedAfterAllIsKept) {
  const Program program =
      UniformProgram({.layers = 1, .blocks_per_layer = 1, .head_blocks = 4, .block_bytes = 65536});
  uint64_t discarded = 0;
  SimFaults faults;
  faults.late_share = 0.9;
  faults.late_ns = 10'000'000;
  for (faults.seed = 0; faults.seed < 20; ++faults.seed) {
    Rig rig(program, PlanOfShare(program, 0.0), {}, faults);
    ASSERT_TRUE(rig.scheduler.RunPass(kNoHead, kWithHead).ok());
    ASSERT_TRUE(rig.scheduler.RunPass(kNoHead, kWithHead).ok());
    ASSERT_TRUE(rig.scheduler.RunPass(kWithHead, std::nullopt).ok());
    discarded += rig.scheduler.stats().discarded;
  }
  EXPECT_LT(discarded, 70u);  // of 80
}

TEST(SchedulerTest, APassWithoutStepsEndsAtOnce) {
  Program program = UniformProgram({.layers = 1, .blocks_per_layer = 1});
  program.head_step = 0;
  Rig rig(program, PlanOfShare(program, 0.0), {}, {});
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(rig.scheduler.RunPass(kNoHead, kNoHead).ok());
    EXPECT_TRUE(rig.scheduler.RunPass(kNoHead, kWithHead).ok());
    EXPECT_TRUE(rig.scheduler.RunPass(kWithHead, kNoHead).ok());
  }
  rig.scheduler.Drain();
  EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
  EXPECT_EQ(rig.machine.stats().steps, 3 * program.steps.size());
}

class CountingObserver final : public PassObserver {
 public:
  void OnStepsDone(uint32_t done, uint32_t total) override {
    calls.push_back(done);
    EXPECT_EQ(total, expected_total);
  }
  uint32_t expected_total = 0;
  std::vector<uint32_t> calls;
};

TEST(SchedulerTest, TheObserverSeesEveryStepOnce) {
  const Program program = UniformProgram({});
  const Plan plan = PlanOfShare(program, 0.5);
  SimMachine machine(program, plan, {}, {});
  CountingObserver observer;
  Scheduler scheduler(program, plan, machine, nullptr, &observer);
  observer.expected_total = program.head_step;
  ASSERT_TRUE(scheduler.RunPass(kNoHead, std::nullopt).ok());
  ASSERT_EQ(observer.calls.size(), program.head_step);
  for (uint32_t i = 0; i < observer.calls.size(); ++i) EXPECT_EQ(observer.calls[i], i + 1);
}

using SchedulerDeathTest = testing::Test;

TEST(SchedulerDeathTest, RefusesAProgramOrPlanAgainstTheContract) {
  const Program good = UniformProgram({});
  const auto build = [](const Program& program, const Plan& plan) {
    SimMachine machine(program, plan, {}, {});
    Scheduler scheduler(program, plan, machine, nullptr, nullptr);
  };
  const Plan plan = PlanOfShare(good, 0.5);
  build(good, plan);
  Program twice = good;
  twice.steps[3].needs = twice.steps[2].needs;
  EXPECT_DEATH(build(twice, plan), "check failed");
  Program late_rows = good;
  std::swap(late_rows.steps[0].needs, late_rows.steps[1].needs);
  EXPECT_DEATH(build(late_rows, plan), "check failed");
  Program unknown = good;
  unknown.steps[1].needs = {static_cast<BlockId>(good.blocks.size())};
  EXPECT_DEATH(build(unknown, plan), "check failed|AddressSanitizer");
  Plan small = plan;
  small.slots = 1;
  EXPECT_DEATH(build(good, small), "check failed");
}

}  // namespace
}  // namespace weir
