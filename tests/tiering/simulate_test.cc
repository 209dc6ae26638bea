// Simulated decoding: what it reports of known hardware, and that the shipped scheduler reaches the
// bound max(disk, compute) over a range of hardware.
#include "tiering/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "tests/tiering/accelerator_helper.h"
#include "tests/tiering/synthetic_helper.h"

namespace weir {
namespace {

using testing::HasSubstr;

constexpr double kGB = 1e9;

Program FourGibProgram() {
  Program program = UniformProgram(
      {.layers = 32, .blocks_per_layer = 31, .head_blocks = 32, .block_bytes = 4 << 20});
  // Of each layer's blocks, every four follow each other in any order.
  for (StepId step = 2; step < program.steps.size(); ++step) {
    program.steps[step].joins_previous = step != program.head_step && (step - 1) % 31 % 4 != 0;
  }
  return program;
}

Plan PlanWithRing(const Program& program, double share, uint64_t ring_bytes) {
  PlanOptions options = SmallOverhead();
  options.preferred_ring_bytes = ring_bytes;
  return *MakePlanForResidentShare(program, share, options);
}

SimHardware HardwareOf(double disk_bytes_per_s, int64_t latency_ns, double compute_bytes_per_s) {
  Ceilings ceilings;
  ceilings.disk_bytes_per_s = disk_bytes_per_s;
  ceilings.disk_latency_ns = latency_ns;
  ceilings.compute_bytes_per_s = compute_bytes_per_s;
  return SimHardwareFrom(ceilings);
}

// What the ring must hold so that the disk never waits for a slot: what flows during a latency, one
// block whose bytes are arriving, one that is computed, one between.
uint64_t SufficientRingBytes(const SimHardware& hardware, uint64_t block_bytes) {
  const double flowing =
      hardware.disk_bytes_per_s * static_cast<double>(hardware.disk_latency_ns) * 1e-9;
  return static_cast<uint64_t>(flowing) + 4 * block_bytes;
}

// By the disk in GB/s.
class SimulateBoundTest : public testing::TestWithParam<double> {};

TEST_P(SimulateBoundTest, APassTakesWhatTheSlowestLinkTakes) {
  const Program program = FourGibProgram();
  for (const int64_t latency_us : {20, 100, 1000, 5000}) {
    for (const double ratio : {0.5, 1.0, 2.0, 10.0}) {
      for (const double share : {0.0, 0.25, 0.5, 0.75, 0.9}) {
        SimHardware hardware =
            HardwareOf(GetParam() * kGB, latency_us * 1000, ratio * GetParam() * kGB);
        hardware.rows_latency_ns = 0;
        const uint64_t ring_bytes = SufficientRingBytes(hardware, (4 << 20) + 4096);
        const Simulation simulation =
            SimulateDecode(program, PlanWithRing(program, share, ring_bytes), hardware, {},
                           {.passes = 3}, nullptr);
        ASSERT_EQ(simulation.status, absl::OkStatus());
        ASSERT_EQ(simulation.violation, absl::OkStatus());
        EXPECT_GT(simulation.share_of_bound(), 0.97)
            << latency_us << " us, compute x" << ratio << ", " << share << " resident, ring "
            << ring_bytes;
        EXPECT_LT(simulation.share_of_bound(), 1.01);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DiskGBPerS, SimulateBoundTest, testing::Values(0.5, 2.0, 7.0, 14.0));

// The ring is what reaches the bound: a ring of two blocks waits out every latency.
TEST(SimulateTest, ATooSmallRingMissesTheBound) {
  const Program program = FourGibProgram();
  const SimHardware hardware = HardwareOf(7 * kGB, 1'000'000, 70 * kGB);
  const Simulation small = SimulateDecode(program, PlanWithRing(program, 0.5, 2 * 4198400),
                                          hardware, {}, {.passes = 3}, nullptr);
  const Simulation enough = SimulateDecode(program, PlanWithRing(program, 0.5, 8 * 4198400),
                                           hardware, {}, {.passes = 3}, nullptr);
  EXPECT_LT(small.share_of_bound(), 0.9);
  EXPECT_GT(enough.share_of_bound(), 0.97);
}

// Embedding rows are known only when the token before is: compute waits for one latency.
TEST(SimulateTest, GatheringRowsCostsALatencyWhereComputeBounds) {
  const Program program = FourGibProgram();
  SimHardware hardware = HardwareOf(7 * kGB, 5'000'000, 7 * kGB);
  const Plan plan = PlanWithRing(program, 0.75, 64 << 20);
  const Simulation from_disk = SimulateDecode(program, plan, hardware, {}, {}, nullptr);
  hardware.rows_latency_ns = 0;
  const Simulation in_memory = SimulateDecode(program, plan, hardware, {}, {}, nullptr);
  EXPECT_NEAR(from_disk.pass_ns() - in_memory.pass_ns(), 5e6, 0.1e6);
}

TEST(SimulateTest, ReportsKnownHardwareAsItIs) {
  const Program program = UniformProgram({.layers = 16});
  const Plan plan = PlanWithRing(program, 0.5, 16 << 20);
  SimHardware hardware = HardwareOf(1 * kGB, 50'000, 40 * kGB);
  const Simulation simulation = SimulateDecode(program, plan, hardware, {}, {.passes = 6}, nullptr);
  ASSERT_EQ(simulation.status, absl::OkStatus());
  EXPECT_EQ(simulation.passes, 6u);
  EXPECT_EQ(simulation.bottleneck, "disk");
  uint64_t pass_bytes = Summarise(program, plan).streamed_read_bytes;
  for (const Block& block : program.blocks) {
    if (block.kind == BlockKind::kRows) pass_bytes += ReadBytesOf(block);
  }
  EXPECT_EQ(simulation.disk_bound_ns, static_cast<int64_t>(pass_bytes));
  // What is read ahead may differ between the first moment and the last.
  EXPECT_NEAR(static_cast<double>(simulation.disk_bytes), 6.0 * static_cast<double>(pass_bytes),
              static_cast<double>(plan.slots * plan.slot_bytes));
  EXPECT_NEAR(simulation.pass_ns() / static_cast<double>(pass_bytes), 1.0, 0.02);
  EXPECT_NEAR(simulation.tokens_per_s() * simulation.pass_ns(), 1e9, 1);
  EXPECT_GT(simulation.disk_busy_ns, simulation.steady_ns * 98 / 100);
  EXPECT_LE(simulation.disk_busy_ns, simulation.steady_ns);
  EXPECT_EQ(simulation.scheduler.discarded, 0u);
  EXPECT_LE(simulation.machine.peak_held_bytes, plan.dram_budget_bytes);
  // With measured steps, these are what counts.
  hardware.step_ns.assign(program.steps.size(), 2'000'000);
  const Simulation slow = SimulateDecode(program, plan, hardware, {}, {.passes = 6}, nullptr);
  EXPECT_EQ(slow.bottleneck, "compute");
  EXPECT_EQ(slow.compute_bound_ns, static_cast<int64_t>(program.steps.size()) * 2'000'000);
  EXPECT_GT(slow.share_of_bound(), 0.98);
  EXPECT_EQ(slow.compute_busy_ns, 6 * slow.compute_bound_ns);
}

TEST(SimulateTest, PromptPassesComeFirstAndTakeLonger) {
  const Program program = UniformProgram({});
  const Plan plan = PlanWithRing(program, 0.5, 8 << 20);
  const SimHardware hardware = HardwareOf(2 * kGB, 50'000, 10 * kGB);
  SimulateOptions options{.prompt_passes = 3, .prompt_step_scale = 64, .passes = 4};
  Trace trace(100'000);
  Simulation simulation = SimulateDecode(program, plan, hardware, {}, options, &trace);
  ASSERT_EQ(simulation.status, absl::OkStatus());
  EXPECT_EQ(simulation.scheduler.passes, 8u);
  EXPECT_EQ(simulation.machine.steps, 2 * program.head_step + 6 * program.steps.size());
  EXPECT_GT(simulation.first_logits_ns, 2 * 64 * simulation.compute_bound_ns);
  EXPECT_GT(trace.records().size(), 8 * program.head_step);
  const Simulation decoding = SimulateDecode(program, plan, hardware, {}, {.passes = 4}, nullptr);
  EXPECT_NEAR(simulation.pass_ns() / decoding.pass_ns(), 1.0, 0.02);
  options.between_ns = 100'000'000;
  EXPECT_GT(SimulateDecode(program, plan, hardware, {}, options, nullptr).pass_ns(), 99e6);
}

TEST(SimulateTest, ReportsTheLegsOfAnAccelerator) {
  const Program program = GroupedProgram(16, 2 << 20);
  const Plan plan = PlanOfShares(program, {.device = 0.25, .host = 0.75, .cpu = 0.3, .slots = 16});
  Ceilings ceilings;
  ceilings.disk_bytes_per_s = 7 * kGB;
  ceilings.disk_latency_ns = 80'000;
  ceilings.link_bytes_per_s = 10 * kGB;
  ceilings.link_latency_ns = 8'000;
  ceilings.compute_bytes_per_s = 1000 * kGB;
  ceilings.host_compute_bytes_per_s = 20 * kGB;
  const auto simulate = [&](const SimulateOptions& options) {
    SimHardware hardware = SimHardwareFrom(ceilings);
    hardware.rows_latency_ns = 0;
    Simulation simulation = SimulateDecode(program, plan, hardware, {}, options, nullptr);
    EXPECT_EQ(simulation.status, absl::OkStatus());
    EXPECT_EQ(simulation.violation, absl::OkStatus());
    return simulation;
  };
  const PlanSummary summary = Summarise(program, plan);
  const Simulation by_link = simulate({.passes = 6});
  EXPECT_EQ(by_link.bottleneck, "link");
  EXPECT_EQ(by_link.link_bound_ns,
            static_cast<int64_t>(std::llround(static_cast<double>(summary.copied_bytes) / 10)));
  EXPECT_EQ(by_link.bound_ns(), by_link.link_bound_ns);
  EXPECT_GT(by_link.share_of_bound(), 0.97);
  EXPECT_GT(by_link.link_busy_ns, by_link.steady_ns * 97 / 100);
  // What is copied ahead may differ between the first moment and the last.
  EXPECT_NEAR(static_cast<double>(by_link.link_bytes),
              6.0 * static_cast<double>(summary.copied_bytes),
              static_cast<double>(plan.accelerator->slots * plan.accelerator->slot_bytes));
  EXPECT_EQ(by_link.host_compute_busy_ns, 6 * by_link.host_compute_bound_ns);
  EXPECT_EQ(by_link.compute_busy_ns, 6 * by_link.compute_bound_ns);
  EXPECT_GT(by_link.copy_stall_ns, by_link.disk_stall_ns);
  EXPECT_LE(by_link.machine.peak_device_bytes, plan.accelerator->hbm_budget_bytes);

  ceilings.disk_bytes_per_s = 1 * kGB;
  EXPECT_EQ(simulate({.passes = 6}).bottleneck, "disk");
  ceilings.disk_bytes_per_s = 7 * kGB;
  ceilings.host_compute_bytes_per_s = 1 * kGB;
  const Simulation by_cpu = simulate({.passes = 6});
  EXPECT_EQ(by_cpu.bottleneck, "cpu");
  EXPECT_GT(by_cpu.path_bound_ns, by_cpu.host_compute_bound_ns);
  EXPECT_GT(by_cpu.share_of_bound(), 0.97);
  for (double* missing : {&ceilings.link_bytes_per_s, &ceilings.host_compute_bytes_per_s}) {
    const double rate = std::exchange(*missing, 0.0);
    EXPECT_EQ(
        SimulateDecode(program, plan, SimHardwareFrom(ceilings), {}, {}, nullptr).status.code(),
        absl::StatusCode::kFailedPrecondition);
    *missing = rate;
  }
  // Prompts are wide: the CPU takes no part in them.
  const Simulation prompt = simulate({.prompt_passes = 3, .warm_up_passes = 0, .passes = 1});
  EXPECT_EQ(prompt.machine.host_steps, CpuSteps(program, plan, {.head = true}));
}

TEST(SimulateTest, FaultsEndTheRunByNameOrOnlyDelayIt) {
  const Program program = UniformProgram({});
  const Plan plan = PlanWithRing(program, 0.25, 8 << 20);
  const SimHardware hardware = HardwareOf(1 * kGB, 50'000, 10 * kGB);
  const auto with = [&](const std::string& text) {
    Simulation simulation =
        SimulateDecode(program, plan, hardware, ParseSimFaults(text).value(), {}, nullptr);
    EXPECT_EQ(simulation.violation, absl::OkStatus());
    return simulation;
  };
  const Simulation clean = with("");
  const double clean_ns = clean.pass_ns();
  for (const char* text : {"seed=3,short=30%", "spike=5%:5ms", "eio=10%", "slow=10%:x4"}) {
    const Simulation delayed = with(text);
    EXPECT_EQ(delayed.status, absl::OkStatus());
    EXPECT_EQ(delayed.scheduler.passes, clean.scheduler.passes) << text;
    EXPECT_GE(delayed.pass_ns(), clean_ns) << text;  // what the ring hides costs nothing
    EXPECT_NE(delayed.trace_hash, clean.trace_hash);
    EXPECT_EQ(delayed.trace_hash, with(text).trace_hash) << text;
  }
  EXPECT_GT(with("throttle=50ms:x10").pass_ns(), 9 * clean_ns);
  EXPECT_LT(with("throttle=50ms:x10:20ms").pass_ns(), 2 * clean_ns);

  const Simulation broken = with("eio_at=40");
  EXPECT_EQ(broken.status.code(), absl::StatusCode::kDataLoss);
  for (const char* part : {"file 0", "offset", "wanted", "got 0", "EIO"}) {
    EXPECT_THAT(std::string(broken.status.message()), HasSubstr(part));
  }
  EXPECT_EQ(broken.machine.faults.eio_errors, kSimMaxEioRetries + 1);
  const Simulation stuck = with("stuck_at=40");
  EXPECT_EQ(stuck.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(stuck.status.message()), HasSubstr("no answer within 60 s"));
  EXPECT_GE(stuck.total_ns, hardware.read_timeout_ns);
  EXPECT_EQ(with("cancel_at=100").status.code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace weir
