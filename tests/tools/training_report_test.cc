#include "tools/training_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "io/base.h"
#include "io/scratch_space.h"
#include "tools/measure_training.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

// A thousand million parameters of one byte in one layer, a disk of 1 GB/s whatever it does, and
// 1e12 operations a second: 3 + 32 GB, 35 s a step, 6 ms a token.
TrainingShape BigShape() {
  TrainingShape shape;
  shape.parameters = shape.multiplied_parameters = shape.weight_bytes = shape.multiplied_bytes =
      1e9;
  shape.columns = 100;
  shape.key_columns = shape.value_columns = 10;
  shape.vocabulary = 1000;
  shape.layers = {{.heads = 4, .kv_heads = 2, .feed_forward_columns = 50}};
  return shape;
}

TrainingProbeResult Measured() {
  TrainingProbeResult measured;
  measured.ceilings = {.read_bytes_per_s = 1e9,
                       .write_bytes_per_s = 1e9,
                       .mixed_bytes_per_s = 1e9,
                       .operations_per_s = 1e12};
  measured.scale = 0.1;
  measured.tokens = 1000;
  measured.units = 100;
  measured.read_bytes = 1'800'000'000;
  measured.written_bytes = 1'700'000'000;
  measured.forward = {.predicted = {0.1, 0.2, 0.201}, .achieved_s = 0.2};
  measured.backward = {.predicted = {3.4, 0.4, 3.404}, .achieved_s = 3.4};
  return measured;
}

std::unique_ptr<Model> LoadTiny() {
  auto model = LoadModel("tests/data/tiny.gguf");
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
}

TEST(TrainingReport, FollowsFromShapeAndCeilings) {
  const TrainingReport report = MakeTrainingReport(BigShape(), Measured());
  EXPECT_NEAR(report.prediction.disk_s_per_step, 35, 1e-9);
  EXPECT_NEAR(report.prediction.compute_s_per_token, 0.006, 1e-12);
  EXPECT_NEAR(report.prediction.break_even_tokens, 35 / 0.006, 1e-6);
  EXPECT_NEAR(report.prediction.hidden_tokens, 34 / 0.004, 1e-6) << "backward, which moves more";
  // Of 1000 units: forward 2 s of arithmetic over 1 of disk, backward 34 of disk over 4.
  EXPECT_NEAR(report.predicted_step_s, 2 + 0.001 + 34 + 0.004, 1e-9);
  EXPECT_THAT(TrainingSentence(report), HasSubstr("moves for 35 s; arithmetic takes as long from "
                                                  "5833 tokens a step"));
}

TEST(TrainingReport, TextAndJsonSayTheSame) {
  const TrainingReport report = MakeTrainingReport(BigShape(), Measured());
  const std::string text = TrainingToText(report);
  EXPECT_THAT(text, HasSubstr("measured: a step of 1000 tokens with 10 % of the parameters"));
  EXPECT_THAT(text, HasSubstr("step           3.500     0.600      3.605      3.600   +0.1 %"));
  EXPECT_THAT(text, HasSubstr("master weights"));
  const nlohmann::json json = TrainingToJson(report);
  EXPECT_EQ(json["parameters"], 1e9);
  double read = 0, written = 0;
  for (const nlohmann::json& flow : json["flows"]) {
    ASSERT_TRUE(flow["direction"] == "read" || flow["direction"] == "write");
    if (flow["link"] != "disk") continue;
    (flow["direction"] == "read" ? read : written) += flow["bytes"].get<double>();
  }
  EXPECT_DOUBLE_EQ(read, 18e9);
  EXPECT_DOUBLE_EQ(written, 17e9);
  EXPECT_EQ(json["operations_per_token"], 6e9);
  EXPECT_EQ(json["recompute_operations_per_token"], 2e9);
  EXPECT_EQ(json["activations"]["keep_bytes_per_token"], report.kept_bytes);
  EXPECT_EQ(json["activations"]["recompute_bytes_per_token"], report.recomputed_bytes);
  EXPECT_EQ(json["measured"]["scale"], 0.1);
  EXPECT_EQ(json["measured"]["tokens"], 1000);
  EXPECT_EQ(json["measured"]["read_bytes"], 1'800'000'000);
  EXPECT_NEAR(json["measured"]["error"].get<double>(), 3.605 / 3.6 - 1, 1e-12);
  EXPECT_EQ(json["sentence"], TrainingSentence(report));
}

// ---- one call

TEST(MeasureTraining, ReportsOneStep) {
  const std::unique_ptr<Model> model = LoadTiny();
  const auto folder = ChooseScratchFolder("", *model);
  if (!folder.ok()) GTEST_SKIP() << folder.status();
  TrainingMeasureOptions options;
  options.scratch_folder = *folder;
  options.scratch_bytes = 8 * kMiB;
  options.tokens = 4;
  options.threads = 2;
  double last = 0;
  const auto report = MeasureTraining(*model, options, [&](double share) { last = share; });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_GT(last, 0.9);
  EXPECT_EQ(report->measured.tokens, 4u);
  EXPECT_GT(report->measured.scale, 0);
  EXPECT_GT(report->parameters, 0);
}

TEST(MeasureTraining, ChoosesAFolderOnADisk) {
  const std::unique_ptr<Model> model = LoadTiny();
  const auto chosen = ChooseScratchFolder("", *model);
  if (chosen.ok()) {
    EXPECT_FALSE(LiesInMemory(*chosen));
  } else {
    EXPECT_THAT(std::string(chosen.status().message()), HasSubstr("--scratch: none of"));
  }
  EXPECT_EQ(*ChooseScratchFolder("/proc", *model), "/proc");
  if (LiesInMemory("/dev/shm")) {
    const absl::Status status = ChooseScratchFolder("/dev/shm", *model).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("--scratch: /dev/shm lies in memory"));
  }
}

TEST(MeasureTraining, RefusesSpaceThatIsNotThere) {
  const std::unique_ptr<Model> model = LoadTiny();
  TrainingMeasureOptions options;
  options.scratch_folder = "/proc/self";  // no room at all
  const absl::Status status = MeasureTraining(*model, options, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

}  // namespace
}  // namespace weir
