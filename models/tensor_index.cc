#include "models/tensor_index.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {

void StringTable::Add(std::string_view text) {
  bytes_.append(text);
  WEIR_CHECK(bytes_.size() <= std::numeric_limits<uint32_t>::max());
  ends_.push_back(static_cast<uint32_t>(bytes_.size()));
}

void StringTable::Reserve(size_t count) { ends_.reserve(count); }

std::string_view StringTable::operator[](size_t index) const {
  WEIR_CHECK(index < ends_.size());
  const uint32_t begin = index == 0 ? 0 : ends_[index - 1];
  return std::string_view(bytes_).substr(begin, ends_[index] - begin);
}

uint64_t StringTable::heap_bytes() const {
  return bytes_.capacity() + ends_.capacity() * sizeof(ends_[0]);
}

void StringTable::ShrinkToFit() {
  bytes_.shrink_to_fit();
  ends_.shrink_to_fit();
}

std::string_view MetadataKindName(const MetadataValue& value) {
  static constexpr std::string_view kNames[] = {
      "an unsigned integer",
      "an integer",
      "a number",
      "a boolean",
      "a string",
      "an array of strings",
      "an array of integers",
      "an array of numbers",
      "an array of booleans",
  };
  static_assert(std::size(kNames) == std::variant_size_v<MetadataValue>);
  return kNames[value.index()];
}

bool Metadata::Has(std::string_view key) const { return index_.contains(AbslView(key)); }

const MetadataValue* Metadata::Find(std::string_view key) const {
  const auto found = index_.find(AbslView(key));
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

void Metadata::Set(std::string key, MetadataValue value) {
  const auto [found, inserted] = index_.try_emplace(key, entries_.size());
  if (inserted) {
    entries_.emplace_back(std::move(key), std::move(value));
  } else {
    entries_[found->second].second = std::move(value);
  }
}

std::unique_ptr<MetadataValue> Metadata::Take(std::string_view key) {
  const auto found = index_.find(AbslView(key));
  if (found == index_.end()) return nullptr;
  const size_t position = found->second;
  auto value = std::make_unique<MetadataValue>(std::move(entries_[position].second));
  index_.erase(found);
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(position));
  for (auto& [name, index] : index_) {
    if (index > position) --index;
  }
  return value;
}

namespace {

absl::Status Absent(const Metadata& metadata, std::string_view key) {
  return absl::NotFoundError(
      absl::StrCat(metadata.source, ": the metadata has no key \"", AbslView(key),
                   "\", which this kind of model must have. The file is incomplete or was written "
                   "by a faulty converter; convert or download the model again."));
}

absl::Status WrongKind(const Metadata& metadata, std::string_view key, const MetadataValue& value,
                       std::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(metadata.source, ": metadata key \"", AbslView(key), "\" holds ",
                   AbslView(MetadataKindName(value)), " where ", AbslView(expected),
                   " is expected. The file was written by a faulty converter; ",
                   "convert or download the model again."));
}

}  // namespace

absl::StatusOr<uint64_t> Metadata::GetUint(std::string_view key) const {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(*this, key);
  if (const auto* number = std::get_if<uint64_t>(value)) return *number;
  if (const auto* number = std::get_if<int64_t>(value)) {
    if (*number >= 0) return static_cast<uint64_t>(*number);
  }
  if (const auto* flag = std::get_if<bool>(value)) return *flag ? 1 : 0;
  return WrongKind(*this, key, *value, "an integer of at least zero");
}

absl::StatusOr<double> Metadata::GetFloat(std::string_view key) const {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(*this, key);
  double number = 0;
  if (const auto* real = std::get_if<double>(value)) {
    number = *real;
  } else if (const auto* natural = std::get_if<uint64_t>(value)) {
    number = static_cast<double>(*natural);
  } else if (const auto* integer = std::get_if<int64_t>(value)) {
    number = static_cast<double>(*integer);
  } else {
    return WrongKind(*this, key, *value, "a number");
  }
  if (!std::isfinite(number)) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": metadata key \"", AbslView(key), "\" is not a finite number. The file ",
        "is damaged or was written by a faulty converter; convert or download the ",
        "model again."));
  }
  return number;
}

absl::StatusOr<bool> Metadata::GetBool(std::string_view key) const {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(*this, key);
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  const absl::StatusOr<uint64_t> number = GetUint(key);
  if (number.ok() && *number <= 1) return *number == 1;
  return WrongKind(*this, key, *value, "a boolean");
}

absl::StatusOr<std::string> Metadata::GetString(std::string_view key) const {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return Absent(*this, key);
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  return WrongKind(*this, key, *value, "a string");
}

absl::StatusOr<uint64_t> Metadata::GetUintOr(std::string_view key, uint64_t fallback) const {
  if (!Has(key)) return fallback;
  return GetUint(key);
}

absl::StatusOr<double> Metadata::GetFloatOr(std::string_view key, double fallback) const {
  if (!Has(key)) return fallback;
  return GetFloat(key);
}

absl::StatusOr<bool> Metadata::GetBoolOr(std::string_view key, bool fallback) const {
  if (!Has(key)) return fallback;
  return GetBool(key);
}

absl::StatusOr<std::string> Metadata::GetStringOr(std::string_view key,
                                                  std::string_view fallback) const {
  if (!Has(key)) return std::string(fallback);
  return GetString(key);
}

uint64_t TensorInfo::rows() const {
  uint64_t rows = 1;
  for (size_t i = 1; i < dims.size(); ++i) rows *= dims[i];
  return rows;
}

const TensorInfo* TensorIndex::Find(std::string_view name) const {
  const auto found = by_name.find(AbslView(name));
  return found == by_name.end() ? nullptr : &tensors[found->second];
}

uint64_t TensorIndex::tensor_bytes() const {
  uint64_t bytes = 0;
  for (const TensorInfo& tensor : tensors) bytes += tensor.bytes;
  return bytes;
}

}  // namespace weir
