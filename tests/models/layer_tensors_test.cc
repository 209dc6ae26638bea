#include "models/layer_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "models/architecture.h"
#include "models/gguf_writer.h"
#include "models/synthetic.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

// A tiny model of the architecture: its index as a file would give it.
class TinyModel {
 public:
  explicit TinyModel(const std::string& architecture) {
    SyntheticSpec spec = *SyntheticPreset("tiny");
    spec.architecture = architecture;
    spec.layers = 2;
    const SyntheticModel model = *PlanSynthetic(spec);
    const GgufLayout layout = *LayOutGguf(model.metadata, model.tensors, GgufLayoutOptions());
    index_.files.push_back({"tiny.gguf", layout.file_bytes});
    index_.metadata = model.metadata;
    for (const TensorInfo& tensor : layout.tensors) Add(tensor);
  }
  TensorIndex& index() { return index_; }
  TensorInfo& Tensor(const std::string& name) { return index_.tensors[index_.by_name.at(name)]; }
  void Add(const TensorInfo& tensor) {
    index_.by_name[tensor.name] = static_cast<uint32_t>(index_.tensors.size());
    index_.tensors.push_back(tensor);
  }
  void AddLike(const std::string& name, const std::string& model) {
    TensorInfo tensor = Tensor(model);
    tensor.name = name;
    Add(tensor);
  }
  void Remove(const std::string& name) {
    TensorIndex without = index_;
    without.tensors.clear();
    without.by_name.clear();
    std::swap(without, index_);
    for (const TensorInfo& tensor : without.tensors) {
      if (tensor.name != name) Add(tensor);
    }
  }
  absl::StatusOr<ModelTensors> Bind() const {
    const absl::StatusOr<ModelConfig> config = MakeModelConfig(index_);
    if (!config.ok()) return config.status();
    return BindModelTensors(index_, *config);
  }
  void ExpectRefused(const std::string& reason) const {
    const absl::StatusOr<ModelTensors> tensors = Bind();
    ASSERT_FALSE(tensors.ok()) << "accepted; expected: " << reason;
    EXPECT_THAT(std::string(tensors.status().message()), HasSubstr(reason));
  }

 private:
  TensorIndex index_;
};

TEST(LayerTensors, BindsWhatEachArchitectureHas) {
  for (const Architecture& architecture : AllArchitectures()) {
    const TinyModel model{std::string(architecture.name)};
    const absl::StatusOr<ModelTensors> tensors = model.Bind();
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    ASSERT_EQ(tensors->layers.size(), 2u);
    const LayerTensors& layer = tensors->layers[1];
    EXPECT_EQ(layer.attention_norm->name, "blk.1.attn_norm.weight");
    EXPECT_EQ(layer.down->name, "blk.1.ffn_down.weight");
    EXPECT_EQ(layer.fused_qkv != nullptr, architecture.name == "phi3");
    EXPECT_EQ(layer.query == nullptr, architecture.name == "phi3");
    EXPECT_EQ(layer.gate == nullptr, architecture.name == "phi3");
    EXPECT_EQ(layer.fused_gate_up, architecture.name == "phi3");
    EXPECT_EQ(layer.query_bias != nullptr, architecture.name == "qwen2");
    EXPECT_EQ(layer.query_norm != nullptr,
              architecture.name == "qwen3" || architecture.name == "gemma3");
    EXPECT_EQ(layer.attention_post_norm != nullptr,
              architecture.name == "gemma2" || architecture.name == "gemma3");
    EXPECT_EQ(tensors->output == tensors->embedding, architecture.ties_output);
  }
}

TEST(LayerTensors, RefusesWrongShapes) {
  const char* kNames[] = {"blk.0.attn_q.weight",   "blk.1.attn_k.weight", "blk.0.attn_norm.weight",
                          "blk.1.ffn_down.weight", "output_norm.weight",  "output.weight"};
  for (const char* name : kNames) {
    TinyModel model("llama");
    model.Tensor(name).dims[0] += 256;
    model.ExpectRefused(name);
    TinyModel flat("llama");
    flat.Tensor(name).dims.push_back(1);
    flat.ExpectRefused("the metadata calls for");
  }
}

TEST(LayerTensors, RefusesMissingTensors) {
  const struct {
    const char* architecture;
    const char* name;
  } kCases[] = {
      {"llama", "blk.1.ffn_up.weight"},      {"llama", "blk.0.attn_v.weight"},
      {"llama", "output_norm.weight"},       {"qwen2", "blk.0.attn_k.bias"},
      {"qwen3", "blk.1.attn_q_norm.weight"}, {"gemma2", "blk.0.post_ffw_norm.weight"},
      {"phi3", "blk.0.attn_qkv.weight"},
  };
  for (const auto& [architecture, name] : kCases) {
    TinyModel model(architecture);
    model.Remove(name);
    model.ExpectRefused(std::string(name) + " is missing");
  }
}

TEST(LayerTensors, RefusesWhatItDoesNotKnow) {
  TinyModel model("llama");
  model.AddLike("blk.0.ffn_gate_exps.weight", "blk.0.ffn_gate.weight");
  model.ExpectRefused("blk.0.ffn_gate_exps.weight is not part of");
  TinyModel twice("llama");
  twice.AddLike("blk.7.attn_norm.weight", "blk.0.attn_norm.weight");
  twice.ExpectRefused("blk.7.attn_norm.weight");
  // Precomputed frequencies of old files are left aside.
  TinyModel old("llama");
  old.AddLike("blk.0.attn_rot_embd", "blk.0.attn_norm.weight");
  EXPECT_TRUE(old.Bind().ok());
}

TEST(LayerTensors, RefusesQuantisedNorms) {
  TinyModel model("llama");
  model.Tensor("blk.0.attn_norm.weight").dtype = DType::kQ8_0;
  model.ExpectRefused("must be F32, F16 or BF16");
}

TEST(LayerTensors, TakesOptionalBiasesAndEitherFormOfQkv) {
  TinyModel model("llama");
  model.AddLike("blk.0.attn_output.bias", "blk.0.attn_norm.weight");
  model.AddLike("blk.1.attn_q.bias", "blk.0.attn_norm.weight");
  absl::StatusOr<ModelTensors> tensors = model.Bind();
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_NE(tensors->layers[0].attention_output_bias, nullptr);
  EXPECT_NE(tensors->layers[1].query_bias, nullptr);
  EXPECT_EQ(tensors->layers[0].query_bias, nullptr);

  TinyModel fused("llama");
  fused.AddLike("blk.0.attn_qkv.weight", "blk.0.attn_q.weight");
  fused.Tensor("blk.0.attn_qkv.weight").dims[1] = 256 + 2 * 128;
  fused.ExpectRefused("has attn_qkv and also");
  for (const char* name : {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"}) {
    fused.Remove(name);
  }
  tensors = fused.Bind();
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_NE(tensors->layers[0].fused_qkv, nullptr);
  EXPECT_EQ(tensors->layers[1].fused_qkv, nullptr);
}

}  // namespace
}  // namespace weir
