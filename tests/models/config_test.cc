#include "models/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "models/architecture.h"
#include "models/layer_tensors.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

void AddTensor(TensorIndex* index, const std::string& name, std::vector<uint64_t> dims,
               DType dtype = DType::kF32) {
  TensorInfo tensor;
  tensor.name = name;
  tensor.dims = std::move(dims);
  tensor.dtype = dtype;
  index->by_name[name] = static_cast<uint32_t>(index->tensors.size());
  index->tensors.push_back(std::move(tensor));
}

// 64 columns, 4 heads of 16, 2 KV heads, 96 feed-forward columns, 100 tokens.
TensorIndex MakeIndex(const std::string& architecture, uint32_t layers = 7) {
  TensorIndex index;
  index.files.push_back({"test.gguf", 0});
  Metadata& metadata = index.metadata;
  metadata.source = "test.gguf";
  metadata.Set("general.architecture", architecture);
  metadata.Set(architecture + ".block_count", uint64_t{layers});
  metadata.Set(architecture + ".context_length", uint64_t{8192});
  metadata.Set(architecture + ".embedding_length", uint64_t{64});
  metadata.Set(architecture + ".feed_forward_length", uint64_t{96});
  metadata.Set(architecture + ".attention.head_count", uint64_t{4});
  metadata.Set(architecture + ".attention.head_count_kv", uint64_t{2});
  metadata.Set(architecture + ".attention.layer_norm_rms_epsilon", 1e-6);
  AddTensor(&index, "token_embd.weight", {64, 100});
  return index;
}

ModelConfig Config(const TensorIndex& index) {
  absl::StatusOr<ModelConfig> config = MakeModelConfig(index);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *std::move(config) : ModelConfig();
}

void ExpectRefused(const TensorIndex& index, const std::string& reason) {
  const absl::StatusOr<ModelConfig> config = MakeModelConfig(index);
  ASSERT_FALSE(config.ok()) << "accepted; expected: " << reason;
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(reason));
}

TEST(Config, LlamaSizesAndDefaults) {
  const ModelConfig config = Config(MakeIndex("llama"));
  EXPECT_EQ(config.layers.size(), 7u);
  EXPECT_EQ(config.columns, 64u);
  EXPECT_EQ(config.key_columns, 16u);
  EXPECT_EQ(config.value_columns, 16u);
  EXPECT_EQ(config.vocabulary, 100u);
  EXPECT_EQ(config.layers[6].heads, 4u);
  EXPECT_EQ(config.layers[6].kv_heads, 2u);
  EXPECT_EQ(config.layers[6].feed_forward_columns, 96u);
  EXPECT_EQ(config.layers[6].window, 0u);
  EXPECT_FLOAT_EQ(config.norm_epsilon, 1e-6f);
  EXPECT_FLOAT_EQ(config.attention_scale, 0.25f);
  EXPECT_EQ(config.embedding_scale, 1.0f);
  EXPECT_EQ(config.activation, GateActivation::kSilu);
  EXPECT_TRUE(config.tied_output);
  ASSERT_EQ(config.ropes.size(), 1u);
  EXPECT_EQ(config.ropes[0].layout, RopeLayout::kInterleaved);
  EXPECT_EQ(config.ropes[0].rotary_columns, 16u);
  EXPECT_EQ(config.ropes[0].magnitude, 1.0f);
  ASSERT_EQ(config.ropes[0].inverse_frequency.size(), 8u);
  for (int i = 0; i < 8; ++i) {
    EXPECT_FLOAT_EQ(config.ropes[0].inverse_frequency[static_cast<size_t>(i)],
                    static_cast<float>(std::pow(10000.0, -i / 8.0)));
  }
}

TEST(Config, KeysPerLayer) {
  TensorIndex index = MakeIndex("llama", 2);
  index.metadata.Set("llama.attention.head_count", std::vector<int64_t>{4, 8});
  index.metadata.Set("llama.attention.head_count_kv", std::vector<int64_t>{2, 8});
  index.metadata.Set("llama.feed_forward_length", std::vector<int64_t>{96, 128});
  const ModelConfig config = Config(index);
  EXPECT_EQ(config.layers[0].heads, 4u);
  EXPECT_EQ(config.layers[1].heads, 8u);
  EXPECT_EQ(config.layers[1].kv_heads, 8u);
  EXPECT_EQ(config.layers[1].feed_forward_columns, 128u);
  index.metadata.Set("llama.feed_forward_length", std::vector<int64_t>{96});
  ExpectRefused(index, "1 values for 2 layers");
  index.metadata.Set("llama.feed_forward_length", std::vector<int64_t>{96, -1});
  ExpectRefused(index, "gives -1 for layer 1");
}

TEST(Config, OtherArchitecturesUseHalves) {
  for (const char* name : {"qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"}) {
    EXPECT_EQ(Config(MakeIndex(name)).ropes[0].layout, RopeLayout::kHalves) << name;
  }
}

TEST(Config, MistralWindowsCoverEveryLayer) {
  TensorIndex index = MakeIndex("llama");
  index.metadata.Set("llama.attention.sliding_window", uint64_t{4096});
  for (const LayerConfig& layer : Config(index).layers) EXPECT_EQ(layer.window, 4096u);
}

TEST(Config, Gemma) {
  const ModelConfig config = Config(MakeIndex("gemma"));
  EXPECT_EQ(config.embedding_scale, 8.0f);
  EXPECT_EQ(config.activation, GateActivation::kGeluTanh);
  EXPECT_EQ(config.layers[0].window, 0u);
}

TEST(Config, Gemma2AlternatesFromALocalLayer) {
  TensorIndex index = MakeIndex("gemma2", 4);
  index.metadata.Set("gemma2.attn_logit_softcapping", 50.0);
  index.metadata.Set("gemma2.final_logit_softcapping", 30.0);
  const ModelConfig config = Config(index);
  EXPECT_EQ(config.layers[0].window, 4096u);  // the default of the architecture
  EXPECT_EQ(config.layers[1].window, 0u);
  EXPECT_EQ(config.layers[2].window, 4096u);
  EXPECT_EQ(config.ropes.size(), 1u);
  EXPECT_EQ(config.attention_soft_cap, 50.0f);
  EXPECT_EQ(config.final_soft_cap, 30.0f);
}

TEST(Config, Gemma3HasAGlobalLayerInSix) {
  TensorIndex index = MakeIndex("gemma3", 12);
  index.metadata.Set("gemma3.attention.sliding_window", uint64_t{512});
  index.metadata.Set("gemma3.rope.freq_base", 1e6);
  index.metadata.Set("gemma3.rope.scaling.type", std::string("linear"));
  index.metadata.Set("gemma3.rope.scaling.factor", 8.0);
  const ModelConfig config = Config(index);
  ASSERT_EQ(config.ropes.size(), 2u);
  for (uint32_t i = 0; i < 12; ++i) {
    const bool global = i == 5 || i == 11;
    EXPECT_EQ(config.layers[i].window, global ? 0u : 512u) << i;
    EXPECT_EQ(config.layers[i].rope, global ? 0u : 1u) << i;
  }
  // The second pair: base 1e6 scaled by 8, and base 10000 unscaled.
  EXPECT_FLOAT_EQ(config.ropes[0].inverse_frequency[1],
                  static_cast<float>(std::pow(1e6, -1 / 8.0) / 8));
  EXPECT_FLOAT_EQ(config.ropes[1].inverse_frequency[1],
                  static_cast<float>(std::pow(10000.0, -1 / 8.0)));
  index.metadata.Set("gemma3.attention.sliding_window_pattern", std::vector<bool>(12, false));
  for (const LayerConfig& layer : Config(index).layers) EXPECT_EQ(layer.window, 0u);
}

TEST(Config, Gemma27bScalesByColumnsOverHeads) {
  TensorIndex index = MakeIndex("gemma2", 46);
  index.metadata.Set("gemma2.attention.head_count", uint64_t{2});
  index.metadata.Set("gemma2.attention.key_length", uint64_t{16});
  index.metadata.Set("gemma2.attention.value_length", uint64_t{16});
  EXPECT_FLOAT_EQ(Config(index).attention_scale, 1 / std::sqrt(32.0f));
  index.metadata.Set("gemma2.block_count", uint64_t{42});
  EXPECT_FLOAT_EQ(Config(index).attention_scale, 0.25f);
}

// Golden values of transformers 5's rope functions for 16 rotary columns, base 10000, factor 4,
// 2048 original positions.
TEST(Config, RopeScalingsMatchTransformers) {
  TensorIndex index = MakeIndex("llama");
  index.metadata.Set("llama.rope.scaling.type", std::string("yarn"));
  index.metadata.Set("llama.rope.scaling.factor", 4.0);
  index.metadata.Set("llama.rope.scaling.original_context_length", uint64_t{2048});
  const RopeConfig yarn = Config(index).ropes[0];
  const float kYarn[8] = {1.0f,           0.316227764f,   0.1f,     0.025693506f,
                          0.00624999963f, 0.00138349657f, 0.00025f, 7.90569466e-05f};
  for (size_t i = 0; i < 8; ++i)
    EXPECT_NEAR(yarn.inverse_frequency[i], kYarn[i], 1e-6f * kYarn[i]) << i;
  EXPECT_FLOAT_EQ(yarn.magnitude, 1.1386294f);
  index.metadata.Set("llama.rope.scaling.yarn_attn_factor", 1.25);
  EXPECT_FLOAT_EQ(Config(index).ropes[0].magnitude, 1.25f);

  index.metadata.Set("llama.rope.scaling.type", std::string("linear"));
  const RopeConfig linear = Config(index).ropes[0];
  EXPECT_FLOAT_EQ(linear.inverse_frequency[0], 0.25f);
  EXPECT_FLOAT_EQ(linear.inverse_frequency[4], 0.0025f);
  EXPECT_EQ(linear.magnitude, 1.0f);

  index.metadata.Set("llama.rope.scaling.type", std::string("none"));
  EXPECT_EQ(Config(index).ropes[0].inverse_frequency[0], 1.0f);
  index.metadata.Set("llama.rope.scaling.type", std::string("dynamic"));
  ExpectRefused(index, "\"dynamic\" is not known");
}

TEST(Config, Phi3LongRope) {
  TensorIndex index = MakeIndex("phi3");
  index.metadata.Set("phi3.rope.scaling.original_context_length", uint64_t{2048});
  index.metadata.Set("phi3.attention.sliding_window", uint64_t{2047});
  AddTensor(&index, "rope_factors_long.weight", {8});
  ExpectRefused(index, "rope_factors_short.weight");
  AddTensor(&index, "rope_factors_short.weight", {8});
  const ModelConfig config = Config(index);
  EXPECT_EQ(config.ropes[0].frequency_divisor_tensor, "rope_factors_short.weight");
  EXPECT_EQ(config.ropes[0].long_frequency_divisor_tensor, "rope_factors_long.weight");
  EXPECT_EQ(config.ropes[0].original_context_length, 2048u);
  EXPECT_FLOAT_EQ(config.ropes[0].magnitude, 1.0871146f);
  EXPECT_EQ(config.layers[3].window, 2047u);
  index.metadata.Set("phi3.rope.scaling.attn_factor", 1.5);
  EXPECT_FLOAT_EQ(Config(index).ropes[0].magnitude, 1.5f);
  EXPECT_FLOAT_EQ(Config(index).ropes[0].inverse_frequency[0], 1.0f);
}

TEST(Config, PartialRotation) {
  TensorIndex index = MakeIndex("phi3");
  index.metadata.Set("phi3.rope.dimension_count", uint64_t{12});
  EXPECT_EQ(Config(index).ropes[0].rotary_columns, 12u);
  EXPECT_EQ(Config(index).ropes[0].inverse_frequency.size(), 6u);
  for (const uint64_t wrong : {0u, 11u, 18u}) {
    index.metadata.Set("phi3.rope.dimension_count", wrong);
    ExpectRefused(index, "rope.dimension_count");
  }
}

TEST(Config, RefusesUnknownArchitecturesByName) {
  TensorIndex index = MakeIndex("mamba");
  ExpectRefused(index, "\"mamba\" is not known. Known: llama, qwen2");
  index.metadata = Metadata();
  ExpectRefused(index, "general.architecture");
  index = MakeIndex("llama");
  index.metadata.Set("llama.expert_count", uint64_t{8});
  ExpectRefused(index, "mixture of 8 experts");
}

TEST(Config, RefusesSizesThatMakeNoSense) {
  const auto expect = [](const char* key, MetadataValue value, const char* reason) {
    TensorIndex index = MakeIndex("llama");
    index.metadata.Set(key, std::move(value));
    ExpectRefused(index, reason);
  };
  expect("llama.block_count", uint64_t{0}, "block_count");
  expect("llama.block_count", uint64_t{1} << 40, "block_count");
  expect("llama.embedding_length", uint64_t{0}, "embedding_length");
  expect("llama.embedding_length", uint64_t{66}, "not a multiple of 4 heads");
  expect("llama.attention.head_count", uint64_t{0}, "head_count");
  expect("llama.attention.head_count_kv", uint64_t{3}, "do not divide");
  expect("llama.attention.head_count_kv", uint64_t{8}, "do not divide");
  expect("llama.context_length", uint64_t{0}, "context_length");
  expect("llama.attention.layer_norm_rms_epsilon", 0.0, "epsilon");
  expect("llama.attention.layer_norm_rms_epsilon", std::string("x"), "where a number is expected");
  expect("llama.rope.freq_base", -1.0, "freq_base");
  expect("llama.rope.freq_base", std::nan(""), "finite");
  expect("llama.attention.key_length", uint64_t{1} << 50, "key_length");
  expect("llama.rope.scaling.factor", -2.0, "factor");
  TensorIndex index = MakeIndex("llama");
  index.metadata.Take("llama.block_count");
  ExpectRefused(index, "no key \"llama.block_count\"");
  index = MakeIndex("llama");
  index.by_name.clear();
  ExpectRefused(index, "token_embd.weight");
}

TEST(Architecture, NamesAreDistinct) {
  for (const Architecture& architecture : AllArchitectures()) {
    EXPECT_EQ(FindArchitecture(architecture.name), &architecture);
  }
  EXPECT_EQ(FindArchitecture("Llama"), nullptr);
}

}  // namespace
}  // namespace weir
