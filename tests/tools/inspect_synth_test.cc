// `weir inspect` and `weir synth`, called without a process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "CLI/CLI.hpp"
#include "models/gguf.h"
#include "models/layer_tensors.h"
#include "tools/cmd_inspect.h"
#include "tools/cmd_synth.h"
#include "tools/exit_codes.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr char kTiny[] = "tests/data/tiny.gguf";

int RunCommand(const std::vector<std::string>& words) {
  CLI::App app;
  int exit_code = -1;
  AddInspectCommand(app, &exit_code);
  AddSynthCommand(app, &exit_code);
  std::vector<std::string> reversed(words.rbegin(), words.rend());  // what CLI11 takes
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError&) {
    return static_cast<int>(ExitCode::kUsage);
  }
  return exit_code;
}

TEST(Inspect, TextNamesMetadataLayersAndFormats) {
  const absl::StatusOr<TensorIndex> index = OpenGguf(kTiny);
  ASSERT_TRUE(index.ok()) << index.status();
  const std::string text = DescribeModel(*index, /*with_tensors=*/false);
  EXPECT_THAT(text, HasSubstr("GGUF v3"));
  EXPECT_THAT(text, HasSubstr("39 tensors"));
  EXPECT_THAT(text, HasSubstr("general.architecture = \"llama\""));
  EXPECT_THAT(text, HasSubstr("(512 elements)"));
  EXPECT_THAT(text, HasSubstr("layer 3"));
  EXPECT_THAT(text, HasSubstr("MXFP4"));
  EXPECT_THAT(text, Not(HasSubstr("Cannot be run")));
  EXPECT_THAT(text, Not(HasSubstr("blk.0.attn_q.weight")));
  EXPECT_LT(text.size(), 8000u);
  EXPECT_THAT(DescribeModel(*index, /*with_tensors=*/true), HasSubstr("blk.0.attn_q.weight"));
}

TEST(Inspect, JsonAddsUp) {
  const absl::StatusOr<TensorIndex> index = OpenGguf(kTiny);
  ASSERT_TRUE(index.ok()) << index.status();
  const nlohmann::json json = nlohmann::json::parse(ModelAsJson(*index));
  EXPECT_EQ(json["format"], "GGUF v3");
  EXPECT_EQ(json["files"][0]["path"], kTiny);
  EXPECT_EQ(json["files"][0]["bytes"], std::filesystem::file_size(kTiny));
  EXPECT_EQ(json["metadata"]["llama.block_count"], 4);
  EXPECT_EQ(json["metadata"]["tokenizer.ggml.tokens"]["length"], 512);
  ASSERT_EQ(json["layers"].size(), 4u);
  uint64_t layer_bytes = json["bytes_outside_layers"];
  for (const auto& layer : json["layers"]) layer_bytes += layer["bytes"].get<uint64_t>();
  uint64_t format_bytes = 0;
  for (const auto& format : json["formats"]) format_bytes += format["bytes"].get<uint64_t>();
  uint64_t tensor_bytes = 0;
  for (const auto& tensor : json["tensors"]) tensor_bytes += tensor["bytes"].get<uint64_t>();
  EXPECT_EQ(layer_bytes, tensor_bytes);
  EXPECT_EQ(format_bytes, tensor_bytes);
  EXPECT_EQ(json["tensor_bytes"], tensor_bytes);
  EXPECT_FALSE(json.contains("error"));
}

TEST(Inspect, SaysWhyAModelCannotBeRun) {
  absl::StatusOr<TensorIndex> index = OpenGguf(kTiny);
  ASSERT_TRUE(index.ok()) << index.status();
  index->metadata.Set("general.architecture", std::string("mamba"));
  EXPECT_THAT(DescribeModel(*index, false), HasSubstr("\"mamba\" is not known"));
  EXPECT_THAT(nlohmann::json::parse(ModelAsJson(*index))["error"].get<std::string>(),
              HasSubstr("mamba"));
}

TEST(Inspect, ExitCodes) {
  EXPECT_EQ(RunCommand({"inspect", "no/such/model.gguf"}), static_cast<int>(ExitCode::kBadModel));
  EXPECT_EQ(RunCommand({"inspect", "tests"}), static_cast<int>(ExitCode::kBadModel));
  EXPECT_EQ(RunCommand({"inspect", kTiny, "--json", "/no/such/folder/x.json"}),
            static_cast<int>(ExitCode::kOutput));
}

TEST(Synth, WritesWhatIsAskedFor) {
  const std::string path = testing::TempDir() + "/weir_synth_test.gguf";
  EXPECT_EQ(RunCommand({"synth", path, "--preset", "tiny", "--arch", "qwen3", "--format", "Q8_0",
                        "--layers", "3", "--ff", "256", "--seed", "7", "--overwrite"}),
            0);
  const absl::StatusOr<TensorIndex> index = OpenGguf(path);
  ASSERT_TRUE(index.ok()) << index.status();
  const absl::StatusOr<ModelConfig> config = MakeModelConfig(*index);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "qwen3");
  EXPECT_EQ(config->layers.size(), 3u);
  EXPECT_EQ(config->layers[0].feed_forward_columns, 256u);
  EXPECT_EQ(index->Find("blk.2.ffn_up.weight")->dtype, DType::kQ8_0);
  // It is there now, and stays.
  EXPECT_EQ(RunCommand({"synth", path}), static_cast<int>(ExitCode::kOutput));
  EXPECT_EQ(RunCommand({"synth", path, "--overwrite", "--format", "Q7"}),
            static_cast<int>(ExitCode::kUsage));
  EXPECT_EQ(RunCommand({"synth", path, "--overwrite", "--columns", "200"}),
            static_cast<int>(ExitCode::kUsage));
  EXPECT_EQ(RunCommand({"synth", path, "--preset", "7t"}), static_cast<int>(ExitCode::kUsage));
  EXPECT_TRUE(OpenGguf(path).ok());
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace weir
