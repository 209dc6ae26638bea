#include "models/config.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "io/base.h"
#include "models/architecture.h"
#include "models/printable.h"
#include "models/rope_config.h"

namespace weir {
namespace {

// Beyond any model; what keeps products of these within 64 bits and a stranger's file from making
// us plan for the absurd.
constexpr uint64_t kMaxLayers = 4096;
constexpr uint64_t kMaxColumns = 1 << 20;
constexpr uint64_t kMaxFeedForwardColumns = 1 << 23;
constexpr uint64_t kMaxHeads = 1 << 14;
constexpr uint64_t kMaxHeadColumns = 1 << 14;
constexpr uint64_t kMaxVocabulary = 1 << 24;
constexpr uint64_t kMaxContext = uint64_t{1} << 31;

constexpr std::string_view kConvertAgain =
    ". The file is damaged or was written by a faulty converter; convert or download the model "
    "again.";

class ConfigReader {
 public:
  ConfigReader(const TensorIndex& index, const Architecture& architecture)
      : index_(index), metadata_(index.metadata), architecture_(architecture) {}

  absl::StatusOr<ModelConfig> Read();

 private:
  absl::Status ReadSizes();
  absl::Status ReadLayers();
  absl::Status ReadHeadColumns();
  absl::Status ReadVocabulary();
  absl::Status ReadWindows();
  absl::Status ReadScales();
  absl::Status RefuseUnsupported() const;

  std::string Key(absl::string_view name) const {
    return absl::StrCat(AbslView(architecture_.name), ".", name);
  }
  absl::Status Refused(absl::string_view name, absl::string_view reason) const {
    return absl::InvalidArgumentError(absl::StrCat(metadata_.source, ": metadata key \"", Key(name),
                                                   "\" ", reason, AbslView(kConvertAgain)));
  }
  absl::Status Absurd(absl::string_view name, uint64_t value, uint64_t limit) const {
    return Refused(name, absl::StrCat("is ", value, "; 1 to ", limit, " is expected"));
  }
  absl::StatusOr<uint32_t> Size(absl::string_view name, uint64_t limit) const;
  absl::StatusOr<uint32_t> SizeOr(absl::string_view name, uint64_t limit, uint32_t fallback) const;
  // A key that holds one number for all layers, or an array with one for each.
  absl::StatusOr<std::vector<uint32_t>> PerLayer(absl::string_view name, uint64_t limit) const;

  const TensorIndex& index_;
  const Metadata& metadata_;
  const Architecture& architecture_;
  uint32_t layer_count_ = 0;
  ModelConfig config_;
};

absl::StatusOr<uint32_t> ConfigReader::Size(absl::string_view name, uint64_t limit) const {
  WEIR_ASSIGN_OR_RETURN(const uint64_t value, metadata_.GetUint(Key(name)));
  if (value == 0 || value > limit) return Absurd(name, value, limit);
  return static_cast<uint32_t>(value);
}

absl::StatusOr<uint32_t> ConfigReader::SizeOr(absl::string_view name, uint64_t limit,
                                              uint32_t fallback) const {
  if (!metadata_.Has(Key(name))) return fallback;
  return Size(name, limit);
}

absl::StatusOr<std::vector<uint32_t>> ConfigReader::PerLayer(absl::string_view name,
                                                             uint64_t limit) const {
  const MetadataValue* value = metadata_.Find(Key(name));
  const auto* array = value == nullptr ? nullptr : std::get_if<std::vector<int64_t>>(value);
  if (array == nullptr) {
    WEIR_ASSIGN_OR_RETURN(const uint32_t size, Size(name, limit));
    return std::vector<uint32_t>(layer_count_, size);
  }
  if (array->size() != layer_count_) {
    return Refused(name,
                   absl::StrCat("has ", array->size(), " values for ", layer_count_, " layers"));
  }
  std::vector<uint32_t> sizes;
  for (uint32_t i = 0; i < layer_count_; ++i) {
    const int64_t size = (*array)[i];
    if (size <= 0 || static_cast<uint64_t>(size) > limit) {
      return Refused(
          name, absl::StrCat("gives ", size, " for layer ", i, "; 1 to ", limit, " is expected"));
    }
    sizes.push_back(static_cast<uint32_t>(size));
  }
  return sizes;
}

absl::Status ConfigReader::RefuseUnsupported() const {
  WEIR_ASSIGN_OR_RETURN(const uint64_t experts, metadata_.GetUintOr(Key("expert_count"), 0));
  if (experts > 0) {
    return absl::UnimplementedError(absl::StrCat(metadata_.source, " is a mixture of ", experts,
                                                 " experts; only dense models can be run so far."));
  }
  return absl::OkStatus();
}

absl::Status ConfigReader::ReadSizes() {
  config_.architecture = std::string(architecture_.name);
  WEIR_ASSIGN_OR_RETURN(config_.name, metadata_.GetStringOr("general.name", ""));
  WEIR_ASSIGN_OR_RETURN(layer_count_, Size("block_count", kMaxLayers));
  WEIR_ASSIGN_OR_RETURN(config_.columns, Size("embedding_length", kMaxColumns));
  WEIR_ASSIGN_OR_RETURN(config_.context_length, Size("context_length", kMaxContext));
  WEIR_ASSIGN_OR_RETURN(const double epsilon,
                        metadata_.GetFloat(Key("attention.layer_norm_rms_epsilon")));
  // Less is zero as a float, and a row of zeros divided by it is no number.
  if (!(epsilon >= 1e-30 && epsilon < 1)) {
    return Refused("attention.layer_norm_rms_epsilon",
                   absl::StrCat("is ", epsilon, "; a small number above zero is expected"));
  }
  config_.norm_epsilon = static_cast<float>(epsilon);
  config_.activation = architecture_.activation;
  return absl::OkStatus();
}

absl::Status ConfigReader::ReadLayers() {
  WEIR_ASSIGN_OR_RETURN(const std::vector<uint32_t> heads,
                        PerLayer("attention.head_count", kMaxHeads));
  std::vector<uint32_t> kv_heads = heads;
  if (metadata_.Has(Key("attention.head_count_kv"))) {
    WEIR_ASSIGN_OR_RETURN(kv_heads, PerLayer("attention.head_count_kv", kMaxHeads));
  }
  WEIR_ASSIGN_OR_RETURN(const std::vector<uint32_t> feed_forward,
                        PerLayer("feed_forward_length", kMaxFeedForwardColumns));
  for (uint32_t i = 0; i < layer_count_; ++i) {
    if (heads[i] % kv_heads[i] != 0) {
      return Refused("attention.head_count_kv",
                     absl::StrCat("gives ", kv_heads[i], " for layer ", i, ", which do not divide ",
                                  "its ", heads[i], " heads"));
    }
    LayerConfig layer;
    layer.heads = heads[i];
    layer.kv_heads = kv_heads[i];
    layer.feed_forward_columns = feed_forward[i];
    config_.layers.push_back(layer);
  }
  return absl::OkStatus();
}

absl::Status ConfigReader::ReadHeadColumns() {
  const uint32_t heads = config_.layers[0].heads;
  const bool has_both =
      metadata_.Has(Key("attention.key_length")) && metadata_.Has(Key("attention.value_length"));
  if (!has_both && config_.columns % heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        metadata_.source, ": ", config_.columns, " columns are not a multiple of ", heads,
        " heads, and the file does not give attention.key_length and attention.value_length",
        AbslView(kConvertAgain)));
  }
  WEIR_ASSIGN_OR_RETURN(config_.key_columns,
                        SizeOr("attention.key_length", kMaxHeadColumns, config_.columns / heads));
  WEIR_ASSIGN_OR_RETURN(config_.value_columns,
                        SizeOr("attention.value_length", kMaxHeadColumns, config_.columns / heads));
  return absl::OkStatus();
}

absl::Status ConfigReader::ReadVocabulary() {
  const TensorInfo* embedding = index_.Find("token_embd.weight");
  if (embedding == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(metadata_.source, ": there is no tensor token_embd.weight. The file holds ",
                     "only a part of a model (a vocabulary, an adapter, a vision part?); give ",
                     "the model itself."));
  }
  if (embedding->dims.size() != 2 || embedding->dims[1] > kMaxVocabulary) {
    return absl::InvalidArgumentError(absl::StrCat(
        metadata_.source, ": the tensor token_embd.weight has the shape [",
        absl::StrJoin(embedding->dims, ", "), "]; [", config_.columns, ", vocabulary of at most ",
        kMaxVocabulary, "] is expected", AbslView(kConvertAgain)));
  }
  config_.vocabulary = static_cast<uint32_t>(embedding->dims[1]);
  // Fewer tokens than rows are common (padding); a token without a row could not be looked up.
  const MetadataValue* value = metadata_.Find("tokenizer.ggml.tokens");
  const auto* tokens = value == nullptr ? nullptr : std::get_if<StringTable>(value);
  if (tokens != nullptr && tokens->size() > config_.vocabulary) {
    return absl::InvalidArgumentError(
        absl::StrCat(metadata_.source, ": the vocabulary (tokenizer.ggml.tokens) has ",
                     tokens->size(), " entries, but token_embd.weight only ", config_.vocabulary,
                     " rows", AbslView(kConvertAgain)));
  }
  config_.tied_output = index_.Find("output.weight") == nullptr;
  return absl::OkStatus();
}

absl::Status ConfigReader::ReadWindows() {
  if (architecture_.window_rule == WindowRule::kNever) return absl::OkStatus();
  WEIR_ASSIGN_OR_RETURN(const uint64_t window, metadata_.GetUintOr(Key("attention.sliding_window"),
                                                                   architecture_.default_window));
  if (window == 0) return absl::OkStatus();
  if (window > kMaxContext) return Absurd("attention.sliding_window", window, kMaxContext);
  const std::string pattern_key = Key("attention.sliding_window_pattern");
  uint64_t period = architecture_.window_period;
  const std::vector<bool>* pattern = nullptr;
  if (const MetadataValue* value = metadata_.Find(pattern_key); value != nullptr) {
    pattern = std::get_if<std::vector<bool>>(value);
    if (pattern == nullptr) {
      WEIR_ASSIGN_OR_RETURN(period, metadata_.GetUint(pattern_key));
    } else if (pattern->size() != layer_count_) {
      return Refused(
          "attention.sliding_window_pattern",
          absl::StrCat("has ", pattern->size(), " values for ", layer_count_, " layers"));
    }
  }
  for (uint32_t i = 0; i < layer_count_; ++i) {
    const bool windowed =
        pattern != nullptr ? (*pattern)[i] : period == 0 || i % period != period - 1;
    if (!windowed) continue;
    config_.layers[i].window = static_cast<uint32_t>(window);
    config_.layers[i].rope = architecture_.local_rope_base > 0 ? 1 : 0;
  }
  return absl::OkStatus();
}

absl::Status ConfigReader::ReadScales() {
  if (architecture_.scales_embedding) {
    config_.embedding_scale = std::sqrt(static_cast<float>(config_.columns));
  }
  uint32_t scaled_columns = config_.key_columns;
  if (layer_count_ == architecture_.head_scale_exception_layers) {
    scaled_columns = config_.columns / config_.layers[0].heads;
  }
  if (scaled_columns == 0) return Absurd("attention.head_count", config_.layers[0].heads, 1);
  WEIR_ASSIGN_OR_RETURN(
      const double scale,
      metadata_.GetFloatOr(Key("attention.scale"), 1.0 / std::sqrt(double{1} * scaled_columns)));
  if (!(scale >= 1e-6 && scale < 1e3)) {
    return Refused("attention.scale", absl::StrCat("is ", scale, ", which makes no sense"));
  }
  config_.attention_scale = static_cast<float>(scale);
  if (!architecture_.soft_caps) return absl::OkStatus();
  WEIR_ASSIGN_OR_RETURN(const double attention_cap,
                        metadata_.GetFloatOr(Key("attn_logit_softcapping"), 0));
  WEIR_ASSIGN_OR_RETURN(const double final_cap,
                        metadata_.GetFloatOr(Key("final_logit_softcapping"), 0));
  if (attention_cap < 0 || attention_cap > 1e6 || final_cap < 0 || final_cap > 1e6) {
    return absl::InvalidArgumentError(
        absl::StrCat(metadata_.source, ": soft caps of ", attention_cap, " and ", final_cap,
                     " (attn_logit_softcapping, final_logit_softcapping) make no sense",
                     AbslView(kConvertAgain)));
  }
  config_.attention_soft_cap = static_cast<float>(attention_cap);
  config_.final_soft_cap = static_cast<float>(final_cap);
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ConfigReader::Read() {
  WEIR_RETURN_IF_ERROR(RefuseUnsupported());
  WEIR_RETURN_IF_ERROR(ReadSizes());
  WEIR_RETURN_IF_ERROR(ReadLayers());
  WEIR_RETURN_IF_ERROR(ReadHeadColumns());
  WEIR_RETURN_IF_ERROR(ReadVocabulary());
  WEIR_RETURN_IF_ERROR(ReadWindows());
  WEIR_RETURN_IF_ERROR(ReadScales());
  WEIR_ASSIGN_OR_RETURN(config_.ropes, MakeRopeConfigs(index_, architecture_, config_.key_columns,
                                                       config_.context_length));
  return std::move(config_);
}

}  // namespace

std::string KnownArchitectures() {
  return absl::StrJoin(AllArchitectures(), ", ", [](std::string* out, const Architecture& known) {
    out->append(known.name.data(), known.name.size());
  });
}

absl::StatusOr<ModelConfig> MakeModelConfig(const TensorIndex& index) {
  const absl::StatusOr<std::string> name = index.metadata.GetString("general.architecture");
  if (!name.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(index.metadata.source, ": the file does not say its architecture ",
                     "(general.architecture). It is damaged, or not a language model; download it ",
                     "again, or give the file of the model itself."));
  }
  const Architecture* architecture = FindArchitecture(*name);
  if (architecture == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat(index.metadata.source, ": the architecture \"", Printable(*name),
                     "\" is not known. Known: ", KnownArchitectures(), "."));
  }
  return ConfigReader(index, *architecture).Read();
}

}  // namespace weir
