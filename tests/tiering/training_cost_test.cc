#include "tiering/training_cost.h"

#include <gtest/gtest.h>

#include <string>

namespace weir {
namespace {

// Two layers of 8 columns with 2 query heads and 1 KV head of 4, 16
// feed-forward columns, and a tied table of 10 rows: by hand 2 x (8x8 + 4x8 +
// 4x8 + 8x8 + 3 x 16x8) + 80 = 1232 parameters.
TrainingShape Tied() {
  TrainingShape shape;
  shape.parameters = shape.multiplied_parameters = 1232;
  shape.weight_bytes = shape.multiplied_bytes = 2464;  // two bytes each
  shape.columns = 8;
  shape.key_columns = shape.value_columns = 4;
  shape.vocabulary = 10;
  shape.layers.assign(2, {.heads = 2, .kv_heads = 1, .feed_forward_columns = 16});
  return shape;
}

// A second table of 80 that is only looked up.
TrainingShape Untied() {
  TrainingShape shape = Tied();
  shape.parameters += 80;
  shape.weight_bytes += 160;
  return shape;
}

double Sum(const TrainingShape& shape, TrainingLink link, bool is_write, bool recomputes = false) {
  double bytes = 0;
  for (const TrainingFlow& flow : TrainingFlows(shape, 3, recomputes)) {
    if (flow.link == link && flow.is_write == is_write) bytes += flow.bytes;
  }
  return bytes;
}

TEST(TrainingCost, ReadsTwiceTheWeightsAndSixteenBytesAParameter) {
  EXPECT_DOUBLE_EQ(Sum(Tied(), TrainingLink::kDisk, false), 2 * 2464 + 16 * 1232);
  EXPECT_DOUBLE_EQ(Sum(Tied(), TrainingLink::kDisk, true), 2464 + 16 * 1232);
  EXPECT_DOUBLE_EQ(Sum(Untied(), TrainingLink::kDisk, false), 2 * 2464 + 16 * 1312)
      << "a table that is looked up is trained, not read as a whole";
  EXPECT_DOUBLE_EQ(Sum(Untied(), TrainingLink::kDisk, true), 2624 + 16 * 1312);
}

TEST(TrainingCost, PhasesAreTheirFlows) {
  const TrainingWork forward = WorkOf(Untied(), TrainingPhase::kForward, 5, false);
  EXPECT_DOUBLE_EQ(forward.read_bytes, 2464);
  EXPECT_DOUBLE_EQ(forward.written_bytes, 0);
  EXPECT_DOUBLE_EQ(forward.operations, 5 * 2 * 1232);
  EXPECT_DOUBLE_EQ(forward.updated_parameters, 0);
  const TrainingWork backward = WorkOf(Untied(), TrainingPhase::kBackward, 5, false);
  EXPECT_DOUBLE_EQ(backward.read_bytes, 2464 + 16 * 1312);
  EXPECT_DOUBLE_EQ(backward.written_bytes, 2624 + 16 * 1312);
  EXPECT_DOUBLE_EQ(backward.operations, 5 * 4 * 1232);
  EXPECT_DOUBLE_EQ(backward.updated_parameters, 1312);
  EXPECT_DOUBLE_EQ(WorkOf(Untied(), TrainingPhase::kBackward, 5, true).operations, 5 * 6 * 1232);
}

TEST(TrainingCost, ActivationsByHand) {
  TrainingShape shape = Tied();
  // 4x8, q 8, k 4, v 4, attended 8 and 2 sums, 3x16.
  EXPECT_DOUBLE_EQ(LayerActivationFloats(shape, shape.layers[0]), 32 + 8 + 4 + 4 + 10 + 48);
  // The head: 2x8 and 10.
  EXPECT_DOUBLE_EQ(KeptActivationBytes(shape), 4 * (2 * 106 + 26));
  EXPECT_DOUBLE_EQ(RecomputedActivationBytes(shape), 4 * (2 * 8 + 106));
  shape.layers[1].has_head_norms = true;
  shape.layers[1].has_post_norms = true;
  EXPECT_DOUBLE_EQ(LayerActivationFloats(shape, shape.layers[1]), 106 + 12 + 16);
  EXPECT_DOUBLE_EQ(RecomputedActivationBytes(shape), 4 * (2 * 8 + 134)) << "the largest layer's";
  shape.vocabulary = 1000;
  EXPECT_DOUBLE_EQ(RecomputedActivationBytes(shape), 4 * (2 * 8 + 1016)) << "the head's";
}

TEST(TrainingCost, MemoryCarriesTheDisksBytesTwiceAndActivations) {
  const double read = 2 * 2464 + 16 * 1232, written = 2464 + 16 * 1232;
  const double kept = 3 * 4 * (2 * 106 + 26);
  EXPECT_DOUBLE_EQ(Sum(Tied(), TrainingLink::kDram, true), read + written + kept);
  EXPECT_DOUBLE_EQ(Sum(Tied(), TrainingLink::kDram, false), read + written + kept);
  const double inputs = 3 * 4 * 2 * 8;
  EXPECT_DOUBLE_EQ(Sum(Tied(), TrainingLink::kDram, true, true), read + written + kept + inputs);
}

TEST(TrainingCost, TrafficAtTheMixedRateWhereBothRun) {
  TrainingCeilings ceilings = {.read_bytes_per_s = 10, .write_bytes_per_s = 5};
  EXPECT_DOUBLE_EQ(TrafficSeconds(100, 0, ceilings), 10);
  EXPECT_DOUBLE_EQ(TrafficSeconds(100, 100, ceilings), 20) << "neither slows the other";
  ceilings.mixed_bytes_per_s = 8;
  EXPECT_DOUBLE_EQ(TrafficSeconds(100, 0, ceilings), 10);
  EXPECT_DOUBLE_EQ(TrafficSeconds(100, 40, ceilings), 80.0 / 8 + 60.0 / 10);
  EXPECT_DOUBLE_EQ(TrafficSeconds(40, 100, ceilings), 80.0 / 8 + 60.0 / 5);
}

TEST(TrainingCost, APhaseTakesTheLongerAndOneUnitOfTheOther) {
  TrainingCeilings ceilings = {.read_bytes_per_s = 10,
                               .write_bytes_per_s = 10,
                               .operations_per_s = 100,
                               .update_parameters_per_s = 50};
  const TrainingWork work = {.read_bytes = 60, .operations = 200, .updated_parameters = 100};
  const PhaseTimes times = PredictPhase(work, 4, ceilings);
  EXPECT_DOUBLE_EQ(times.disk_s, 6);
  EXPECT_DOUBLE_EQ(times.compute_s, 2 + 2);
  EXPECT_DOUBLE_EQ(times.total_s, 6 + 1);
  EXPECT_DOUBLE_EQ(PredictPhase(work, 1, ceilings).total_s, 10) << "one after the other";
  ceilings.core_s_per_disk_byte = 0.05;
  EXPECT_DOUBLE_EQ(PredictPhase(work, 4, ceilings).compute_s, 4 + 60 * 0.05);
}

TEST(TrainingCost, BreakEvenIsWhereArithmeticFillsTheDisksTime) {
  const TrainingShape shape = Tied();
  const TrainingCeilings ceilings = {.read_bytes_per_s = 1000,
                                     .write_bytes_per_s = 1000,
                                     .mixed_bytes_per_s = 1000,
                                     .operations_per_s = 1e6};
  const TrainingPrediction prediction = PredictTraining(shape, false, ceilings);
  const double moved = 3 * 2464 + 32 * 1232;
  EXPECT_NEAR(prediction.disk_s_per_step, moved / 1000, 1e-9);
  EXPECT_NEAR(prediction.compute_s_per_token, 6 * 1232 / 1e6, 1e-12);
  EXPECT_NEAR(prediction.break_even_tokens, moved / 1000 / (6 * 1232 / 1e6), 1e-6);
  // Backward: all but the forward's weights, for 4 operations of a parameter.
  EXPECT_NEAR(prediction.hidden_tokens, (moved - 2464) / 1000 / (4 * 1232 / 1e6), 1e-6);
  const TrainingPrediction again = PredictTraining(shape, true, ceilings);
  EXPECT_NEAR(again.break_even_tokens, prediction.break_even_tokens * 6 / 8, 1e-6);
  // At that many tokens the parts of many units overlap wholly.
  const double tokens = prediction.hidden_tokens;
  EXPECT_NEAR(PredictStepSeconds(shape, tokens, false, 1e9, ceilings),
              tokens * prediction.compute_s_per_token, 1e-6);
}

}  // namespace
}  // namespace weir
