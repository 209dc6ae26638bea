// The scheduler with an accelerator: what is copied when, what overlaps, what a wrong guess costs.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/tiering/accelerator_helper.h"
#include "tests/tiering/synthetic_helper.h"
#include "tiering/scheduler.h"

namespace weir {
namespace {

constexpr PassSpec kDecode{.head = true};
constexpr PassSpec kPrompt{.head = false, .wide = true};
constexpr PassSpec kWideWithHead{.head = true, .wide = true};
constexpr uint64_t kMiBytes = 1 << 20;

// A link of 25 GB/s and a fast accelerator; the disk and the CPU are what a case is about.
SimHardware HardwareOf(double disk_bytes_per_s, double cpu_bytes_per_s) {
  SimHardware hardware;
  hardware.disk_bytes_per_s = disk_bytes_per_s;
  hardware.disk_latency_ns = 50'000;
  hardware.rows_latency_ns = 0;
  hardware.compute_bytes_per_s = 500e9;
  hardware.host_compute_bytes_per_s = cpu_bytes_per_s;
  hardware.each_step_ns = 500;
  hardware.link_bytes_per_s = 25e9;
  hardware.link_latency_ns = 5'000;
  hardware.max_steps = 32;
  return hardware;
}

// What passed while the streams were full.
struct Steady {
  double pass_s;
  double disk_share;
  double link_share;
  double accelerator_share;
  double cpu_share;
};

Steady Measure(Rig* rig, uint32_t passes) {
  for (uint32_t i = 0; i < 3; ++i) EXPECT_TRUE(rig->scheduler.RunPass(kDecode, kDecode).ok());
  const int64_t begin_ns = rig->machine.Now();
  for (uint32_t i = 0; i < passes; ++i) EXPECT_TRUE(rig->scheduler.RunPass(kDecode, kDecode).ok());
  const int64_t end_ns = rig->machine.Now();
  rig->scheduler.Drain();
  EXPECT_EQ(rig->machine.CheckIdle(), absl::OkStatus());
  const auto all = static_cast<double>(end_ns - begin_ns);
  const auto share = [&](Trace::Lane lane) {
    return static_cast<double>(BusyNs(rig->trace, lane, begin_ns, end_ns)) / all;
  };
  return {.pass_s = all * 1e-9 / passes,
          .disk_share = share(Trace::Lane::kDisk),
          .link_share = share(Trace::Lane::kCopy),
          .accelerator_share = share(Trace::Lane::kAccelerator),
          .cpu_share = share(Trace::Lane::kCompute)};
}

class SchedulerAcceleratorTest : public testing::Test {
 protected:
  const Program program_ = GroupedProgram(/*layers=*/8, kMiBytes);  // 72 blocks
};

TEST_F(SchedulerAcceleratorTest, OnceLoadedAResidentModelMovesNothing) {
  const Plan plan = PlanOfShares(program_, {.device = 1, .slots = 4});
  Rig rig(program_, plan, HardwareOf(2e9, 10e9), {});
  ASSERT_TRUE(rig.RunPasses(5, kDecode).ok());
  rig.scheduler.Drain();
  EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
  for (BlockId id = 1; id < program_.blocks.size(); ++id) {
    EXPECT_EQ(rig.machine.ReadsOf(id), 1u);
    EXPECT_EQ(rig.machine.CopiesOf(id), 1u);
    EXPECT_TRUE(rig.scheduler.IsResident(id));
  }
  const SchedulerStats& stats = rig.scheduler.stats();
  EXPECT_EQ(stats.copies, 72u);
  EXPECT_EQ(stats.copy_bytes, 72 * (kMiBytes + 4096));
  EXPECT_EQ(stats.devices[1].steps, 5 * program_.steps.size());
  EXPECT_EQ(stats.devices[0].steps, 0u);
  EXPECT_EQ(stats.compute_ns + stats.disk_stall_ns + stats.copy_stall_ns, rig.machine.Now());
}

// No gap at the ends of passes: the link is busy all the time, over all of them.
TEST_F(SchedulerAcceleratorTest, ALinkThatBoundsNeverRests) {
  for (double device_share : {0.0, 0.5, 0.8}) {
    for (uint32_t device_slots : {3u, 8u}) {
      const Plan plan =
          PlanOfShares(program_, {.device = device_share, .host = 1, .device_slots = device_slots});
      Rig rig(program_, plan, HardwareOf(2e9, 10e9), {});
      const Steady steady = Measure(&rig, 20);
      EXPECT_GT(steady.link_share, 0.99) << device_share;
      const double copied_s = static_cast<double>(Summarise(program_, plan).copied_bytes) / 25e9;
      EXPECT_NEAR(steady.pass_s / copied_s, 1.0, 0.02) << device_share;
      EXPECT_EQ(steady.cpu_share, 0);
    }
  }
}

TEST_F(SchedulerAcceleratorTest, ADiskThatBoundsNeverRests) {
  for (double host_share : {0.0, 0.5}) {
    for (double cpu_share : {0.0, 1.0}) {
      const Plan plan =
          PlanOfShares(program_, {.device = 0.3, .host = host_share, .cpu = cpu_share});
      Rig rig(program_, plan, HardwareOf(2e9, 40e9), {});
      const Steady steady = Measure(&rig, 20);
      EXPECT_GT(steady.disk_share, 0.99) << host_share << " " << cpu_share;
      const double read_s =
          static_cast<double>(Summarise(program_, plan).streamed_read_bytes) / 2e9;
      EXPECT_NEAR(steady.pass_s / read_s, 1.0, 0.02);
    }
  }
}

// As many bytes to the CPU as its rate is to the link's: all legs work at once.
TEST_F(SchedulerAcceleratorTest, TheLinkAndTheCpuWorkAtTheSameTime) {
  const Plan plan = PlanOfShares(program_, {.host = 1, .cpu = 0.5});
  Rig rig(program_, plan, HardwareOf(2e9, 25e9), {});
  const Steady steady = Measure(&rig, 20);
  EXPECT_GT(steady.link_share + steady.cpu_share, 1.6);
  const double copied_s = static_cast<double>(Summarise(program_, plan).copied_bytes) / 25e9;
  EXPECT_LT(steady.pass_s, 1.3 * copied_s);
}

TEST_F(SchedulerAcceleratorTest, DiskLinkAndAcceleratorOverlap) {
  SimHardware hardware = HardwareOf(25e9, 10e9);
  hardware.compute_bytes_per_s = 25e9;
  const Plan plan = PlanOfShares(program_, {});
  Rig rig(program_, plan, hardware, {});
  const Steady steady = Measure(&rig, 20);
  EXPECT_GT(steady.disk_share, 0.95);
  EXPECT_GT(steady.link_share, 0.95);
  EXPECT_GT(steady.accelerator_share, 0.95);
}

TEST_F(SchedulerAcceleratorTest, WhatStepsWaitForIsTold) {
  // The link bounds: steps wait for copies of bytes that are on the host.
  Rig link(program_, PlanOfShares(program_, {.host = 1}), HardwareOf(2e9, 10e9), {});
  ASSERT_TRUE(link.RunPasses(6, kDecode).ok());
  const SchedulerStats& by_link = link.scheduler.stats();
  EXPECT_GT(by_link.copy_stall_ns, 10 * by_link.compute_ns);
  EXPECT_EQ(by_link.compute_ns + by_link.disk_stall_ns + by_link.copy_stall_ns, link.machine.Now());
  EXPECT_GT(by_link.copy_busy_ns, by_link.copy_stall_ns);
  // The disk bounds: for reads.
  Rig disk(program_, PlanOfShares(program_, {}), HardwareOf(1e9, 10e9), {});
  ASSERT_TRUE(disk.RunPasses(6, kDecode).ok());
  const SchedulerStats& by_disk = disk.scheduler.stats();
  EXPECT_GT(by_disk.disk_stall_ns, 10 * by_disk.copy_stall_ns);
}

TEST_F(SchedulerAcceleratorTest, WidePassesRunOnTheAcceleratorAlone) {
  const Plan plan = PlanOfShares(program_, {.device = 0.2, .host = 0.7, .cpu = 1});
  Rig rig(program_, plan, HardwareOf(5e9, 20e9), {});
  ASSERT_TRUE(rig.scheduler.RunPass(kPrompt, kPrompt).ok());
  ASSERT_TRUE(rig.scheduler.RunPass(kPrompt, kDecode).ok());
  EXPECT_EQ(rig.scheduler.stats().devices[0].steps, 0u);
  EXPECT_EQ(rig.scheduler.stats().devices[1].steps, 2 * program_.head_step);
  ASSERT_TRUE(rig.scheduler.RunPass(kDecode, kDecode).ok());
  EXPECT_EQ(rig.scheduler.stats().devices[0].steps, CpuSteps(program_, plan, kDecode));
  EXPECT_EQ(rig.scheduler.stats().discarded, 0u);  // all was foreseen
  EXPECT_EQ(rig.scheduler.stats().copies_discarded, 0u);
  rig.scheduler.Drain();
  EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
}

// Every order of wide and narrow passes, each foreseen rightly, wrongly or not at all.
TEST_F(SchedulerAcceleratorTest, AnyPassMayFollowAny) {
  const PassSpec kinds[] = {kDecode, kPrompt, kWideWithHead, {.head = false}};
  const Program program = GroupedProgram(2, 8192);
  for (const TierShares& shares :
       {TierShares{.host = 0.5, .cpu = 0.5, .slots = 3, .device_slots = 2},
        TierShares{.device = 0.3, .host = 0.3, .cpu = 1, .slots = 6, .device_slots = 5},
        TierShares{.slots = 2, .device_slots = 2}}) {
    const Plan plan = PlanOfShares(program, shares);
    for (uint32_t order = 0; order < 20 * 20 * 20; order += 23) {
      Rig rig(program, plan, HardwareOf(2e9, 10e9), {});
      uint64_t steps = 0;
      uint64_t copied = 0;
      for (uint32_t i = 0, digits = order; i < 3; ++i, digits /= 20) {
        const PassSpec pass = kinds[digits % 4];
        std::optional<PassSpec> next;
        if (digits / 4 % 5 < 4) next = kinds[digits / 4 % 5];
        ASSERT_EQ(rig.scheduler.RunPass(pass, next), absl::OkStatus()) << order;
        steps += StepsOf(program, pass);
        copied += CopiedUses(program, plan, pass);
      }
      rig.scheduler.Drain();
      ASSERT_EQ(rig.machine.CheckIdle(), absl::OkStatus()) << order;
      const SchedulerStats& stats = rig.scheduler.stats();
      ASSERT_EQ(stats.devices[0].steps + stats.devices[1].steps, steps);
      uint64_t on_device = 0;
      for (BlockId id = 1; id < program.blocks.size(); ++id) {
        const bool lives_there = plan.placements[id].home == Tier::kDevice;
        on_device += lives_there && rig.scheduler.IsResident(id) ? 1 : 0;
      }
      ASSERT_EQ(stats.copies, copied + on_device + stats.copies_discarded) << order;
    }
  }
}

// Read ahead for decoding, wanted by a prompt: what lies on the host is copied from there.
TEST_F(SchedulerAcceleratorTest, WhatWasReadForTheCpuIsCopiedWhenAWidePassComes) {
  Plan plan = PlanOfShares(program_, {.slots = 12});
  for (BlockId id = 1; id < program_.blocks.size(); ++id) {
    plan.placements[id].compute_device = ComputeDevice::kCpu;
  }
  Rig rig(program_, plan, HardwareOf(5e9, 20e9), {});
  ASSERT_TRUE(rig.scheduler.RunPass(kDecode, kDecode).ok());
  rig.machine.Elapse(100'000'000);
  ASSERT_TRUE(rig.scheduler.RunPass(kWideWithHead, std::nullopt).ok());
  EXPECT_EQ(rig.scheduler.stats().discarded, 0u);
  for (BlockId id = 1; id < program_.blocks.size(); ++id) {
    EXPECT_EQ(rig.machine.ReadsOf(id), 2u);
    EXPECT_EQ(rig.machine.CopiesOf(id), 1u);
  }
}

// The other way round the copies are dropped and the blocks read again for the CPU.
TEST_F(SchedulerAcceleratorTest, WhatWasCopiedIsDroppedWhenTheCpuWantsIt) {
  Plan plan = PlanOfShares(program_, {.slots = 12});
  for (BlockId id = 1; id < program_.blocks.size(); ++id) {
    plan.placements[id].compute_device = ComputeDevice::kCpu;
  }
  Rig rig(program_, plan, HardwareOf(50e9, 20e9), {});
  ASSERT_TRUE(rig.scheduler.RunPass(kWideWithHead, kWideWithHead).ok());
  rig.machine.Elapse(100'000'000);
  ASSERT_TRUE(rig.scheduler.RunPass(kDecode, std::nullopt).ok());
  EXPECT_GE(rig.scheduler.stats().copies_discarded, 1u);
  EXPECT_EQ(rig.scheduler.stats().devices[0].steps, program_.steps.size() - 1);
  rig.scheduler.Drain();
  EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
}

// A step whose block is in host memory does not wait, within its group, for one that is still being
// read: its copy goes first.
TEST_F(SchedulerAcceleratorTest, CopiesOvertakeWithinAGroup) {
  Plan plan = PlanOfShares(program_, {.host = 0.5});
  ASSERT_EQ(plan.placements[1].home, Tier::kDisk);
  ASSERT_EQ(plan.placements[2].home, Tier::kHost);
  Rig rig(program_, plan, HardwareOf(1e9, 10e9), {});
  ASSERT_TRUE(rig.RunPasses(3, kDecode).ok());
  const std::vector<Trace::Record>& records = rig.trace.records();
  uint32_t overtook = 0;
  BlockId before = 0;
  for (const Trace::Record& record : records) {
    if (record.lane != Trace::Lane::kCopy) continue;
    if (record.id < before) {
      const StepId behind = before;  // a step for each block, under its number
      for (StepId step = record.id + 1; step <= behind && behind < record.id + 3; ++step) {
        EXPECT_TRUE(program_.steps[step].joins_previous) << record.id << " behind " << before;
      }
      ++overtook;
    }
    before = record.id;
  }
  EXPECT_GT(overtook, 20u);
}

TEST_F(SchedulerAcceleratorTest, TheTraceHasALaneForEachLegAndSlotsOfItsCopies) {
  const Plan plan = PlanOfShares(program_, {.device = 0.3, .host = 0.5, .cpu = 0.5});
  Rig rig(program_, plan, HardwareOf(5e9, 20e9), {});
  ASSERT_TRUE(rig.RunPasses(2, kDecode).ok());
  std::vector<uint32_t> records(5, 0);
  for (const Trace::Record& record : rig.trace.records()) {
    ++records[static_cast<size_t>(record.lane)];
    if (record.lane != Trace::Lane::kCopy) continue;
    const bool stays = plan.placements[record.id].home == Tier::kDevice;
    EXPECT_EQ(record.slot == Copy::kOwnMemory, stays);
  }
  const SchedulerStats& stats = rig.scheduler.stats();
  EXPECT_EQ(records[static_cast<size_t>(Trace::Lane::kCopy)], stats.copies);
  EXPECT_EQ(records[static_cast<size_t>(Trace::Lane::kAccelerator)], stats.devices[1].steps);
  EXPECT_EQ(records[static_cast<size_t>(Trace::Lane::kCompute)], stats.devices[0].steps);
}

TEST_F(SchedulerAcceleratorTest, CancellationAtEveryEventEndsOnePassCleanly) {
  const Program program = GroupedProgram(2, 65536);
  const Plan plan = PlanOfShares(
      program, {.device = 0.3, .host = 0.4, .cpu = 0.5, .slots = 3, .device_slots = 3});
  const auto run = [&](const SimFaults& faults) {
    Rig rig(program, plan, HardwareOf(2e9, 10e9), faults);
    uint32_t failed = 0;
    for (int i = 0; i < 3; ++i) {
      const PassSpec pass = i == 0 ? kPrompt : kDecode;
      if (rig.scheduler.RunPass(pass, kDecode).ok()) continue;
      ++failed;
      EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());  // without Drain
      EXPECT_EQ(rig.scheduler.RunPass(pass, kDecode), absl::OkStatus());
    }
    rig.scheduler.Drain();
    EXPECT_EQ(rig.machine.CheckIdle(), absl::OkStatus());
    return std::pair<uint32_t, uint64_t>(failed, rig.machine.stats().events);
  };
  const uint64_t events = run({}).second;
  ASSERT_GT(events, 100u);
  for (uint64_t event = 0; event + 20 < events; ++event) {
    SimFaults faults;
    faults.cancel_at_event = event;
    EXPECT_EQ(run(faults).first, 1u) << "event " << event;
  }
}

}  // namespace
}  // namespace weir
