// `weir quantize` without a process: what becomes of each tensor, the same bytes from any number of
// threads and from split files, and refusals that leave nothing behind.
#include "tools/quantize_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/dequantize.h"
#include "models/gguf.h"
#include "models/synthetic.h"
#include "tools/exit_codes.h"

namespace weir {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<float> Values(const std::string& file, const TensorInfo& tensor) {
  std::vector<float> values(tensor.columns() * tensor.rows());
  const auto* bytes = reinterpret_cast<const uint8_t*>(file.data()) + tensor.offset_bytes;
  DequantizeRow(tensor.dtype, bytes, values.size(), values.data());
  return values;
}

class QuantizeModelTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/quantize_model_test";
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    target_ = folder_ + "/target.gguf";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static GgufWriteOptions Quick() {
    GgufWriteOptions options;
    options.overwrite = true;
    options.sync = false;
    return options;
  }
  std::string Synthetic(const std::string& format, uint32_t columns = 256, uint32_t layers = 2) {
    const std::string path = folder_ + "/source.gguf";
    SyntheticSpec spec;
    spec.format = format;
    spec.columns = columns;
    spec.layers = layers;
    const auto written = WriteSynthetic(path, spec, Quick());
    EXPECT_TRUE(written.ok()) << written.status();
    return path;
  }
  absl::StatusOr<QuantizeResult> Quantize(const std::string& source, DType format,
                                          uint32_t threads = 2) {
    QuantizeOptions options;
    options.formats.matrices = format;
    options.threads = threads;
    options.overwrite = true;
    options.sync = false;
    notes_.clear();
    options.note = [this](const std::string& note) { notes_.push_back(note); };
    return QuantizeModel(source, target_, options);
  }
  std::vector<std::string> FilesLeft() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  std::string folder_, target_;
  std::vector<std::string> notes_;
};

TEST_F(QuantizeModelTest, MatricesChangeAndVectorsStay) {
  const std::string source = Synthetic("F32");
  const auto result = Quantize(source, DType::kQ8_0);
  ASSERT_TRUE(result.ok()) << result.status();
  const auto before = OpenGguf(source), after = OpenGguf(target_);
  ASSERT_TRUE(before.ok() && after.ok());
  const std::string old_bytes = ReadAll(source), new_bytes = ReadAll(target_);
  EXPECT_EQ(result->file_bytes, new_bytes.size());
  uint64_t matrices = 0;
  for (size_t i = 0; i < after->tensors.size(); ++i) {
    const TensorInfo &was = before->tensors[i], &is = after->tensors[i];
    SCOPED_TRACE(is.name);
    ASSERT_EQ(was.name, is.name);
    ASSERT_EQ(was.dims, is.dims);
    const bool is_matrix = is.dims.size() > 1;
    EXPECT_EQ(is.dtype, is_matrix ? DType::kQ8_0 : DType::kF32);
    matrices += is_matrix ? 1 : 0;
    const std::vector<float> old_values = Values(old_bytes, was), got = Values(new_bytes, is);
    float most = 0;
    for (const float value : old_values) most = std::max(most, std::fabs(value));
    for (size_t k = 0; k < got.size(); ++k) {
      ASSERT_NEAR(got[k], old_values[k], is_matrix ? most / 200 : 0) << k;
    }
  }
  EXPECT_EQ(result->changed_count, matrices);
  EXPECT_EQ(*after->metadata.GetUint("general.file_type"), 7u);
  for (const auto& [key, value] : before->metadata.entries()) {
    EXPECT_TRUE(after->metadata.Has(key)) << key;
  }
  EXPECT_TRUE(notes_.empty());
}

// Sources in every format, so that pieces begin inside blocks of the source; the last piece of a
// tensor is short.
TEST_F(QuantizeModelTest, ThreadsMakeNoDifference) {
  const std::string source = Synthetic("mixed", 2048, 1);
  for (const DType format : {DType::kQ4_0, DType::kBF16}) {
    ASSERT_TRUE(Quantize(source, format, 1).ok());
    const std::string want = ReadAll(target_);
    ASSERT_TRUE(Quantize(source, format, 3).ok());
    EXPECT_TRUE(ReadAll(target_) == want);
  }
}

TEST_F(QuantizeModelTest, FloatsTellWhatTheSourceHeld) {
  const std::string source = Synthetic("mixed");
  ASSERT_TRUE(Quantize(source, DType::kF32).ok());
  const auto before = OpenGguf(source), after = OpenGguf(target_);
  const std::string old_bytes = ReadAll(source), new_bytes = ReadAll(target_);
  for (size_t i = 0; i < after->tensors.size(); ++i) {
    EXPECT_TRUE(Values(old_bytes, before->tensors[i]) == Values(new_bytes, after->tensors[i]))
        << after->tensors[i].name;
  }
  EXPECT_THAT(notes_, Contains(HasSubstr("in Q4_K already: what that lost stays lost")));
}

TEST_F(QuantizeModelTest, WhatIsInTheFormatIsCopied) {
  const std::string source = Synthetic("Q4_K");
  const auto result = Quantize(source, DType::kQ4_K);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->changed_count, 0u);
  const auto before = OpenGguf(source), after = OpenGguf(target_);
  const std::string old_bytes = ReadAll(source), new_bytes = ReadAll(target_);
  for (size_t i = 0; i < after->tensors.size(); ++i) {
    const TensorInfo &was = before->tensors[i], &is = after->tensors[i];
    EXPECT_TRUE(old_bytes.substr(was.offset_bytes, was.bytes) ==
                new_bytes.substr(is.offset_bytes, is.bytes));
  }
}

// The same tensors in two files, as llama.cpp splits models.
TEST_F(QuantizeModelTest, SplitSourcesBecomeOneFile) {
  const std::string source = Synthetic("F32");
  ASSERT_TRUE(Quantize(source, DType::kQ5_1).ok());
  const std::string want = ReadAll(target_);
  const auto index = OpenGguf(source);
  ASSERT_TRUE(index.ok());
  const std::string bytes = ReadAll(source);
  const size_t half = index->tensors.size() / 2;
  for (uint64_t part = 0; part < 2; ++part) {
    Metadata metadata = part == 0 ? index->metadata : Metadata();
    metadata.Set("split.no", part);
    metadata.Set("split.count", uint64_t{2});
    metadata.Set("split.tensors.count", uint64_t{index->tensors.size()});
    const size_t first = part == 0 ? 0 : half;
    std::vector<GgufTensor> tensors;
    for (size_t i = first; i < (part == 0 ? half : index->tensors.size()); ++i) {
      tensors.push_back({index->tensors[i].name, DType::kF32, index->tensors[i].dims});
    }
    const auto layout = LayOutGguf(metadata, tensors, {});
    ASSERT_TRUE(layout.ok());
    const auto fill = [&](size_t tensor, uint64_t offset, absl::Span<uint8_t> out) {
      const uint64_t at = index->tensors[first + tensor].offset_bytes + offset;
      std::memcpy(out.data(), bytes.data() + at, out.size());
    };
    const std::string path = absl::StrFormat("%s/part-%05d-of-00002.gguf", folder_, part + 1);
    ASSERT_TRUE(WriteGguf(path, *layout, fill, Quick()).ok());
  }
  const auto result = Quantize(folder_ + "/part-00001-of-00002.gguf", DType::kQ5_1);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(ReadAll(target_) == want);
}

TEST_F(QuantizeModelTest, AValueThatTheFormatCannotHoldIsNamed) {
  const std::string source = Synthetic("F32");
  const auto index = OpenGguf(source);
  const TensorInfo* tensor = index->Find("blk.1.ffn_down.weight");
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), 1e6f}) {
    std::fstream file(source, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(tensor->offset_bytes + 4 * (3 * tensor->columns() + 9)));
    file.write(reinterpret_cast<const char*>(&bad), 4);
    file.close();
    const absl::Status status = Quantize(source, DType::kQ4_K).status();
    EXPECT_THAT(status.message(), HasSubstr("blk.1.ffn_down.weight"));
    EXPECT_THAT(status.message(), HasSubstr("row 3, column 9"));
    EXPECT_THAT(status.message(), AnyOf(HasSubstr("nan"), HasSubstr("1e+06")));
    EXPECT_THAT(FilesLeft(), ElementsAre("source.gguf"));
  }
  EXPECT_TRUE(Quantize(source, DType::kBF16).ok());  // 1e6 is no matter there
}

TEST_F(QuantizeModelTest, RefusesToReadAndWriteOneFile) {
  const std::string source = Synthetic("F32");
  const std::string before = ReadAll(source);
  std::filesystem::create_hard_link(source, target_);
  const absl::Status status = Quantize(source, DType::kQ8_0).status();
  EXPECT_EQ(ReportStatus(status), static_cast<int>(ExitCode::kUsage));
  EXPECT_THAT(status.message(), HasSubstr("the source itself"));
  EXPECT_TRUE(ReadAll(source) == before);
}

TensorIndex IndexOf(const std::vector<GgufTensor>& tensors) {
  TensorIndex index;
  for (const GgufTensor& tensor : tensors) {
    TensorInfo info;
    info.name = tensor.name;
    info.dtype = tensor.dtype;
    info.dims = tensor.dims;
    index.by_name.emplace(info.name, index.tensors.size());
    index.tensors.push_back(std::move(info));
  }
  return index;
}

TEST(QuantizePlanTest, EachTensorGetsWhatSuitsIt) {
  const TensorIndex index = IndexOf({{"token_embd.weight", DType::kF16, {512, 100}},
                                     {"blk.0.attn_q.weight", DType::kF16, {512, 512}},
                                     {"blk.0.attn_k.weight", DType::kF16, {96, 512}},
                                     {"blk.0.attn_v.weight", DType::kF16, {80, 512}},
                                     {"blk.0.attn_norm.weight", DType::kF32, {512}},
                                     {"blk.0.attn_q.bias", DType::kF32, {512}},
                                     {"blk.0.ffn_gate_inp.weight", DType::kF32, {512, 8}},
                                     {"blk.0.ffn_up_exps.weight", DType::kF16, {512, 64, 8}},
                                     {"output.weight", DType::kF16, {512, 100}}});
  const auto plan = PlanQuantization(
      index, {.matrices = DType::kQ4_K, .output = DType::kQ6_K, .embedding = DType::kQ8_0});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->dtypes,
              ElementsAre(DType::kQ8_0, DType::kQ4_K, DType::kQ8_0, DType::kF16, DType::kF32,
                          DType::kF32, DType::kF32, DType::kQ4_K, DType::kQ6_K));
  EXPECT_EQ(plan->changed_count, 5u);
  EXPECT_THAT(plan->notes, ElementsAre(HasSubstr("rows of 80 are not whole blocks of 256"),
                                       HasSubstr("1 matrix (blk.0.attn_k.weight) in Q8_0")));
}

TEST(QuantizePlanTest, RefusesWhatMakesNoSense) {
  const TensorIndex tied = IndexOf({{"token_embd.weight", DType::kF16, {512, 100}}});
  EXPECT_TRUE(PlanQuantization(tied, {.matrices = DType::kQ4_K}).ok());
  EXPECT_THAT(
      PlanQuantization(tied, {.matrices = DType::kQ4_K, .output = DType::kF16}).status().message(),
      HasSubstr("--output-format"));
  EXPECT_THAT(PlanQuantization(tied, {.matrices = DType::kQ2_K}).status().message(),
              HasSubstr("Q2_K is read but cannot be written"));
  const TensorIndex vectors = IndexOf({{"output_norm.weight", DType::kF32, {512}}});
  EXPECT_FALSE(PlanQuantization(vectors, {.matrices = DType::kQ4_K}).ok());
}

}  // namespace
}  // namespace weir
