#include "models/synthetic.h"

#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "io/base.h"
#include "models/architecture.h"
#include "models/config.h"
#include "models/layer_tensors.h"
#include "models/synthetic_blocks.h"
#include "models/synthetic_vocabulary.h"

namespace weir {
namespace {

constexpr double kScalingFactor = 4;

struct Preset {
  absl::string_view name;
  uint32_t layers, columns, heads, feed_forward_columns, vocabulary, context_length;
};

// The shapes of Llama 3.2 (1b, 3b) and 3.1 (8b, 70b); all with 8 KV heads. "tiny" is for tests.
constexpr Preset kPresets[] = {
    {"tiny", 4, 256, 4, 512, 512, 2048},          {"1b", 16, 2048, 32, 8192, 128256, 131072},
    {"3b", 28, 3072, 24, 8192, 128256, 131072},   {"8b", 32, 4096, 32, 14336, 128256, 131072},
    {"70b", 80, 8192, 64, 28672, 128256, 131072},
};

// Mixes: most matrices in `base`, those that matter most in `better` (llama.cpp's rule: the output,
// and v and down of the first and last eighth of the layers and of every third between).
struct Mix {
  absl::string_view name;
  DType base;
  DType better;
};
constexpr Mix kMixes[] = {
    {"Q4_K_M", DType::kQ4_K, DType::kQ6_K},
    {"Q5_K_M", DType::kQ5_K, DType::kQ6_K},
};
constexpr absl::string_view kEveryFormat = "mixed";

bool MattersMore(uint32_t layer, uint32_t layers) {
  const uint32_t eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

// Chooses each matrix's format.
class FormatChooser {
 public:
  static absl::StatusOr<FormatChooser> Make(const SyntheticSpec& spec) {
    FormatChooser chooser;
    chooser.layers_ = spec.layers;
    if (absl::EqualsIgnoreCase(spec.format, kEveryFormat)) return chooser;
    for (const Mix& mix : kMixes) {
      if (absl::EqualsIgnoreCase(spec.format, mix.name)) chooser.mix_ = mix;
    }
    if (const std::optional<DType> dtype = DTypeFromName(spec.format); dtype.has_value()) {
      chooser.mix_ = Mix{"", *dtype, *dtype};
    }
    if (!chooser.mix_.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the format \"", spec.format, "\" is not known. Known: ", KnownSyntheticFormats(), "."));
    }
    return chooser;
  }

  DType Choose(const ExpectedTensor& tensor) {
    if (!mix_.has_value()) return ChooseNext(tensor);
    const bool is_output = tensor.name == "output.weight";
    const bool may_be_better = tensor.slot == &LayerTensors::value ||
                               tensor.slot == &LayerTensors::down ||
                               tensor.slot == &LayerTensors::fused_qkv;
    const bool better = is_output || (may_be_better && MattersMore(tensor.layer, layers_));
    return better ? mix_->better : mix_->base;
  }

 private:
  // Every format in turn; the wide float ones only for small matrices, so that a tiny model stays
  // tiny.
  DType ChooseNext(const ExpectedTensor& tensor) {
    const bool is_small = tensor.slot == &LayerTensors::key || tensor.slot == &LayerTensors::value;
    for (;;) {
      uint32_t& next = is_small ? next_small_ : next_;
      const DTypeInfo& info = AllDTypes()[next++ % AllDTypes().size()];
      if (info.block_elements == 1 && !is_small) continue;
      if (tensor.dims[0] % info.block_elements == 0) return info.dtype;
    }
  }

  uint32_t layers_ = 0;
  std::optional<Mix> mix_;
  uint32_t next_ = 0;
  uint32_t next_small_ = 0;
};

Metadata MakeMetadata(const SyntheticSpec& spec, const Architecture& architecture) {
  Metadata metadata;
  metadata.source = spec.name;
  const auto key = [&](absl::string_view name) {
    return absl::StrCat(AbslView(architecture.name), ".", name);
  };
  const uint32_t head_columns =
      spec.head_columns > 0 ? spec.head_columns : spec.columns / spec.heads;
  metadata.Set("general.architecture", spec.architecture);
  metadata.Set("general.type", std::string("model"));
  metadata.Set("general.name", spec.name);
  metadata.Set("general.description",
               absl::StrCat("Random weights of weir synth, seed ", spec.seed, ", ", spec.format));
  metadata.Set(key("block_count"), uint64_t{spec.layers});
  metadata.Set(key("context_length"), uint64_t{spec.context_length});
  metadata.Set(key("embedding_length"), uint64_t{spec.columns});
  metadata.Set(key("feed_forward_length"), uint64_t{spec.feed_forward_columns});
  metadata.Set(key("attention.head_count"), uint64_t{spec.heads});
  metadata.Set(key("attention.head_count_kv"), uint64_t{spec.kv_heads});
  metadata.Set(key("attention.key_length"), uint64_t{head_columns});
  metadata.Set(key("attention.value_length"), uint64_t{head_columns});
  metadata.Set(key("attention.layer_norm_rms_epsilon"), 1e-5);
  metadata.Set(key("rope.dimension_count"), uint64_t{head_columns});
  metadata.Set(key("rope.freq_base"), spec.rope_base);
  metadata.Set(key("vocab_size"), uint64_t{spec.vocabulary});
  if (spec.window > 0) metadata.Set(key("attention.sliding_window"), uint64_t{spec.window});
  if (architecture.name == "gemma2") {
    metadata.Set(key("attn_logit_softcapping"), 50.0);
    metadata.Set(key("final_logit_softcapping"), 30.0);
  }
  if (!spec.rope_scaling.empty() && spec.rope_scaling != "llama3") {
    metadata.Set(key("rope.scaling.type"), spec.rope_scaling);
    metadata.Set(key("rope.scaling.original_context_length"),
                 uint64_t{spec.context_length / static_cast<uint32_t>(kScalingFactor)});
    if (spec.rope_scaling != "longrope") metadata.Set(key("rope.scaling.factor"), kScalingFactor);
  }
  return metadata;
}

absl::Status CheckSpec(const SyntheticSpec& spec, const Architecture* architecture) {
  if (architecture == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("the architecture \"", spec.architecture,
                                                   "\" is not known. Known: ", KnownArchitectures(),
                                                   "."));
  }
  if (spec.layers == 0 || spec.columns == 0 || spec.heads == 0 || spec.kv_heads == 0 ||
      spec.feed_forward_columns == 0 || spec.context_length == 0) {
    return absl::InvalidArgumentError(
        "layers, columns, heads, KV heads, feed-forward columns and "
        "context must all be at least 1");
  }
  if (spec.window > 0 && architecture->window_rule == WindowRule::kNever) {
    return absl::InvalidArgumentError(
        absl::StrCat("the architecture ", spec.architecture, " has no sliding window"));
  }
  for (const absl::string_view known : {"", "linear", "yarn", "llama3", "longrope"}) {
    if (spec.rope_scaling == known) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the rope scaling \"", spec.rope_scaling,
                   "\" is not known. Known: linear, yarn, llama3, longrope."));
}

// An index with just what MakeModelConfig looks for, so that sizes are checked, and tensors listed,
// by the code that reads models.
absl::StatusOr<ModelConfig> ConfigOf(const SyntheticSpec& spec, const Metadata& metadata) {
  TensorIndex index;
  index.metadata = metadata;
  const auto pretend = [&index](const std::string& name, std::vector<uint64_t> dims) {
    index.by_name.emplace(name, static_cast<uint32_t>(index.tensors.size()));
    TensorInfo tensor;
    tensor.name = name;
    tensor.dims = std::move(dims);
    index.tensors.push_back(std::move(tensor));
  };
  pretend("token_embd.weight", {spec.columns, spec.vocabulary});
  const bool ties = spec.tied_output || FindArchitecture(spec.architecture)->ties_output;
  if (!ties) pretend("output.weight", {spec.columns, spec.vocabulary});
  if (spec.rope_scaling == "llama3") pretend("rope_freqs.weight", {1});
  if (spec.rope_scaling == "longrope") {
    pretend("rope_factors_short.weight", {1});
    pretend("rope_factors_long.weight", {1});
  }
  return MakeModelConfig(index);
}

void AddTensor(const ExpectedTensor& expected, const ModelConfig& config, FormatChooser* chooser,
               SyntheticModel* model) {
  GgufTensor tensor;
  tensor.name = expected.name;
  tensor.dims = expected.dims;
  double mean = 0;
  double deviation = 0.1;
  if (expected.is_vector) {
    tensor.dtype = DType::kF32;
    const bool is_bias = absl::EndsWith(expected.name, ".bias");
    const bool is_divisor = absl::StartsWith(expected.name, "rope_");
    mean = is_bias ? 0 : is_divisor ? 1.5 : 1;
  } else {
    tensor.dtype = chooser->Choose(expected);
    // Rows of unit length keep activations at their size; a wider spread at the end gives the
    // logits a spread of about 4, so that the most likely token stands out.
    deviation = 1 / std::sqrt(static_cast<double>(expected.dims[0]));
    const bool makes_logits = expected.name == "output.weight" ||
                              (config.tied_output && expected.name == "token_embd.weight");
    if (makes_logits) deviation *= 4;
  }
  model->tensors.push_back(std::move(tensor));
  model->means.push_back(mean);
  model->deviations.push_back(deviation);
}

}  // namespace

std::string KnownSyntheticPresets() {
  return absl::StrJoin(kPresets, ", ", [](std::string* out, const Preset& preset) {
    absl::StrAppend(out, preset.name);
  });
}

std::string KnownSyntheticFormats() {
  std::string known;
  for (const DTypeInfo& info : AllDTypes()) absl::StrAppend(&known, AbslView(info.name), ", ");
  for (const Mix& mix : kMixes) absl::StrAppend(&known, mix.name, ", ");
  return absl::StrCat(known, kEveryFormat);
}

absl::StatusOr<SyntheticSpec> SyntheticPreset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name != AbslView(name)) continue;
    SyntheticSpec spec;
    spec.name = absl::StrCat("synthetic-", preset.name);
    spec.layers = preset.layers;
    spec.columns = preset.columns;
    spec.heads = preset.heads;
    spec.feed_forward_columns = preset.feed_forward_columns;
    spec.vocabulary = preset.vocabulary;
    spec.context_length = preset.context_length;
    const bool is_tiny = preset.name == "tiny";
    spec.kv_heads = is_tiny ? 2 : 8;
    spec.rope_base = is_tiny ? 10000 : 500000;
    return spec;
  }
  return absl::NotFoundError(absl::StrCat(
      "the preset \"", AbslView(name), "\" is not known. Known: ", KnownSyntheticPresets(), "."));
}

absl::StatusOr<SyntheticModel> PlanSynthetic(const SyntheticSpec& spec) {
  const Architecture* architecture = FindArchitecture(spec.architecture);
  WEIR_RETURN_IF_ERROR(CheckSpec(spec, architecture));
  SyntheticModel model;
  model.spec = spec;
  model.metadata = MakeMetadata(spec, *architecture);
  WEIR_ASSIGN_OR_RETURN(const ModelConfig config, ConfigOf(spec, model.metadata));
  WEIR_RETURN_IF_ERROR(AddSyntheticVocabulary(spec.vocabulary, &model.metadata));
  WEIR_ASSIGN_OR_RETURN(FormatChooser chooser, FormatChooser::Make(spec));
  for (const ExpectedTensor& expected : ListExpectedTensors(config)) {
    // Optional tensors are left out.
    if (expected.required) AddTensor(expected, config, &chooser, &model);
  }
  return model;
}

absl::StatusOr<uint64_t> WriteSynthetic(const std::string& path, const SyntheticSpec& spec,
                                        const GgufWriteOptions& options) {
  WEIR_ASSIGN_OR_RETURN(const SyntheticModel model, PlanSynthetic(spec));
  WEIR_ASSIGN_OR_RETURN(const GgufLayout layout,
                        LayOutGguf(model.metadata, model.tensors, GgufLayoutOptions()));
  // One at a time: a generator may hold a table.
  std::unique_ptr<WeightGenerator> generator;
  size_t generator_tensor = 0;
  const FillTensor fill = [&](size_t tensor, uint64_t offset_bytes, absl::Span<uint8_t> out) {
    if (generator == nullptr || generator_tensor != tensor) {
      generator = std::make_unique<WeightGenerator>(model.tensors[tensor].dtype,
                                                    model.means[tensor], model.deviations[tensor]);
      generator_tensor = tensor;
    }
    generator->Fill(MixSeed(spec.seed, tensor, offset_bytes), out);
  };
  WEIR_RETURN_IF_ERROR(WriteGguf(path, layout, fill, options));
  return layout.file_bytes;
}

}  // namespace weir
