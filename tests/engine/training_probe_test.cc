#include "engine/training_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/training_traffic.h"
#include "engine/training_units.h"
#include "io/scratch_space.h"
#include "kernels/cpu_device.h"
#include "tests/engine/engine_helper.h"
#include "tests/io/fake_root_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

// ---- units

TEST(TrainingUnits, ShapeCountsTheMatricesOnce) {
  const std::unique_ptr<Model> model = LoadTiny();
  const TrainingShape shape = TrainingShapeOf(*model);
  double elements = 0, bytes = 0;
  for (const TensorInfo& tensor : model->index.tensors) {
    if (tensor.dims.size() < 2) continue;
    elements += static_cast<double>(tensor.rows() * tensor.columns());
    bytes += static_cast<double>(tensor.bytes);
  }
  EXPECT_DOUBLE_EQ(shape.parameters, elements);
  EXPECT_DOUBLE_EQ(shape.weight_bytes, bytes);
  const TensorInfo& embedding = *model->tensors.embedding;
  const double looked_up = model->tensors.output == &embedding
                               ? 0
                               : static_cast<double>(embedding.rows() * embedding.columns());
  EXPECT_DOUBLE_EQ(shape.multiplied_parameters, elements - looked_up);
  EXPECT_EQ(shape.layers.size(), model->config.layers.size());
  EXPECT_EQ(shape.layers[0].kv_heads, model->config.layers[0].kv_heads);
}

TEST(TrainingUnits, CoverEveryRowOnceAndNeverOverlapOnDisk) {
  const std::unique_ptr<Model> model = LoadTiny();
  const auto units =
      CutTrainingUnits(*model, {.unit_parameters = 4096, .scratch_bytes = uint64_t{1} << 40});
  ASSERT_TRUE(units.ok()) << units.status();
  EXPECT_DOUBLE_EQ(units->parameters(), TrainingShapeOf(*model).multiplied_parameters);
  uint64_t at_bytes = 0;
  const TensorInfo* tensor = nullptr;
  uint64_t row = 0;
  for (const TrainingUnit& unit : units->units) {
    if (unit.tensor != tensor) {
      if (tensor != nullptr) {
        EXPECT_EQ(row, tensor->rows()) << tensor->name;
      }
      tensor = unit.tensor;
      row = 0;
    }
    EXPECT_EQ(unit.first_row, row);
    row += unit.rows;
    EXPECT_EQ(unit.gradient_offset_bytes, at_bytes);
    EXPECT_GE(unit.float_bytes, unit.parameters * 4);
    EXPECT_EQ(unit.state_offset_bytes, at_bytes + unit.float_bytes);
    at_bytes = unit.scratch_end_bytes();
    EXPECT_EQ(at_bytes % 4096, 0u);
    const uint64_t row_bytes = RowBytes(tensor->dtype, tensor->columns());
    EXPECT_EQ(unit.weights.offset_bytes + unit.weights.head_bytes,
              tensor->offset_bytes + unit.first_row * row_bytes);
    EXPECT_GE(unit.weights_required_bytes, unit.weights.head_bytes + unit.rows * row_bytes);
  }
  EXPECT_EQ(tensor, model->tensors.output) << "the head comes last";
}

TEST(TrainingUnits, TakeWhatTheScratchHolds) {
  const std::unique_ptr<Model> model = LoadTiny();
  const auto all =
      CutTrainingUnits(*model, {.unit_parameters = 4096, .scratch_bytes = uint64_t{1} << 40});
  const uint64_t first_two_bytes = all->units[1].scratch_end_bytes();
  const auto two =
      CutTrainingUnits(*model, {.unit_parameters = 4096, .scratch_bytes = first_two_bytes + 4095});
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(two->units.size(), 2u);
  EXPECT_NEAR(two->scale(), two->parameters() / TrainingShapeOf(*model).parameters, 1e-12);
  const absl::Status none =
      CutTrainingUnits(*model, {.unit_parameters = 4096, .scratch_bytes = 4096}).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(none.message()),
              HasSubstr(std::to_string(all->units[0].scratch_end_bytes())));
}

// ---- the step

class TrainingProbeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = LoadTiny();
    options_.folder = folder_.path();
    options_.scratch_bytes = 2 * kMiB;
    options_.tokens = 3;
    options_.unit_parameters = 8192;
    options_.slots = 3;
    options_.threads = 2;
    options_.chunk_bytes = 64 * kKiB;
    options_.ceiling_ns = 2'000'000;
  }

  FakeRoot folder_;
  std::unique_ptr<Model> model_;
  TrainingProbeOptions options_;
};

TEST_F(TrainingProbeTest, MovesWhatItSaysAndLeavesNothing) {
  for (const char* reader : {"threads", "auto"}) {
    options_.reader = reader;
    std::vector<double> shares;
    const auto result = ProbeTraining(*model_, options_, [&](double share) {
      EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
      shares.push_back(share);
      return true;
    });
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
    EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
    EXPECT_GT(result->units, options_.slots) << "slots were never used again";
    EXPECT_LE(result->scratch_bytes, options_.scratch_bytes);
    // The same units again, by their own account.
    auto units = CutTrainingUnits(*model_, {.unit_parameters = options_.unit_parameters,
                                            .scratch_bytes = options_.scratch_bytes});
    ASSERT_TRUE(units.ok()) << units.status();
    units->units.resize(result->units);
    double read_bytes = 0, written_bytes = 0;
    for (const TrainingPhase phase : {TrainingPhase::kForward, TrainingPhase::kBackward}) {
      const TrainingWork work = WorkOfUnits(*units, phase, 3, false);
      read_bytes += work.read_bytes;
      written_bytes += work.written_bytes;
    }
    EXPECT_DOUBLE_EQ(static_cast<double>(result->read_bytes), read_bytes);
    EXPECT_DOUBLE_EQ(static_cast<double>(result->written_bytes), written_bytes);
    EXPECT_GT(result->achieved_s(), 0);
    EXPECT_GT(result->predicted_s(), 0);
    EXPECT_GT(result->ceilings.mixed_bytes_per_s, 0);
    EXPECT_GT(result->ceilings.update_parameters_per_s, 0);
    EXPECT_NEAR(result->error(), result->predicted_s() / result->achieved_s() - 1, 1e-12);
  }
}

TEST_F(TrainingProbeTest, ALongStepIsShortened) {
  options_.limit_s = 1e-9;
  const auto result = ProbeTraining(*model_, options_, nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->units, 1u);
}

TEST_F(TrainingProbeTest, EndsWhenToldWhereverItIs) {
  // While it fills, at each ceiling, in each phase.
  for (const double stop : {0.0, 0.3, 0.45, 0.5, 0.61, 0.8}) {
    const auto result =
        ProbeTraining(*model_, options_, [&](double share) { return share < stop; });
    EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled) << stop;
    EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  }
}

TEST_F(TrainingProbeTest, RefusesWhatDoesNotFitBeforeItWrites) {
  // A file system that has no room at all.
  options_.folder = "/proc/self";
  int calls = 0;
  const auto result = ProbeTraining(*model_, options_, [&](double) {
    ++calls;
    return true;
  });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted) << result.status();
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("are free"));
  EXPECT_EQ(calls, 0);
}

TEST_F(TrainingProbeTest, OptionsOutOfRange) {
  for (int i = 0; i < 5; ++i) {
    TrainingProbeOptions options = options_;
    if (i == 0) options.tokens = 0;
    if (i == 1) options.slots = 1;
    if (i == 2) options.limit_s = 0;
    if (i == 3) options.threads = 0;
    if (i == 4) options.scratch_bytes = 100;
    EXPECT_EQ(ProbeTraining(*model_, options, nullptr).status().code(),
              absl::StatusCode::kInvalidArgument)
        << i;
  }
}

// A whole pass through the pipeline by hand: what lies in the scratch file afterwards.
class TrainingStepTest : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = LoadTiny();
    auto units = CutTrainingUnits(*model_, {.unit_parameters = 8192, .scratch_bytes = kMiB});
    ASSERT_TRUE(units.ok()) << units.status();
    units_ = *std::move(units);
    auto scratch = ScratchSpace::Create(folder_.path(), units_.scratch_bytes());
    ASSERT_TRUE(scratch.ok()) << scratch.status();
    scratch_ = *std::move(scratch);
    auto device = MakeCpuDevice({.threads = 2});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    stream_ = device_->NewStream();
    std::string note;
    auto reader = MakeReader("auto", {.chunk_bytes = 64 * kKiB}, &note);
    ASSERT_TRUE(reader.ok()) << reader.status();
    reader_ = *std::move(reader);
    MakeWriter(&::pwrite);
    auto memory = device_->Allocate(2 * SlotBytes(units_), 4096, Touch::kNow);
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
    input_.resize(InputFloats(units_, kTokens), 0.5f);
    output_.resize(OutputFloats(units_, kTokens));
    bench_ = {.model = model_.get(),
              .scratch = &scratch_->file(),
              .reader = reader_.get(),
              .writer = writer_.get(),
              .stream = static_cast<CpuStream*>(stream_.get()),
              .tokens = kTokens,
              .input = absl::MakeSpan(input_),
              .output = absl::MakeSpan(output_),
              .slots = {}};
    for (uint64_t i = 0; i < 2; ++i) {
      bench_.slots.push_back({memory_->data() + i * SlotBytes(units_), SlotBytes(units_)});
    }
  }

  void MakeWriter(PwriteFunction pwrite) {
    FileWriterOptions options;
    options.chunk_bytes = 64 * kKiB;
    options.wake = [](void* reader) { static_cast<Reader*>(reader)->Wake(); };
    options.wake_argument = reader_.get();
    options.pwrite = pwrite;
    auto writer = FileWriter::Create(scratch_->descriptor(), "scratch", options);
    ASSERT_TRUE(writer.ok()) << writer.status();
    writer_ = *std::move(writer);
    bench_.writer = writer_.get();
  }

  static constexpr uint32_t kTokens = 2;
  FakeRoot folder_;
  std::unique_ptr<Model> model_;
  TrainingUnits units_;
  std::unique_ptr<Buffer> memory_;
  std::vector<float> input_, output_;
  std::unique_ptr<ScratchSpace> scratch_;
  std::unique_ptr<Reader> reader_;
  std::unique_ptr<FileWriter> writer_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  TrainingBench bench_;
};

TEST_F(TrainingStepTest, BackwardUpdatesEveryStateAndWritesTheWeights) {
  // Everything zero but the gradients, which are the memory's: ones.
  ASSERT_EQ(ftruncate(scratch_->descriptor(), 0), 0);
  ASSERT_EQ(ftruncate(scratch_->descriptor(), static_cast<off_t>(units_.scratch_bytes())), 0);
  for (const absl::Span<uint8_t> slot : bench_.slots) {
    std::fill_n(reinterpret_cast<float*>(slot.data()), slot.size() / 4, 1.0f);
  }
  // Only where units have the same room for gradients in a slot are the ones left alone.
  const std::vector<TrainingUnit> two = {units_.units[0], units_.units[1]};
  const absl::Status status = RunTrainingPhase(bench_, two, TrainingPhase::kBackward, nullptr);
  ASSERT_TRUE(status.ok()) << status;
  for (const TrainingUnit& unit : two) {
    std::vector<float> floats((unit.float_bytes + unit.state_bytes()) / 4);
    ASSERT_TRUE(scratch_->file()
                    .ReadExactly(unit.gradient_offset_bytes,
                                 {reinterpret_cast<uint8_t*>(floats.data()), floats.size() * 4})
                    .ok());
    const uint64_t stride = unit.float_bytes / 4;
    for (const uint64_t i : {uint64_t{0}, unit.parameters - 1}) {
      EXPECT_EQ(floats[i], 1) << "gradient";
      EXPECT_NEAR(floats[stride + i], 0.1, 1e-6) << "m";
      EXPECT_NEAR(floats[2 * stride + i], 0.001, 1e-6) << "v";
      EXPECT_LT(floats[3 * stride + i], 0) << "master weights go against the gradient";
    }
    std::vector<uint8_t> written(unit.weights_required_bytes), own(unit.weights_required_bytes);
    ASSERT_TRUE(
        scratch_->file()
            .ReadExactly(unit.state_offset_bytes + unit.state_bytes(), absl::MakeSpan(written))
            .ok());
    ASSERT_TRUE(model_->files[0]->ReadExactly(unit.weights.offset_bytes, absl::MakeSpan(own)).ok());
    EXPECT_EQ(written, own) << "the weights are the model's own bytes";
  }
}

TEST_F(TrainingStepTest, AFullDiskEndsItWithAnError) {
  MakeWriter([](int, const void*, size_t, off_t) -> ssize_t {
    errno = ENOSPC;
    return -1;
  });
  const absl::Status status =
      RunTrainingPhase(bench_, units_.units, TrainingPhase::kBackward, nullptr);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(reader_->in_flight(), 0u);
  EXPECT_EQ(writer_->in_flight(), 0u);
}

TEST_F(TrainingStepTest, TrafficIsBalanced) {
  TrafficOptions options;
  options.reads = &scratch_->file();
  options.writes = true;
  options.op_bytes = 4096;
  options.region_bytes = 16 * 4096;
  options.limit_bytes = 100 * 4096;
  const auto result = MeasureTraffic(bench_, bench_.slots[0], options, [] { return true; });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->read_bytes, 50u * 4096);
  EXPECT_EQ(result->written_bytes, 50u * 4096);
  EXPECT_NEAR(result->bytes_per_s() * result->seconds, 100 * 4096, 1);
}

}  // namespace
}  // namespace weir
