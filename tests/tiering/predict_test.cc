// What the cost model predicts for a plan beside what the scheduler makes of it on the simulated
// machine, over random plans with an accelerator.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/tiering/accelerator_helper.h"
#include "tests/tiering/synthetic_helper.h"
#include "tiering/simulate.h"

namespace weir {
namespace {

Ceilings RandomCeilings(Dice* dice) {
  // From a slow disk to memory, and both devices from much slower than the links to much faster.
  const auto rate = [dice](double least, double most) {
    return least * std::pow(most / least, dice->Share());
  };
  Ceilings ceilings;
  ceilings.disk_bytes_per_s = rate(1e9, 14e9);
  ceilings.disk_latency_ns = static_cast<int64_t>(dice->Between(20'000, 200'000));
  ceilings.link_bytes_per_s = rate(5e9, 60e9);
  ceilings.link_latency_ns = static_cast<int64_t>(dice->Between(2'000, 20'000));
  ceilings.compute_bytes_per_s = rate(20e9, 3000e9);
  ceilings.host_compute_bytes_per_s = rate(5e9, 200e9);
  return ceilings;
}

struct Compared {
  double ratio;  // simulated time of a pass over the predicted one
  double share_of_bound;
  std::string bottleneck;
};

Compared Compare(const Program& program, const Plan& plan, const Ceilings& ceilings) {
  SimHardware hardware = SimHardwareFrom(ceilings);
  hardware.rows_latency_ns = 0;
  const Prediction prediction = PredictPlan(program, plan, ceilings);
  // The rings fill over many passes where two legs are nearly equal: the steady state is predicted.
  const Simulation simulation =
      SimulateDecode(program, plan, hardware, {}, {.warm_up_passes = 16, .passes = 12}, nullptr);
  EXPECT_EQ(simulation.status, absl::OkStatus());
  EXPECT_EQ(simulation.violation, absl::OkStatus());
  EXPECT_EQ(simulation.bottleneck, prediction.bottleneck);
  EXPECT_NEAR(static_cast<double>(simulation.bound_ns()) * 1e-9 / prediction.pass_s, 1.0, 0.01);
  return {.ratio = simulation.pass_ns() * 1e-9 / prediction.pass_s,
          .share_of_bound = simulation.share_of_bound(),
          .bottleneck = prediction.bottleneck};
}

void ExpectWithin(std::vector<double> ratios, double median, double worst) {
  std::sort(ratios.begin(), ratios.end());
  EXPECT_GT(ratios.front(), 0.98);
  EXPECT_LT(ratios[ratios.size() / 2], median);
  EXPECT_LT(ratios.back(), worst);
  testing::Test::RecordProperty("median_percent",
                                static_cast<int>(100 * ratios[ratios.size() / 2]));
  testing::Test::RecordProperty("worst_percent", static_cast<int>(100 * ratios.back()));
}

// The planner's own plans for a model of 16 layers, at all budgets: within 5 %.
TEST(PredictTest, PlannedPassesTakeWhatIsPredicted) {
  const Program program = GroupedProgram(16, 2 << 20);
  std::vector<double> ratios;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Dice dice(seed);
    PlanOptions options = SmallAcceleratorOptions();
    options.preferred_ring_bytes = 24 << 20;
    options.preferred_device_ring_bytes = 32 << 20;
    options.in_place = static_cast<InPlace>(dice.Below(3));
    options.ceilings = RandomCeilings(&dice);
    const uint64_t all = 2 * program.payload_bytes();
    // One statement each: the order in which arguments throw the dice is the compiler's to choose.
    const uint64_t dram_bytes = AcceleratorDramFloorBytes(program, options) + dice.Below(all);
    const uint64_t hbm_bytes = HbmFloorBytes(program, options) + dice.Below(all / 2);
    const Plan plan = *MakeAcceleratorPlan(program, dram_bytes, hbm_bytes, options);
    ratios.push_back(Compare(program, plan, options.ceilings).ratio);
  }
  ExpectWithin(ratios, 1.01, 1.05);
}

// Any shares of homes and devices, rings that hold what flows during a latency: within a third.
TEST(PredictTest, PassesOfAnyMixtureTakeWhatIsPredicted) {
  const Program program = GroupedProgram(16, 2 << 20);
  std::vector<double> ratios;
  for (uint64_t seed = 1000; seed < 1100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Dice dice(seed);
    const Plan plan = PlanOfShares(program, {.device = dice.Share(),
                                             .host = dice.Share(),
                                             .cpu = dice.Share(),
                                             .slots = 16,
                                             .device_slots = 12});
    ratios.push_back(Compare(program, plan, RandomCeilings(&dice)).ratio);
  }
  ExpectWithin(ratios, 1.02, 1.35);
}

}  // namespace
}  // namespace weir
