#include "models/synthetic.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "io/base.h"
#include "kernels/dequantize.h"
#include "models/gguf.h"
#include "models/layer_tensors.h"
#include "models/synthetic_blocks.h"
#include "models/synthetic_vocabulary.h"
#include "tests/models/gguf_bytes_helper.h"

namespace weir {
namespace {

// How tests/data/tiny.gguf was made: `weir synth tests/data/tiny.gguf --preset tiny --format mixed
// --seed 1`.
SyntheticSpec CommittedTinySpec() {
  SyntheticSpec spec = *SyntheticPreset("tiny");
  spec.format = "mixed";
  spec.seed = 1;
  return spec;
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

GgufWriteOptions Unsynced() {
  GgufWriteOptions options;
  options.sync = false;
  return options;
}

TEST(Synthetic, CommittedTinyModelIsWhatTheGeneratorWrites) {
  const TemporaryFolder folder;
  const std::string path = folder.File("tiny.gguf");
  const absl::StatusOr<uint64_t> bytes = WriteSynthetic(path, CommittedTinySpec(), Unsynced());
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_LE(*bytes, 2000000u);
  EXPECT_TRUE(ReadAll(path) == ReadAll("tests/data/tiny.gguf"))
      << "the generator changed; if that is meant, write tests/data/tiny.gguf and all golden "
         "values that come from it anew";
}

TEST(Synthetic, TinyModelCoversEveryFormat) {
  const absl::StatusOr<TensorIndex> index = OpenGguf("tests/data/tiny.gguf");
  ASSERT_TRUE(index.ok()) << index.status();
  std::set<DType> used;
  for (const TensorInfo& tensor : index->tensors) used.insert(tensor.dtype);
  EXPECT_EQ(used.size(), AllDTypes().size());
}

TEST(Synthetic, SeedChangesWeightsOnly) {
  const TemporaryFolder folder;
  SyntheticSpec spec = CommittedTinySpec();
  ASSERT_TRUE(WriteSynthetic(folder.File("a.gguf"), spec, Unsynced()).ok());
  ASSERT_TRUE(WriteSynthetic(folder.File("b.gguf"), spec, Unsynced()).ok());
  spec.seed = 2;
  ASSERT_TRUE(WriteSynthetic(folder.File("c.gguf"), spec, Unsynced()).ok());
  const std::string a = ReadAll(folder.File("a.gguf"));
  EXPECT_TRUE(a == ReadAll(folder.File("b.gguf")));
  const std::string c = ReadAll(folder.File("c.gguf"));
  EXPECT_EQ(a.size(), c.size());
  EXPECT_FALSE(a == c);
}

TEST(Synthetic, EveryArchitectureAndScalingOpensAndBinds) {
  const TemporaryFolder folder;
  for (const char* architecture :
       {"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"}) {
    for (const char* scaling : {"", "linear", "yarn", "llama3", "longrope"}) {
      SyntheticSpec spec = *SyntheticPreset("tiny");
      spec.architecture = architecture;
      spec.rope_scaling = scaling;
      spec.layers = 2;
      spec.tied_output = std::string(architecture).starts_with("gemma");
      const std::string path = folder.File("model.gguf");
      GgufWriteOptions options = Unsynced();
      options.overwrite = true;
      const absl::StatusOr<uint64_t> bytes = WriteSynthetic(path, spec, options);
      ASSERT_TRUE(bytes.ok()) << architecture << scaling << bytes.status();
      const absl::StatusOr<TensorIndex> index = OpenGguf(path);
      ASSERT_TRUE(index.ok()) << index.status();
      EXPECT_EQ(index->files[0].size_bytes, *bytes);
      const absl::StatusOr<ModelConfig> config = MakeModelConfig(*index);
      ASSERT_TRUE(config.ok()) << config.status();
      const absl::StatusOr<ModelTensors> tensors = BindModelTensors(*index, *config);
      ASSERT_TRUE(tensors.ok()) << architecture << scaling << tensors.status();
      EXPECT_EQ(tensors->output == tensors->embedding, spec.tied_output);
      const bool has_divisor =
          std::string(scaling) == "llama3" || std::string(scaling) == "longrope";
      EXPECT_EQ(tensors->rope_divisors[0] != nullptr, has_divisor);
      EXPECT_EQ(tensors->long_rope_divisors[0] != nullptr, std::string(scaling) == "longrope");
    }
  }
}

// Every format decodes to finite weights of the size asked for, at a common and at a very small
// deviation (a model of 28,672 columns).
TEST(Synthetic, WeightsAreFiniteAndOfTheSizeAskedFor) {
  for (const DTypeInfo& info : AllDTypes()) {
    for (const double deviation : {1 / std::sqrt(256.0), 1 / std::sqrt(28672.0)}) {
      const WeightGenerator generator(info.dtype, 0, deviation);
      const uint64_t elements = 256 * 256;
      std::vector<uint8_t> bytes(RowBytes(info.dtype, elements));
      generator.Fill(7, absl::MakeSpan(bytes));
      std::vector<float> weights(elements);
      DequantizeRow(info.dtype, bytes.data(), elements, weights.data());
      double sum = 0;
      double squares = 0;
      for (const float weight : weights) {
        ASSERT_TRUE(std::isfinite(weight)) << info.name;
        sum += weight;
        squares += double{weight} * weight;
      }
      const double measured = std::sqrt(squares / elements);
      // MXFP4's scales are powers of two.
      EXPECT_GT(measured, deviation * (info.dtype == DType::kMXFP4 ? 0.6 : 0.95)) << info.name;
      EXPECT_LT(measured, deviation * (info.dtype == DType::kMXFP4 ? 1.5 : 1.07)) << info.name;
      EXPECT_LT(std::fabs(sum / elements), 0.1 * deviation) << info.name;
    }
  }
}

TEST(Synthetic, VocabularyIsCompleteAndHasNoDuplicates) {
  for (const uint32_t size : {264u, 512u, 5000u, 128256u}) {
    Metadata metadata;
    ASSERT_TRUE(AddSyntheticVocabulary(size, &metadata).ok());
    const auto* tokens = std::get_if<StringTable>(metadata.Find("tokenizer.ggml.tokens"));
    ASSERT_NE(tokens, nullptr);
    ASSERT_EQ(tokens->size(), size);
    std::set<std::string_view> distinct;
    for (size_t i = 0; i < tokens->size(); ++i) distinct.insert((*tokens)[i]);
    EXPECT_EQ(distinct.size(), size);
    const auto* merges = std::get_if<StringTable>(metadata.Find("tokenizer.ggml.merges"));
    for (size_t i = 0; i < merges->size(); ++i) {
      const std::string line((*merges)[i]);
      const size_t space = line.find(' ');
      ASSERT_NE(space, std::string::npos);
      EXPECT_TRUE(distinct.contains(line.substr(0, space))) << line;
      EXPECT_TRUE(distinct.contains(line.substr(space + 1))) << line;
      EXPECT_TRUE(distinct.contains(line.substr(0, space) + line.substr(space + 1))) << line;
    }
  }
  Metadata metadata;
  EXPECT_FALSE(AddSyntheticVocabulary(263, &metadata).ok());
}

TEST(Synthetic, MixesPutMoreBitsWhereTheyMatter) {
  SyntheticSpec spec = *SyntheticPreset("8b");
  spec.format = "q4_k_m";
  const absl::StatusOr<SyntheticModel> model = PlanSynthetic(spec);
  ASSERT_TRUE(model.ok()) << model.status();
  uint32_t better = 0;
  for (const GgufTensor& tensor : model->tensors) {
    if (tensor.name == "output.weight") {
      EXPECT_EQ(tensor.dtype, DType::kQ6_K);
    }
    if (tensor.name == "blk.0.ffn_down.weight") {
      EXPECT_EQ(tensor.dtype, DType::kQ6_K);
    }
    if (tensor.name == "blk.4.ffn_down.weight") {
      EXPECT_EQ(tensor.dtype, DType::kQ4_K);
    }
    better += tensor.dtype == DType::kQ6_K ? 1 : 0;
  }
  EXPECT_EQ(better, 1u + 2 * 16);
}

TEST(Synthetic, RefusesWhatDoesNotFit) {
  const auto refused = [](auto change) {
    SyntheticSpec spec = *SyntheticPreset("tiny");
    change(spec);
    return !PlanSynthetic(spec).ok() ||
           !LayOutGguf(Metadata(), PlanSynthetic(spec)->tensors, GgufLayoutOptions()).ok();
  };
  EXPECT_FALSE(refused([](SyntheticSpec&) {}));
  EXPECT_TRUE(refused([](SyntheticSpec& spec) { spec.format = "Q9_Z"; }));
  EXPECT_TRUE(refused([](SyntheticSpec& spec) { spec.architecture = "mamba"; }));
  EXPECT_TRUE(refused([](SyntheticSpec& spec) { spec.kv_heads = 3; }));
  EXPECT_TRUE(refused([](SyntheticSpec& spec) { spec.layers = 0; }));
  EXPECT_TRUE(refused([](SyntheticSpec& spec) { spec.vocabulary = 100; }));
  EXPECT_TRUE(refused([](SyntheticSpec& spec) { spec.columns = 200; }));  // no whole Q4_K blocks
  EXPECT_TRUE(refused([](SyntheticSpec& spec) { spec.rope_scaling = "magic"; }));
  EXPECT_TRUE(refused([](SyntheticSpec& spec) {
    spec.architecture = "qwen3";
    spec.window = 16;
  }));
  EXPECT_FALSE(SyntheticPreset("9000b").ok());
}

TEST(GgufWriter, KeepsAnExistingFileAndLeavesNothingBehind) {
  const TemporaryFolder folder;
  const std::string path = folder.File("model.gguf");
  std::ofstream(path) << "precious";
  const absl::StatusOr<uint64_t> refused = WriteSynthetic(path, CommittedTinySpec(), Unsynced());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists) << refused.status();
  EXPECT_EQ(ReadAll(path), "precious");
  GgufWriteOptions options = Unsynced();
  options.overwrite = true;
  uint64_t last_done = 0;
  options.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_GT(done, last_done);
    EXPECT_LE(done, total);
    last_done = done;
  };
  const absl::StatusOr<uint64_t> bytes = WriteSynthetic(path, CommittedTinySpec(), options);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(last_done, *bytes);
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    ++files;
  }
  EXPECT_EQ(files, 1u);
}

TEST(GgufWriter, SaysWhatADiskLacks) {
  const TemporaryFolder folder;
  SyntheticSpec spec = *SyntheticPreset("70b");
  spec.format = "F32";
  spec.layers = 4096;  // some 14 TB
  const std::string path = folder.File("model.gguf");
  const absl::Status status = WriteSynthetic(path, spec, Unsynced()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find("free"), absl::string_view::npos) << status;
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_FALSE(WriteSynthetic(folder.File("no/such/folder.gguf"), spec, Unsynced()).ok());
}

}  // namespace
}  // namespace weir
