#include "models/rope_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "io/base.h"
#include "models/printable.h"

namespace weir {
namespace {

constexpr std::string_view kShortFactors = "rope_factors_short.weight";
constexpr std::string_view kLongFactors = "rope_factors_long.weight";
constexpr std::string_view kDivisors = "rope_freqs.weight";

// What keeps every frequency and magnitude that follows a finite float.
constexpr double kLeastBase = 1.001;
constexpr double kMostBase = 1e15;
constexpr double kLeast = 1e-3;
constexpr double kMost = 1e6;

enum class Scaling { kNone, kLinear, kYarn, kLongRope };
constexpr std::pair<std::string_view, Scaling> kScalings[] = {
    {"none", Scaling::kNone},
    {"linear", Scaling::kLinear},
    {"yarn", Scaling::kYarn},
    {"longrope", Scaling::kLongRope},
};

struct RopeKeys {
  Scaling scaling = Scaling::kNone;
  uint32_t rotary_columns = 0;
  double base = 10000;
  double factor = 1;            // of linear and YaRN
  double magnitude_factor = 1;  // rope.scaling.attn_factor
  bool has_magnitude_factor = false;
  std::optional<double> yarn_magnitude;  // rope.scaling.yarn_attn_factor
  double yarn_extrapolation = 1;
  double yarn_beta_fast = 32;
  double yarn_beta_slow = 1;
  double yarn_log_multiplier = 0;
  uint32_t original_context_length = 0;
};

class RopeReader {
 public:
  RopeReader(const TensorIndex& index, const Architecture& architecture)
      : metadata_(index.metadata),
        prefix_(absl::StrCat(AbslView(architecture.name), ".rope.")),
        has_long_factors_(index.Find(kLongFactors) != nullptr) {}

  absl::StatusOr<RopeKeys> Read(uint32_t key_columns, uint32_t context_length) const;

  // A number from `least` to `limit`.
  absl::StatusOr<double> Between(absl::string_view name, double fallback, double least,
                                 double limit) const;

 private:
  absl::StatusOr<Scaling> ReadScaling() const;
  absl::Status ReadYarn(RopeKeys* keys) const;
  std::string Key(absl::string_view name) const { return absl::StrCat(prefix_, name); }

  const Metadata& metadata_;
  std::string prefix_;
  bool has_long_factors_;
};

absl::StatusOr<double> RopeReader::Between(absl::string_view name, double fallback, double least,
                                           double limit) const {
  WEIR_ASSIGN_OR_RETURN(const double value, metadata_.GetFloatOr(Key(name), fallback));
  if (value >= least && value <= limit) return value;
  return absl::InvalidArgumentError(
      absl::StrCat(metadata_.source, ": metadata key \"", Key(name), "\" is ", value, "; ", least,
                   " to ", limit, " is expected. The file is damaged or was written by a ",
                   "faulty converter; convert or download the model again."));
}

absl::StatusOr<Scaling> RopeReader::ReadScaling() const {
  if (!metadata_.Has(Key("scaling.type"))) {
    // The converter of phi3 writes the factors without naming the type.
    return has_long_factors_ ? Scaling::kLongRope : Scaling::kLinear;
  }
  const absl::StatusOr<std::string> type = metadata_.GetString(Key("scaling.type"));
  if (!type.ok()) return type.status();
  for (const auto& [name, scaling] : kScalings) {
    if (name == *type) return scaling;
  }
  return absl::UnimplementedError(
      absl::StrCat(metadata_.source, ": the rope scaling \"", Printable(*type),
                   "\" is not known. Known: none, linear, yarn, longrope."));
}

absl::Status RopeReader::ReadYarn(RopeKeys* keys) const {
  WEIR_ASSIGN_OR_RETURN(keys->yarn_beta_fast, Between("scaling.yarn_beta_fast", 32, kLeast, kMost));
  WEIR_ASSIGN_OR_RETURN(keys->yarn_beta_slow, Between("scaling.yarn_beta_slow", 1, kLeast, kMost));
  WEIR_ASSIGN_OR_RETURN(keys->yarn_extrapolation,
                        metadata_.GetFloatOr(Key("scaling.yarn_ext_factor"), 1));
  WEIR_ASSIGN_OR_RETURN(keys->yarn_log_multiplier,
                        Between("scaling.yarn_log_multiplier", 0, 0, kMost));
  if (metadata_.Has(Key("scaling.yarn_attn_factor"))) {
    WEIR_ASSIGN_OR_RETURN(keys->yarn_magnitude,
                          Between("scaling.yarn_attn_factor", 1, kLeast, kMost));
  }
  if (keys->yarn_extrapolation < 0 || keys->yarn_extrapolation > 1) keys->yarn_extrapolation = 1;
  return absl::OkStatus();
}

absl::StatusOr<RopeKeys> RopeReader::Read(uint32_t key_columns, uint32_t context_length) const {
  RopeKeys keys;
  WEIR_ASSIGN_OR_RETURN(const uint64_t rotary,
                        metadata_.GetUintOr(Key("dimension_count"), key_columns));
  if (rotary == 0 || rotary > key_columns || rotary % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        metadata_.source, ": metadata key \"", Key("dimension_count"), "\" is ", rotary,
        "; an even number up to the ", key_columns, " columns of a head is expected. The file is ",
        "damaged or was written by a faulty converter; convert or download the model again."));
  }
  keys.rotary_columns = static_cast<uint32_t>(rotary);
  WEIR_ASSIGN_OR_RETURN(keys.base, Between("freq_base", 10000, kLeastBase, kMostBase));
  WEIR_ASSIGN_OR_RETURN(keys.scaling, ReadScaling());
  // Files of 2023 have the second key. A factor of zero means none.
  const std::string factor_key =
      metadata_.Has(Key("scaling.factor")) ? "scaling.factor" : "scale_linear";
  WEIR_ASSIGN_OR_RETURN(const double raw_factor, metadata_.GetFloatOr(Key(factor_key), 0));
  if (raw_factor != 0) {
    WEIR_ASSIGN_OR_RETURN(keys.factor, Between(factor_key, 1, kLeast, kMost));
  }
  if (keys.scaling == Scaling::kNone) keys.factor = 1;
  keys.has_magnitude_factor = metadata_.Has(Key("scaling.attn_factor"));
  WEIR_ASSIGN_OR_RETURN(keys.magnitude_factor, Between("scaling.attn_factor", 1, kLeast, kMost));
  WEIR_ASSIGN_OR_RETURN(
      const uint64_t original,
      metadata_.GetUintOr(Key("scaling.original_context_length"), context_length));
  if (original == 0 || original > (uint64_t{1} << 31)) {
    return absl::InvalidArgumentError(absl::StrCat(
        metadata_.source, ": metadata key \"", Key("scaling.original_context_length"), "\" is ",
        original, "; 1 to 2^31 is expected. The file is damaged or was written by a faulty ",
        "converter; convert or download the model again."));
  }
  keys.original_context_length = static_cast<uint32_t>(original);
  if (keys.scaling == Scaling::kYarn) WEIR_RETURN_IF_ERROR(ReadYarn(&keys));
  return keys;
}

// YaRN (Peng et al. 2023, section 3.2): the pair from which on wavelengths are so long that they
// turn fewer than `rotations` times over the original context.
double YarnBoundary(const RopeKeys& keys, double rotations) {
  return keys.rotary_columns *
         std::log(keys.original_context_length / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(keys.base));
}

std::vector<float> InverseFrequencies(const RopeKeys& keys) {
  double low = 0;
  double high = 0;
  if (keys.scaling == Scaling::kYarn) {
    low = std::max(0.0, std::floor(YarnBoundary(keys, keys.yarn_beta_fast)));
    high = std::min(keys.rotary_columns - 1.0, std::ceil(YarnBoundary(keys, keys.yarn_beta_slow)));
  }
  std::vector<float> inverse;
  for (uint32_t i = 0; i < keys.rotary_columns / 2; ++i) {
    const double unscaled = std::pow(keys.base, -2.0 * i / keys.rotary_columns);
    double scaled = unscaled;
    if (keys.scaling == Scaling::kLinear) scaled = unscaled / keys.factor;
    if (keys.scaling == Scaling::kYarn) {
      const double ramp = std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
      const double keep = (1 - ramp) * keys.yarn_extrapolation;
      scaled = unscaled / keys.factor * (1 - keep) + unscaled * keep;
    }
    inverse.push_back(static_cast<float>(scaled));
  }
  return inverse;
}

double YarnMagnitude(double factor, double multiplier) {
  return factor <= 1 ? 1.0 : 0.1 * multiplier * std::log(factor) + 1.0;
}

float Magnitude(const RopeKeys& keys, uint32_t context_length) {
  double magnitude = keys.magnitude_factor;
  if (keys.scaling == Scaling::kYarn) {
    if (keys.yarn_magnitude.has_value()) {
      magnitude *= *keys.yarn_magnitude;
    } else {
      magnitude *= YarnMagnitude(keys.factor, 1);
      if (keys.yarn_log_multiplier != 0) {
        magnitude /= YarnMagnitude(keys.factor, keys.yarn_log_multiplier);
      }
    }
  }
  // LongRoPE's own formula, where the converter did not write its result.
  if (keys.scaling == Scaling::kLongRope && !keys.has_magnitude_factor) {
    const double original = keys.original_context_length;
    const double factor = keys.factor > 1 ? keys.factor : context_length / original;
    if (factor > 1 && original > 1) {
      magnitude = std::sqrt(1 + std::log(factor) / std::log(original));
    }
  }
  return static_cast<float>(magnitude);
}

}  // namespace

absl::StatusOr<std::vector<RopeConfig>> MakeRopeConfigs(const TensorIndex& index,
                                                        const Architecture& architecture,
                                                        uint32_t key_columns,
                                                        uint32_t context_length) {
  const RopeReader reader(index, architecture);
  WEIR_ASSIGN_OR_RETURN(const RopeKeys keys, reader.Read(key_columns, context_length));
  RopeConfig rope;
  rope.layout = architecture.rope_layout;
  rope.rotary_columns = keys.rotary_columns;
  rope.inverse_frequency = InverseFrequencies(keys);
  rope.magnitude = Magnitude(keys, context_length);
  rope.original_context_length = keys.original_context_length;
  if (keys.scaling == Scaling::kLongRope) {
    if (index.Find(kShortFactors) == nullptr || index.Find(kLongFactors) == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(index.metadata.source, ": rope scaling is \"longrope\", but the tensors ",
                       AbslView(kShortFactors), " and ", AbslView(kLongFactors),
                       " are not both there. The file was written by a faulty ",
                       "converter; convert or download the model again."));
    }
    rope.frequency_divisor_tensor = std::string(kShortFactors);
    rope.long_frequency_divisor_tensor = std::string(kLongFactors);
  } else if (index.Find(kDivisors) != nullptr) {
    rope.frequency_divisor_tensor = std::string(kDivisors);
  }
  std::vector<RopeConfig> ropes = {rope};
  if (architecture.local_rope_base > 0) {
    RopeKeys local = keys;
    local.scaling = Scaling::kNone;
    WEIR_ASSIGN_OR_RETURN(local.base, reader.Between("freq_base_swa", architecture.local_rope_base,
                                                     kLeastBase, kMostBase));
    RopeConfig local_rope;
    local_rope.layout = rope.layout;
    local_rope.rotary_columns = rope.rotary_columns;
    local_rope.inverse_frequency = InverseFrequencies(local);
    local_rope.original_context_length = rope.original_context_length;
    ropes.push_back(std::move(local_rope));
  }
  return ropes;
}

}  // namespace weir
