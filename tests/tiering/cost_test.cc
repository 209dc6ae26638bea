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

}  // namespace
}  // namespace weir
