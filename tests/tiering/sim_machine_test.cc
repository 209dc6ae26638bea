// The simulated machine itself: its timing, its faults, and that it sees every breach of contract.
#include "tiering/sim_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/tiering/synthetic_helper.h"

namespace weir {
namespace {

using testing::HasSubstr;
using Kind = MachineEvent::Kind;

// Block 0: rows; 1, 3, ..: streamed; 2, 4, ..: resident (half of 8). One step for each block.
class SimMachineTest : public testing::Test {
 protected:
  SimMachineTest() {
    hardware_.disk_bytes_per_s = 1e9;
    hardware_.disk_latency_ns = 1000;
    hardware_.compute_bytes_per_s = 4096e6;  // a block in 1000 ns
    hardware_.each_step_ns = 10;
    Rebuild({});
  }

  void Rebuild(const SimFaults& faults) {
    machine_ = std::make_unique<SimMachine>(program_, plan_, hardware_, faults);
  }
  std::vector<MachineEvent> Wait() {
    std::vector<MachineEvent> events(8);
    events.resize(machine_->Wait(absl::MakeSpan(events)));
    return events;
  }
  void WaitForAll(size_t count) {
    while (count > 0) count -= std::min(count, Wait().size());
  }
  void Bring(BlockId block, SlotId slot) {
    machine_->Start({.block = block, .slot = slot});
    WaitForAll(1);
  }
  void ExpectViolation(const std::string& what) {
    EXPECT_THAT(std::string(machine_->violation().message()), HasSubstr(what));
    EXPECT_FALSE(machine_->CheckIdle().ok());
  }

  const Program program_ =
      UniformProgram({.layers = 4, .blocks_per_layer = 2, .head_blocks = 0, .block_bytes = 4096});
  const Plan plan_ = *MakePlanForResidentShare(program_, 0.5, SmallOverhead());
  SimHardware hardware_;
  std::unique_ptr<SimMachine> machine_;
  static constexpr SlotId kOwn = Transfer::kOwnMemory;
};

TEST_F(SimMachineTest, AReadTakesItsLatencyAndItsBytes) {
  ASSERT_EQ(plan_.placements[1].home, Tier::kDisk);
  ASSERT_EQ(plan_.placements[2].home, Tier::kHost);
  machine_->Start({.block = 1, .slot = 0});
  const std::vector<MachineEvent> events = Wait();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, Kind::kTransferDone);
  EXPECT_EQ(events[0].id, 1u);
  EXPECT_TRUE(events[0].status.ok());
  EXPECT_EQ(events[0].begin_ns, 0);
  EXPECT_EQ(events[0].end_ns, 1000 + 8192);
  EXPECT_EQ(machine_->Now(), 9192);
  EXPECT_EQ(machine_->stats().disk_busy_ns, 8192);
  EXPECT_EQ(machine_->CheckIdle(), absl::OkStatus());
}

TEST_F(SimMachineTest, ReadsOverlapTheirLatenciesAndAreServedInTurn) {
  machine_->Start({.block = 1, .slot = 0});
  machine_->Elapse(1000 + 4096);  // half of it is there
  machine_->Start({.block = 3, .slot = 1});
  std::vector<MachineEvent> events = Wait();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_NEAR(static_cast<double>(events[0].end_ns), 1000 + 8192, 2);
  events = Wait();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].id, 3u);
  EXPECT_NEAR(static_cast<double>(events[0].end_ns), 1000 + 2 * 8192, 3);
}

TEST_F(SimMachineTest, StepsRunInOrderOneAfterTheOther) {
  Bring(0, kOwn);
  Bring(1, 0);
  Bring(2, kOwn);
  const int64_t begin_ns = machine_->Now();
  for (StepId step : {0, 1, 2}) machine_->Run(step, ComputeDevice::kCpu);
  int64_t at_ns = begin_ns;
  for (StepId step : {0, 1, 2}) {
    const std::vector<MachineEvent> events = Wait();
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].kind, Kind::kStepDone);
    EXPECT_EQ(events[0].id, step);
    EXPECT_EQ(events[0].begin_ns, at_ns);
    at_ns += step == 0 ? 510 : 1010;
    EXPECT_EQ(events[0].end_ns, at_ns);
  }
  EXPECT_EQ(machine_->stats().compute_busy_ns, at_ns - begin_ns);
  EXPECT_EQ(machine_->CheckIdle(), absl::OkStatus());
}

TEST_F(SimMachineTest, SpikesErrorsAndLateCompletions) {
  SimFaults faults;
  faults.spike_share = 1;
  faults.spike_ns = 50'000;
  Rebuild(faults);
  machine_->Start({.block = 1, .slot = 0});
  EXPECT_EQ(Wait()[0].end_ns, 51'000 + 8192);

  faults = {};
  faults.eio_at = 1;
  Rebuild(faults);
  Bring(1, 0);
  machine_->Start({.block = 3, .slot = 1});
  const MachineEvent failed = Wait()[0];
  EXPECT_EQ(failed.status.code(), absl::StatusCode::kDataLoss);
  for (const char* part : {"blk.1.0", "offset", "wanted", "got 0"}) {
    EXPECT_THAT(std::string(failed.status.message()), HasSubstr(part));
  }
  machine_->Run(
      0, ComputeDevice::kCpu);  // rows are not there: the failed read left nothing to run on either
  ExpectViolation("not in memory");

  faults = {};
  faults.late_share = 0.5;
  faults.late_ns = 1'000'000;
  bool overtaken = false;
  for (faults.seed = 0; faults.seed < 20 && !overtaken; ++faults.seed) {
    Rebuild(faults);
    for (SlotId slot : {0, 1}) machine_->Start({.block = 1 + 2 * slot, .slot = slot});
    const std::vector<MachineEvent> first = Wait();
    overtaken = first.size() == 1 && first[0].id == 3;
  }
  EXPECT_TRUE(overtaken);
}

TEST_F(SimMachineTest, CancelsJustBeforeTheGivenEvent) {
  SimFaults faults;
  faults.cancel_at_event = 1;
  Rebuild(faults);
  machine_->Start({.block = 1, .slot = 0});
  machine_->Start({.block = 3, .slot = 1});
  std::vector<Kind> kinds;
  while (kinds.size() < 3) {
    for (const MachineEvent& event : Wait()) kinds.push_back(event.kind);
  }
  EXPECT_THAT(kinds,
              testing::ElementsAre(Kind::kTransferDone, Kind::kCancelled, Kind::kTransferDone));
  EXPECT_EQ(machine_->CheckIdle(), absl::OkStatus());
}

TEST_F(SimMachineTest, SeesWrongPlaces) {
  machine_->Start({.block = 1, .slot = plan_.slots});
  ExpectViolation("goes to slot");
  Rebuild({});
  machine_->Start({.block = 1, .slot = kOwn});
  ExpectViolation("goes to slot");
  Rebuild({});
  machine_->Start({.block = 2, .slot = 0});
  ExpectViolation("memory of its own");
}

TEST_F(SimMachineTest, SeesSlotsUsedTwice) {
  machine_->Start({.block = 1, .slot = 0});
  machine_->Start({.block = 3, .slot = 0});
  ExpectViolation("slot 0 is being read into already");
  Rebuild({});
  machine_->Start({.block = 1, .slot = 0});
  machine_->Start({.block = 1, .slot = 1});
  ExpectViolation("is being read already");
}

TEST_F(SimMachineTest, SeesWritesUnderARunningStep) {
  Bring(0, kOwn);
  Bring(1, 0);
  machine_->Run(0, ComputeDevice::kCpu);
  machine_->Run(1, ComputeDevice::kCpu);
  machine_->Start({.block = 3, .slot = 0});
  ExpectViolation("slot 0 is overwritten while a step uses it");
  Rebuild({});
  Bring(0, kOwn);
  machine_->Run(0, ComputeDevice::kCpu);
  machine_->Start({.block = 0, .slot = kOwn});
  ExpectViolation("read again while a step uses it");
}

TEST_F(SimMachineTest, SeesResidentBlocksReadTwice) {
  Bring(2, kOwn);
  Bring(2, kOwn);
  ExpectViolation("resident and read again");
}

TEST_F(SimMachineTest, SeesStepsWithoutTheirBlocks) {
  machine_->Start({.block = 0, .slot = kOwn});
  machine_->Run(0, ComputeDevice::kCpu);
  ExpectViolation("not in memory");  // on its way is not there
  Rebuild({});
  Bring(0, kOwn);
  Bring(1, 0);
  Bring(3, 0);  // over it
  machine_->Run(0, ComputeDevice::kCpu);
  EXPECT_TRUE(machine_->violation().ok());
  machine_->Run(1, ComputeDevice::kCpu);
  ExpectViolation("needs blk.0.0, which is not in memory");
  EXPECT_EQ(machine_->stats().unused_transfers, 1u);
}

TEST_F(SimMachineTest, SeesStaleRows) {
  Bring(0, kOwn);
  machine_->Run(0, ComputeDevice::kCpu);
  WaitForAll(1);
  machine_->Run(0, ComputeDevice::kCpu);  // the next pass, without gathering
  ExpectViolation("needs rows, which is not in memory");
}

TEST_F(SimMachineTest, SeesStepsOutOfOrderAndTooMuchAtOnce) {
  Bring(1, 0);
  machine_->Run(1, ComputeDevice::kCpu);
  ExpectViolation("order: step 1 is run, with 1 left of steps 0 to 0");

  hardware_.max_transfers = 1;
  hardware_.max_steps = 1;
  Rebuild({});
  machine_->Start({.block = 1, .slot = 0});
  machine_->Start({.block = 3, .slot = 1});
  ExpectViolation("too many transfers");
  Rebuild({});
  Bring(0, kOwn);
  Bring(1, 0);
  machine_->Run(0, ComputeDevice::kCpu);
  machine_->Run(1, ComputeDevice::kCpu);
  ExpectViolation("too many steps");
}

TEST_F(SimMachineTest, SeesAWaitThatWouldHang) {
  const std::vector<MachineEvent> events = Wait();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, Kind::kCancelled);
  ExpectViolation("nothing in flight");
}

TEST_F(SimMachineTest, IsNotIdleWhileSomethingIsInFlight) {
  machine_->Start({.block = 1, .slot = 0});
  EXPECT_FALSE(machine_->CheckIdle().ok());
  machine_->Elapse(1'000'000'000);
  EXPECT_FALSE(machine_->CheckIdle().ok());  // ended, not told
  EXPECT_EQ(Wait()[0].end_ns, 9192);
  EXPECT_TRUE(machine_->CheckIdle().ok());
}

TEST_F(SimMachineTest, SeesPlansThatOverlapOrExceedTheirBudget) {
  Plan plan = plan_;
  plan.placements[4].arena_offset_bytes = plan.placements[2].arena_offset_bytes + 4096;
  EXPECT_THAT(std::string(SimMachine(program_, plan, hardware_, {}).violation().message()),
              HasSubstr("overlap"));
  plan = plan_;
  plan.resident_arena_bytes -= 4096;
  EXPECT_THAT(std::string(SimMachine(program_, plan, hardware_, {}).violation().message()),
              HasSubstr("beyond the arena"));
  plan = plan_;
  plan.dram_budget_bytes -= 1;
  EXPECT_THAT(std::string(SimMachine(program_, plan, hardware_, {}).violation().message()),
              HasSubstr("budget"));
}

}  // namespace
}  // namespace weir
