// The simulated machine's link and accelerator: their timing, and that every breach is seen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/tiering/accelerator_helper.h"
#include "tests/tiering/synthetic_helper.h"
#include "tiering/sim_machine.h"

namespace weir {
namespace {

using testing::HasSubstr;
using Kind = MachineEvent::Kind;

constexpr SlotId kOwn = Transfer::kOwnMemory;
constexpr ComputeDevice kCpu = ComputeDevice::kCpu;
constexpr ComputeDevice kAccelerator = ComputeDevice::kAccelerator;

// Rows, then blocks 1 to 6 with a step each; steps 2 and 3 are one group. Block 1: disk and
// accelerator; 2: host and accelerator; 3: host and CPU; 4: device; 5 and 6 as 1.
class SimAcceleratorTest : public testing::Test {
 protected:
  SimAcceleratorTest() {
    program_ =
        UniformProgram({.layers = 3, .blocks_per_layer = 2, .head_blocks = 0, .block_bytes = 4096});
    program_.steps[3].joins_previous = true;
    plan_ = PlanOfShares(program_, {.slots = 3, .device_slots = 3});
    Place(2, Tier::kHost, kAccelerator, 0);
    Place(3, Tier::kHost, kCpu, 8192);
    Place(4, Tier::kDevice, kAccelerator, 0);
    plan_.resident_arena_bytes = 2 * 8192;
    plan_.accelerator->arena_bytes = 8192;
    plan_.dram_budget_bytes = plan_.dram_bytes();
    plan_.accelerator->hbm_budget_bytes = plan_.accelerator->hbm_bytes();
    EXPECT_EQ(CheckPlanFits(program_, plan_, "plan"), absl::OkStatus());
    hardware_.disk_bytes_per_s = 1e9;
    hardware_.disk_latency_ns = 1000;
    hardware_.compute_bytes_per_s = 4096e6;  // a block in 1000 ns
    hardware_.host_compute_bytes_per_s = 2048e6;
    hardware_.each_step_ns = 0;
    hardware_.link_bytes_per_s = 8192e6;  // the same
    hardware_.link_latency_ns = 300;
    Rebuild();
  }

  void Place(BlockId block, Tier home, ComputeDevice device, uint64_t offset_bytes) {
    plan_.placements[block] = {
        .home = home, .compute_device = device, .arena_offset_bytes = offset_bytes};
  }
  void Rebuild() {
    machine_ = std::make_unique<SimMachine>(program_, plan_, hardware_, SimFaults());
  }
  std::vector<MachineEvent> Wait() {
    std::vector<MachineEvent> events(8);
    events.resize(machine_->Wait(absl::MakeSpan(events)));
    return events;
  }
  std::vector<MachineEvent> WaitFor(size_t count) {
    std::vector<MachineEvent> all;
    while (all.size() < count) {
      for (MachineEvent& event : Wait()) all.push_back(std::move(event));
    }
    return all;
  }
  void Bring(BlockId block, SlotId slot) {
    machine_->Start({.block = block, .slot = slot});
    WaitFor(1);
  }
  void Copy(BlockId block, SlotId slot) {
    machine_->StartCopy({.block = block, .device_slot = slot});
  }
  void ExpectViolation(Invariant invariant, const std::string& what) {
    EXPECT_EQ(machine_->breached(), invariant) << machine_->violation();
    EXPECT_THAT(std::string(machine_->violation().message()), HasSubstr(what));
    Rebuild();
  }

  Program program_;
  Plan plan_;
  SimHardware hardware_;
  std::unique_ptr<SimMachine> machine_;
};

TEST_F(SimAcceleratorTest, CopiesOverlapTheirLatenciesAndFlowInTurn) {
  Bring(1, 0);
  Bring(5, 1);
  const int64_t begin_ns = machine_->Now();
  Copy(1, 0);
  Copy(5, 1);
  const std::vector<MachineEvent> events = WaitFor(2);
  EXPECT_EQ(events[0].kind, Kind::kCopyDone);
  EXPECT_EQ(events[0].id, 1u);
  EXPECT_EQ(events[0].begin_ns, begin_ns);
  EXPECT_EQ(events[0].end_ns, begin_ns + 300 + 1000);
  EXPECT_EQ(events[1].id, 5u);
  EXPECT_EQ(events[1].end_ns, begin_ns + 300 + 2000);
  const SimStats stats = machine_->stats();
  EXPECT_EQ(stats.copies, 2u);
  EXPECT_EQ(stats.copy_bytes, 2u * 8192);
  EXPECT_EQ(stats.link_busy_ns, 2000);
  EXPECT_EQ(machine_->CheckIdle(), absl::OkStatus());
}

TEST_F(SimAcceleratorTest, AStepWaitsForItsCopyAndIsToldBehindIt) {
  Bring(0, kOwn);
  Bring(1, 0);
  const int64_t begin_ns = machine_->Now();
  Copy(1, 0);
  machine_->Run(0, kAccelerator);
  machine_->Run(1, kAccelerator);
  const std::vector<MachineEvent> events = WaitFor(3);
  EXPECT_EQ(events[0].id, 0u);
  EXPECT_EQ(events[1].kind, Kind::kCopyDone);
  EXPECT_EQ(events[2].kind, Kind::kStepDone);
  EXPECT_EQ(events[2].begin_ns, begin_ns + 1300);
  EXPECT_EQ(events[2].end_ns, begin_ns + 2300);
  EXPECT_EQ(machine_->CheckIdle(), absl::OkStatus());
}

// Steps 2 and 3 are one group: both begin when step 1 is done, the CPU's a latency later; step 4
// begins when its result has crossed back.
TEST_F(SimAcceleratorTest, ActivationsCrossTwiceForAGroupWithTheCpu) {
  Bring(0, kOwn);
  Bring(1, 0);
  Bring(2, kOwn);
  Bring(3, kOwn);
  Bring(4, 1);
  Copy(1, 0);
  Copy(2, 1);
  Copy(4, kOwn);
  WaitFor(3);
  const int64_t begin_ns = machine_->Now();
  machine_->Run(0, kAccelerator);
  machine_->Run(1, kAccelerator);
  machine_->Run(3, kCpu);
  machine_->Run(2, kAccelerator);
  hardware_.max_steps = 8;
  std::vector<MachineEvent> events = WaitFor(1);
  machine_->Run(4, kAccelerator);
  for (MachineEvent& event : WaitFor(4)) events.push_back(std::move(event));
  std::vector<int64_t> begins(5);
  std::vector<int64_t> ends(5);
  for (const MachineEvent& event : events) {
    begins[event.id] = event.begin_ns - begin_ns;
    ends[event.id] = event.end_ns - begin_ns;
  }
  const int64_t first = ends[1];
  EXPECT_EQ(begins[2], first);
  EXPECT_EQ(begins[3], first + 300);
  EXPECT_EQ(ends[3], first + 300 + 2000);
  EXPECT_EQ(begins[4], ends[3] + 300);
  EXPECT_EQ(machine_->stats().host_steps, 1u);
  EXPECT_EQ(machine_->stats().host_compute_busy_ns, 2000);
  EXPECT_EQ(machine_->CheckIdle(), absl::OkStatus());
}

TEST_F(SimAcceleratorTest, SeesCopiesToAndFromWrongPlaces) {
  Copy(1, 0);
  ExpectViolation(Invariant::kArrival, "is copied, but is not in host memory");
  machine_->Start({.block = 1, .slot = 0});
  Copy(1, 0);
  ExpectViolation(Invariant::kArrival, "is copied, but is not in host memory");
  Bring(1, 0);
  Copy(1, plan_.accelerator->slots);
  ExpectViolation(Invariant::kPlace, "goes to device slot 3 of 3");
  Bring(1, 0);
  Copy(1, kOwn);
  ExpectViolation(Invariant::kPlace, "goes to device slot");
  Bring(4, 0);
  Copy(4, 0);
  ExpectViolation(Invariant::kPlace, "device memory of its own");
  Bring(0, kOwn);
  Copy(0, 0);
  ExpectViolation(Invariant::kPlace, "no place to go to");
}

TEST_F(SimAcceleratorTest, SeesDeviceSlotsAndBlocksUsedTwice) {
  Bring(1, 0);
  Bring(5, 1);
  Copy(1, 0);
  Copy(5, 0);
  ExpectViolation(Invariant::kPlace, "device slot 0 is being copied into already");
  Bring(1, 0);
  Copy(1, 0);
  Copy(1, 1);
  ExpectViolation(Invariant::kPlace, "is being copied already");
  Bring(4, 0);
  Copy(4, kOwn);
  WaitFor(1);
  Copy(4, kOwn);
  ExpectViolation(Invariant::kPlace, "is resident and copied again");
  Bring(4, 0);
  Copy(4, kOwn);
  WaitFor(1);
  machine_->Start({.block = 4, .slot = 1});
  ExpectViolation(Invariant::kPlace, "is resident and read again");
}

TEST_F(SimAcceleratorTest, SeesSourcesThatChangeWhileTheyAreCopied) {
  Bring(1, 0);
  Copy(1, 0);
  machine_->Start({.block = 5, .slot = 0});
  ExpectViolation(Invariant::kPinned, "slot 0 is overwritten while it is copied");
  Bring(1, 0);
  Copy(1, 0);
  machine_->Start({.block = 1, .slot = 1});
  ExpectViolation(Invariant::kPinned, "is read again while it is copied");
  // Once the copy is told, the slot is free.
  Bring(1, 0);
  Copy(1, 0);
  WaitFor(1);
  machine_->Start({.block = 5, .slot = 0});
  WaitFor(1);
  EXPECT_EQ(machine_->CheckIdle(), absl::OkStatus());
}

TEST_F(SimAcceleratorTest, SeesDeviceSlotsOverwrittenUnderAStep) {
  Bring(0, kOwn);
  Bring(1, 0);
  Bring(5, 1);
  Copy(1, 0);
  WaitFor(1);
  machine_->Run(0, kAccelerator);
  machine_->Run(1, kAccelerator);
  Copy(5, 0);
  ExpectViolation(Invariant::kPinned, "device slot 0 is overwritten while a step uses it");
}

TEST_F(SimAcceleratorTest, SeesStepsBeforeTheirCopiesAndOnTheWrongDevice) {
  Bring(0, kOwn);
  Bring(1, 0);
  machine_->Run(0, kAccelerator);
  machine_->Run(1, kAccelerator);
  ExpectViolation(Invariant::kArrival, "whose copy to the accelerator was not started");
  Bring(0, kOwn);
  machine_->Run(0, kCpu);
  ExpectViolation(Invariant::kPlace, "step 0 runs on the CPU");
  Bring(0, kOwn);
  Bring(1, 0);
  machine_->Run(0, kAccelerator);
  machine_->Run(1, kCpu);
  ExpectViolation(Invariant::kPlace, "step 1 runs on the CPU");
}

TEST_F(SimAcceleratorTest, SeesTooManyCopiesAtOnce) {
  hardware_.max_copies = 1;
  Rebuild();
  Bring(1, 0);
  Bring(5, 1);
  Copy(1, 0);
  Copy(5, 1);
  ExpectViolation(Invariant::kLimits, "too many copies");
}

TEST_F(SimAcceleratorTest, SeesPlansThatOverlapOrExceedTheirBudget) {
  const Plan good = plan_;
  plan_.accelerator->hbm_budget_bytes -= 1;
  Rebuild();
  ExpectViolation(Invariant::kPlan, "budget of the accelerator's memory");
  plan_ = good;
  plan_.accelerator->arena_bytes -= 4096;
  Rebuild();
  ExpectViolation(Invariant::kPlan, "beyond the arena");
  plan_ = good;
  Place(5, Tier::kDevice, kAccelerator, 4096);
  Rebuild();
  ExpectViolation(Invariant::kPlan, "overlap");
}

TEST_F(SimAcceleratorTest, CountsWhatIsHeldOnTheAccelerator) {
  Bring(1, 0);
  Copy(1, 0);
  Bring(4, 1);
  Copy(4, kOwn);
  WaitFor(1);
  EXPECT_EQ(machine_->stats().peak_device_bytes,
            plan_.accelerator->overhead.total() + plan_.accelerator->slot_bytes + 8192);
}

TEST_F(SimAcceleratorTest, IsNotIdleWhileACopyIsInFlight) {
  Bring(1, 0);
  Copy(1, 0);
  EXPECT_THAT(std::string(machine_->CheckIdle().message()), HasSubstr("1 copies"));
  WaitFor(1);
  EXPECT_EQ(machine_->CheckIdle(), absl::OkStatus());
}

}  // namespace
}  // namespace weir
