#include "tiering/cost.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(CostTest, TheSlowerLinkDecides) {
  const Ceilings ceilings{.disk_bytes_per_s = 2e9, .compute_bytes_per_s = 10e9};
  const Prediction disk =
      Predict({.streamed_bytes = 4'000'000'000, .computed_bytes = 10'000'000'000}, ceilings);
  EXPECT_DOUBLE_EQ(disk.disk_s, 2.0);
  EXPECT_DOUBLE_EQ(disk.compute_s, 1.0);
  EXPECT_DOUBLE_EQ(disk.pass_s, 2.0);
  EXPECT_DOUBLE_EQ(disk.decode_tokens_per_s, 0.5);
  EXPECT_EQ(disk.bottleneck, "disk");

  const Prediction compute =
      Predict({.streamed_bytes = 1'000'000'000, .computed_bytes = 10'000'000'000}, ceilings);
  EXPECT_DOUBLE_EQ(compute.pass_s, 1.0);
  EXPECT_DOUBLE_EQ(compute.decode_tokens_per_s, 1.0);
  EXPECT_EQ(compute.bottleneck, "compute");
}

TEST(CostTest, WhatWasNotMeasuredIsNotPredicted) {
  const PassBytes pass{.streamed_bytes = 1000, .computed_bytes = 2000};
  EXPECT_EQ(Predict(pass, {}).decode_tokens_per_s, 0);
  EXPECT_EQ(Predict(pass, {.disk_bytes_per_s = 1e9}).decode_tokens_per_s, 0);
  const Prediction no_disk = Predict(pass, {.compute_bytes_per_s = 1e9});
  EXPECT_EQ(no_disk.decode_tokens_per_s, 0);
  EXPECT_EQ(no_disk.bottleneck, "");
}

TEST(CostTest, ADiskThatIsNotReadNeedsNoCeiling) {
  const Prediction prediction =
      Predict({.streamed_bytes = 0, .computed_bytes = 2000}, {.compute_bytes_per_s = 1000});
  EXPECT_DOUBLE_EQ(prediction.pass_s, 2.0);
  EXPECT_EQ(prediction.disk_s, 0);
  EXPECT_EQ(prediction.bottleneck, "compute");
}

TEST(CostTest, NothingToDoPredictsNothing) {
  const Prediction prediction = Predict({}, {.disk_bytes_per_s = 1e9, .compute_bytes_per_s = 1e9});
  EXPECT_EQ(prediction.pass_s, 0);
  EXPECT_EQ(prediction.decode_tokens_per_s, 0);
}

Ceilings AcceleratorCeilings() {
  Ceilings ceilings;
  ceilings.disk_bytes_per_s = 1e9;
  ceilings.link_bytes_per_s = 4e9;
  ceilings.link_latency_ns = 1'000'000;
  return ceilings;
}

TEST(CostTest, WithAnAcceleratorTheSlowestLegDecides) {
  const Ceilings ceilings = AcceleratorCeilings();
  AcceleratedPass pass{.streamed_bytes = 2'000'000'000,
                       .copied_bytes = 4'000'000'000,
                       .groups = {{.compute_s = 0.1, .host_compute_s = 0.3}, {.compute_s = 0.2}}};
  const Prediction disk = PredictAccelerated(pass, ceilings);
  EXPECT_DOUBLE_EQ(disk.disk_s, 2.0);
  EXPECT_DOUBLE_EQ(disk.link_s, 1.0);
  EXPECT_DOUBLE_EQ(disk.compute_s, 0.1 + 0.2);
  EXPECT_DOUBLE_EQ(disk.host_compute_s, 0.3);
  EXPECT_DOUBLE_EQ(disk.pass_s, 2.0);
  EXPECT_EQ(disk.bottleneck, "disk");
  pass.streamed_bytes /= 4;
  EXPECT_EQ(PredictAccelerated(pass, ceilings).bottleneck, "link");
  EXPECT_DOUBLE_EQ(PredictAccelerated(pass, ceilings).decode_tokens_per_s, 1.0);
}

// Devices overlap within a group only, and a group with steps on the CPU waits for activations to
// cross twice.
TEST(CostTest, TheComputePathIsSummedGroupByGroup) {
  const Ceilings ceilings = AcceleratorCeilings();
  const AcceleratedPass together{.groups = {{0.5, 0.5}, {0.5, 0.5}}};
  EXPECT_DOUBLE_EQ(PredictAccelerated(together, ceilings).pass_s, 1.0 + 2 * 0.002);
  const AcceleratedPass apart{.groups = {{1.0, 0.0}, {0.0, 1.0}}};
  const Prediction prediction = PredictAccelerated(apart, ceilings);
  EXPECT_DOUBLE_EQ(prediction.pass_s, 2.0 + 0.002);
  EXPECT_EQ(prediction.bottleneck, "compute");
  const AcceleratedPass on_cpu{.groups = {{0.5, 0.6}}};
  EXPECT_EQ(PredictAccelerated(on_cpu, ceilings).bottleneck, "cpu");
}

TEST(CostTest, WithAnAcceleratorTooOnlyWhatWasMeasuredIsPredicted) {
  AcceleratedPass pass{.streamed_bytes = 1, .copied_bytes = 1, .groups = {{1.0, 1.0}}};
  Ceilings ceilings = AcceleratorCeilings();
  ceilings.disk_bytes_per_s = 0;
  EXPECT_EQ(PredictAccelerated(pass, ceilings).decode_tokens_per_s, 0);
  ceilings = AcceleratorCeilings();
  ceilings.link_bytes_per_s = 0;
  EXPECT_EQ(PredictAccelerated(pass, ceilings).decode_tokens_per_s, 0);
  EXPECT_EQ(PredictAccelerated(pass, ceilings).bottleneck, "");
  pass.copied_bytes = 0;  // then it is not needed
  EXPECT_GT(PredictAccelerated(pass, ceilings).decode_tokens_per_s, 0);
}

}  // namespace
}  // namespace weir
