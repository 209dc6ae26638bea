#include "models/layer_tensors.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "io/base.h"
#include "models/architecture.h"
#include "models/printable.h"

namespace weir {
namespace {

constexpr std::string_view kEmbedding = "token_embd.weight";
constexpr std::string_view kOutputNorm = "output_norm.weight";
constexpr std::string_view kOutput = "output.weight";

// Collects the tensors of one layer.
class LayerLister {
 public:
  LayerLister(const ModelConfig& config, uint32_t layer, std::vector<ExpectedTensor>* list)
      : config_(config), layer_(layer), list_(list) {}

  void Vector(absl::string_view suffix, uint64_t columns, const TensorInfo* LayerTensors::*slot,
              Presence presence = Presence::kRequired) {
    if (presence != Presence::kAbsent) Add(suffix, {columns}, true, slot, presence);
  }
  void Matrix(absl::string_view suffix, uint64_t columns, uint64_t rows,
              const TensorInfo* LayerTensors::*slot, Presence presence = Presence::kRequired) {
    Add(suffix, {columns, rows}, false, slot, presence);
  }
  const LayerConfig& layer() const { return config_.layers[layer_]; }

 private:
  void Add(absl::string_view suffix, std::vector<uint64_t> dims, bool is_vector,
           const TensorInfo* LayerTensors::*slot, Presence presence) {
    ExpectedTensor expected;
    expected.name = absl::StrCat("blk.", layer_, ".", suffix);
    expected.dims = std::move(dims);
    expected.is_vector = is_vector;
    expected.required = presence == Presence::kRequired;
    expected.slot = slot;
    expected.layer = layer_;
    list_->push_back(std::move(expected));
  }

  const ModelConfig& config_;
  uint32_t layer_;
  std::vector<ExpectedTensor>* list_;
};

void ListAttention(const ModelConfig& config, const Architecture& architecture,
                   LayerLister& lister) {
  const LayerConfig& layer = lister.layer();
  const uint64_t query_rows = uint64_t{layer.heads} * config.key_columns;
  const uint64_t key_rows = uint64_t{layer.kv_heads} * config.key_columns;
  const uint64_t value_rows = uint64_t{layer.kv_heads} * config.value_columns;
  const uint64_t columns = config.columns;
  // Either form is taken from any file; the architecture says which one is usual. BindModelTensors
  // checks that exactly one is there.
  const Presence fused = architecture.fused_qkv ? Presence::kRequired : Presence::kOptional;
  const Presence split = architecture.fused_qkv ? Presence::kOptional : Presence::kRequired;
  lister.Vector("attn_norm.weight", columns, &LayerTensors::attention_norm);
  lister.Matrix("attn_q.weight", columns, query_rows, &LayerTensors::query, split);
  lister.Matrix("attn_k.weight", columns, key_rows, &LayerTensors::key, split);
  lister.Matrix("attn_v.weight", columns, value_rows, &LayerTensors::value, split);
  lister.Matrix("attn_qkv.weight", columns, query_rows + key_rows + value_rows,
                &LayerTensors::fused_qkv, fused);
  const Presence bias = architecture.qkv_bias;
  lister.Vector("attn_q.bias", query_rows, &LayerTensors::query_bias, bias);
  lister.Vector("attn_k.bias", key_rows, &LayerTensors::key_bias, bias);
  lister.Vector("attn_v.bias", value_rows, &LayerTensors::value_bias, bias);
  if (architecture.query_key_norms) {
    lister.Vector("attn_q_norm.weight", config.key_columns, &LayerTensors::query_norm);
    lister.Vector("attn_k_norm.weight", config.key_columns, &LayerTensors::key_norm);
  }
  lister.Matrix("attn_output.weight", uint64_t{layer.heads} * config.value_columns, columns,
                &LayerTensors::attention_output);
  lister.Vector("attn_output.bias", columns, &LayerTensors::attention_output_bias,
                Presence::kOptional);
  if (architecture.post_norms) {
    lister.Vector("post_attention_norm.weight", columns, &LayerTensors::attention_post_norm);
  }
}

void ListFeedForward(const ModelConfig& config, const Architecture& architecture,
                     LayerLister& lister) {
  const uint64_t columns = config.columns;
  const uint64_t inner = lister.layer().feed_forward_columns;
  lister.Vector("ffn_norm.weight", columns, &LayerTensors::feed_forward_norm);
  if (!architecture.fused_gate_up) {
    lister.Matrix("ffn_gate.weight", columns, inner, &LayerTensors::gate);
  }
  lister.Matrix("ffn_up.weight", columns, architecture.fused_gate_up ? 2 * inner : inner,
                &LayerTensors::up);
  lister.Matrix("ffn_down.weight", inner, columns, &LayerTensors::down);
  if (architecture.post_norms) {
    lister.Vector("post_ffw_norm.weight", columns, &LayerTensors::feed_forward_post_norm);
  }
}

void ListRopeDivisors(const ModelConfig& config, std::vector<ExpectedTensor>* list) {
  absl::flat_hash_set<std::string> seen;
  for (const RopeConfig& rope : config.ropes) {
    for (const std::string& name :
         {rope.frequency_divisor_tensor, rope.long_frequency_divisor_tensor}) {
      if (name.empty() || !seen.insert(name).second) continue;
      list->push_back({.name = name, .dims = {rope.rotary_columns / 2}, .is_vector = true});
    }
  }
}

class Binder {
 public:
  Binder(const TensorIndex& index, const ModelConfig& config) : index_(index), config_(config) {}

  absl::StatusOr<ModelTensors> Bind();

 private:
  absl::Status BindOne(const ExpectedTensor& expected);
  absl::Status CheckShape(const ExpectedTensor& expected, const TensorInfo& tensor) const;
  absl::Status CheckQkv(uint32_t layer) const;
  absl::Status CheckNothingLeft() const;
  absl::Status Missing(const std::string& name) const {
    return absl::InvalidArgumentError(
        absl::StrCat(index_.metadata.source, ": the tensor ", name, " is missing, which a ",
                     config_.architecture, " model must have. The file is incomplete or was ",
                     "written by a faulty converter; convert or download the model again."));
  }

  const TensorIndex& index_;
  const ModelConfig& config_;
  ModelTensors tensors_;
  absl::flat_hash_set<std::string> known_;
};

absl::Status Binder::CheckShape(const ExpectedTensor& expected, const TensorInfo& tensor) const {
  const std::string& file = index_.files[tensor.file].path;
  if (tensor.dims != expected.dims) {
    return absl::InvalidArgumentError(absl::StrCat(
        file, ": the tensor ", tensor.name, " has the shape [", absl::StrJoin(tensor.dims, ", "),
        "]; the metadata calls for [", absl::StrJoin(expected.dims, ", "), "]. ",
        "The file is damaged or was written by a faulty converter; convert or download it again."));
  }
  const bool is_float = GetDTypeInfo(tensor.dtype).block_elements == 1;
  if (expected.is_vector && !is_float) {
    return absl::InvalidArgumentError(absl::StrCat(
        file, ": the tensor ", tensor.name, " is in the format ",
        AbslView(GetDTypeInfo(tensor.dtype).name),
        "; norms, biases and rope factors must be F32, F16 or BF16. Convert the model ", "again."));
  }
  return absl::OkStatus();
}

absl::Status Binder::BindOne(const ExpectedTensor& expected) {
  known_.insert(expected.name);
  const TensorInfo* tensor = index_.Find(expected.name);
  if (tensor == nullptr) {
    // Which of the two forms of q, k and v a layer has is looked at when all are bound.
    const bool is_qkv =
        expected.slot == &LayerTensors::query || expected.slot == &LayerTensors::key ||
        expected.slot == &LayerTensors::value || expected.slot == &LayerTensors::fused_qkv;
    return expected.required && !is_qkv ? Missing(expected.name) : absl::OkStatus();
  }
  WEIR_RETURN_IF_ERROR(CheckShape(expected, *tensor));
  if (expected.slot != nullptr) tensors_.layers[expected.layer].*expected.slot = tensor;
  return absl::OkStatus();
}

absl::Status Binder::CheckQkv(uint32_t layer) const {
  const LayerTensors& tensors = tensors_.layers[layer];
  const bool has_any = tensors.query || tensors.key || tensors.value;
  if (tensors.fused_qkv != nullptr && has_any) {
    return absl::InvalidArgumentError(
        absl::StrCat(index_.metadata.source, ": layer ", layer,
                     " has attn_qkv and also attn_q, attn_k or attn_v. The file was written by a ",
                     "faulty converter; convert or download the model again."));
  }
  if (tensors.fused_qkv != nullptr) return absl::OkStatus();
  const std::string prefix = absl::StrCat("blk.", layer, ".");
  if (!has_any && FindArchitecture(config_.architecture)->fused_qkv) {
    return Missing(prefix + "attn_qkv.weight");
  }
  if (tensors.query == nullptr) return Missing(prefix + "attn_q.weight");
  if (tensors.key == nullptr) return Missing(prefix + "attn_k.weight");
  if (tensors.value == nullptr) return Missing(prefix + "attn_v.weight");
  return absl::OkStatus();
}

absl::Status Binder::CheckNothingLeft() const {
  for (const TensorInfo& tensor : index_.tensors) {
    if (known_.contains(tensor.name)) continue;
    // Precomputed frequencies in files of 2023, which every program computes itself.
    if (absl::EndsWith(tensor.name, ".attn_rot_embd")) continue;
    return absl::UnimplementedError(
        absl::StrCat(index_.files[tensor.file].path, ": the tensor ", Printable(tensor.name),
                     " is not part of a ", config_.architecture, " model as weir knows it. ",
                     "Leaving it out would give wrong text, so the file is refused; take one ",
                     "that was converted for the plain architecture."));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelTensors> Binder::Bind() {
  tensors_.layers.resize(config_.layers.size());
  for (const ExpectedTensor& expected : ListExpectedTensors(config_)) {
    WEIR_RETURN_IF_ERROR(BindOne(expected));
  }
  const Architecture* architecture = FindArchitecture(config_.architecture);
  for (uint32_t i = 0; i < config_.layers.size(); ++i) {
    WEIR_RETURN_IF_ERROR(CheckQkv(i));
    tensors_.layers[i].fused_gate_up = architecture->fused_gate_up;
  }
  WEIR_RETURN_IF_ERROR(CheckNothingLeft());
  tensors_.embedding = index_.Find(kEmbedding);
  tensors_.output_norm = index_.Find(kOutputNorm);
  tensors_.output = config_.tied_output ? tensors_.embedding : index_.Find(kOutput);
  for (const RopeConfig& rope : config_.ropes) {
    tensors_.rope_divisors.push_back(index_.Find(rope.frequency_divisor_tensor));
    tensors_.long_rope_divisors.push_back(index_.Find(rope.long_frequency_divisor_tensor));
  }
  return std::move(tensors_);
}

}  // namespace

std::vector<ExpectedTensor> ListExpectedTensors(const ModelConfig& config) {
  const Architecture* architecture = FindArchitecture(config.architecture);
  WEIR_CHECK(architecture != nullptr);
  std::vector<ExpectedTensor> list;
  const uint64_t columns = config.columns;
  const uint64_t vocabulary = config.vocabulary;
  list.push_back({.name = std::string(kEmbedding), .dims = {columns, vocabulary}});
  ListRopeDivisors(config, &list);
  for (uint32_t i = 0; i < config.layers.size(); ++i) {
    LayerLister lister(config, i, &list);
    ListAttention(config, *architecture, lister);
    ListFeedForward(config, *architecture, lister);
  }
  list.push_back({.name = std::string(kOutputNorm), .dims = {columns}, .is_vector = true});
  if (!config.tied_output) {
    list.push_back({.name = std::string(kOutput), .dims = {columns, vocabulary}});
  }
  return list;
}

absl::StatusOr<ModelTensors> BindModelTensors(const TensorIndex& index, const ModelConfig& config) {
  return Binder(index, config).Bind();
}

}  // namespace weir
