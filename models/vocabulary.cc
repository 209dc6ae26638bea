#include "models/vocabulary.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <variant>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr uint32_t kNoToken = 0xFFFFFFFFu;
constexpr uint64_t kMaxTokens = uint64_t{1}
                                << 30;  // ids and the index's slots stay well below 2^32
// Longer than any real token. Looking for tokens in a text takes time in proportion to the longest.
constexpr uint64_t kMaxTokenBytes = 4096;

absl::Status Wrong(const Metadata& metadata, std::string_view key, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(metadata.source, ": ", AbslView(key), " ", AbslView(what),
                   ". The file's vocabulary is damaged or was converted wrongly: convert or "
                   "download it again."));
}

// The id stored under `key`, `fallback` where there is none.
absl::StatusOr<std::optional<TokenId>> ReadId(const Metadata& metadata, std::string_view key,
                                              uint32_t size, std::optional<TokenId> fallback) {
  if (!metadata.Has(key)) {
    if (fallback.has_value() && static_cast<uint32_t>(*fallback) >= size) fallback.reset();
    return fallback;
  }
  WEIR_ASSIGN_OR_RETURN(const uint64_t id, metadata.GetUint(key));
  if (id >= size) {
    return Wrong(metadata, key, absl::StrCat("is ", id, ", but the file has ", size, " tokens"));
  }
  return static_cast<TokenId>(id);
}

}  // namespace

absl::StatusOr<Vocabulary> Vocabulary::Make(Metadata& metadata,
                                            const VocabularyDefaults& defaults) {
  Vocabulary vocabulary;
  WEIR_RETURN_IF_ERROR(vocabulary.TakeTokens(metadata));
  WEIR_RETURN_IF_ERROR(vocabulary.TakeTypes(metadata));
  WEIR_RETURN_IF_ERROR(vocabulary.TakeScores(metadata));
  WEIR_RETURN_IF_ERROR(vocabulary.BuildIndex(metadata.source));
  WEIR_RETURN_IF_ERROR(vocabulary.ReadSpecialIds(metadata, defaults));
  WEIR_RETURN_IF_ERROR(vocabulary.ReadFlags(metadata, defaults));
  WEIR_RETURN_IF_ERROR(vocabulary.FindEndOfGeneration(metadata));
  WEIR_RETURN_IF_ERROR(vocabulary.IndexSpecials(metadata.source));
  vocabulary.MarkStrippingTokens(metadata);
  return vocabulary;
}

absl::Status Vocabulary::TakeTokens(Metadata& metadata) {
  constexpr std::string_view kKey = "tokenizer.ggml.tokens";
  const std::unique_ptr<MetadataValue> value = metadata.Take(kKey);
  if (value == nullptr) return Wrong(metadata, kKey, "is missing");
  StringTable* table = std::get_if<StringTable>(value.get());
  if (table == nullptr) return Wrong(metadata, kKey, "is not an array of strings");
  if (table->size() == 0 || table->size() > kMaxTokens) {
    return Wrong(metadata, kKey, absl::StrCat("has ", table->size(), " entries"));
  }
  bool has_empty = false;
  for (size_t i = 0; i < table->size(); ++i) {
    if ((*table)[i].size() > kMaxTokenBytes) {
      return Wrong(metadata, kKey,
                   absl::StrCat("entry ", i, " has ", (*table)[i].size(), " bytes; at most ",
                                kMaxTokenBytes, " are read"));
    }
    has_empty = has_empty || (*table)[i].empty();
    max_token_bytes_ = std::max(max_token_bytes_, static_cast<uint32_t>((*table)[i].size()));
  }
  if (!has_empty) {
    texts_ = std::move(*table);
    return absl::OkStatus();
  }
  // llama.cpp gives an empty entry this name, so that texts stay distinct.
  for (size_t i = 0; i < table->size(); ++i) {
    const std::string_view text = (*table)[i];
    texts_.Add(text.empty() ? absl::StrCat("[EMPTY_", i, "]") : std::string(text));
    max_token_bytes_ = std::max(max_token_bytes_, static_cast<uint32_t>(texts_[i].size()));
  }
  texts_.ShrinkToFit();
  return absl::OkStatus();
}

absl::Status Vocabulary::TakeTypes(Metadata& metadata) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  const std::unique_ptr<MetadataValue> value = metadata.Take(kKey);
  if (value == nullptr) {
    types_.assign(size(), TokenType::kNormal);
    return absl::OkStatus();
  }
  const auto* types = std::get_if<std::vector<int64_t>>(value.get());
  if (types == nullptr) return Wrong(metadata, kKey, "is not an array of integers");
  if (types->size() != size()) {
    return Wrong(metadata, kKey,
                 absl::StrCat("has ", types->size(), " entries for ", size(), " tokens"));
  }
  types_.reserve(size());
  for (uint32_t i = 0; i < size(); ++i) {
    const int64_t type = (*types)[i];
    const bool known = type >= 0 && type <= static_cast<int64_t>(TokenType::kByte);
    types_.push_back(known ? static_cast<TokenType>(type) : TokenType::kUndefined);
  }
  return absl::OkStatus();
}

absl::Status Vocabulary::TakeScores(Metadata& metadata) {
  constexpr std::string_view kKey = "tokenizer.ggml.scores";
  const std::unique_ptr<MetadataValue> value = metadata.Take(kKey);
  if (value == nullptr) return absl::OkStatus();
  const auto take = [&](const auto& numbers) {
    if (numbers.size() != size()) {
      return Wrong(metadata, kKey,
                   absl::StrCat("has ", numbers.size(), " entries for ", size(), " tokens"));
    }
    scores_.reserve(size());
    for (uint32_t i = 0; i < size(); ++i) {
      const auto score = static_cast<double>(numbers[i]);
      // Merging orders by score, and a NaN has no place in an order.
      if (!(std::abs(score) <= std::numeric_limits<float>::max())) {
        return Wrong(metadata, kKey,
                     absl::StrCat("entry ", i, " is ", score, ", which no token can score"));
      }
      scores_.push_back(static_cast<float>(score));
    }
    return absl::OkStatus();
  };
  if (const auto* floats = std::get_if<std::vector<double>>(value.get())) return take(*floats);
  if (const auto* ints = std::get_if<std::vector<int64_t>>(value.get())) return take(*ints);
  return Wrong(metadata, kKey, "is not an array of numbers");
}

absl::Status Vocabulary::BuildIndex(const std::string& source) {
  size_t slots = 16;
  while (slots < size() + size() / 2) slots *= 2;
  index_.assign(slots, kNoToken);
  for (uint32_t id = 0; id < size(); ++id) {
    const std::string_view text = texts_[id];
    size_t slot = absl::Hash<absl::string_view>()(AbslView(text)) & (slots - 1);
    while (index_[slot] != kNoToken) {
      if (texts_[index_[slot]] == text) {
        return absl::InvalidArgumentError(absl::StrCat(
            source, ": tokenizer.ggml.tokens has the same text at ", index_[slot], " and at ", id,
            "; every token must be distinct. Convert or download the file again."));
      }
      slot = (slot + 1) & (slots - 1);
    }
    index_[slot] = id;
  }
  return absl::OkStatus();
}

std::optional<TokenId> Vocabulary::Find(std::string_view text) const {
  if (text.size() > max_token_bytes_) return std::nullopt;
  const size_t mask = index_.size() - 1;
  size_t slot = absl::Hash<absl::string_view>()(AbslView(text)) & mask;
  while (index_[slot] != kNoToken) {
    if (texts_[index_[slot]] == text) return static_cast<TokenId>(index_[slot]);
    slot = (slot + 1) & mask;
  }
  return std::nullopt;
}

absl::Status Vocabulary::ReadSpecialIds(const Metadata& metadata,
                                        const VocabularyDefaults& defaults) {
  WEIR_ASSIGN_OR_RETURN(begin_,
                        ReadId(metadata, "tokenizer.ggml.bos_token_id", size(), defaults.begin));
  WEIR_ASSIGN_OR_RETURN(end_,
                        ReadId(metadata, "tokenizer.ggml.eos_token_id", size(), defaults.end));
  WEIR_ASSIGN_OR_RETURN(
      unknown_, ReadId(metadata, "tokenizer.ggml.unknown_token_id", size(), defaults.unknown));
  for (std::string_view key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    WEIR_ASSIGN_OR_RETURN(const std::optional<TokenId> id,
                          ReadId(metadata, key, size(), std::nullopt));
    if (id.has_value()) end_of_generation_.push_back(*id);
  }
  if (end_.has_value()) end_of_generation_.push_back(*end_);
  return absl::OkStatus();
}

absl::Status Vocabulary::ReadFlags(const Metadata& metadata, const VocabularyDefaults& defaults) {
  WEIR_ASSIGN_OR_RETURN(add_begin_,
                        metadata.GetBoolOr("tokenizer.ggml.add_bos_token", defaults.add_begin));
  WEIR_ASSIGN_OR_RETURN(add_end_,
                        metadata.GetBoolOr("tokenizer.ggml.add_eos_token", defaults.add_end));
  WEIR_ASSIGN_OR_RETURN(add_space_prefix_, metadata.GetBoolOr("tokenizer.ggml.add_space_prefix",
                                                              defaults.add_space_prefix));
  if (add_begin_ && !begin_.has_value()) {
    return Wrong(metadata, "tokenizer.ggml.bos_token_id",
                 "is missing, yet every prompt is to begin with it (tokenizer.ggml.add_bos_token)");
  }
  if (add_end_ && !end_.has_value()) {
    return Wrong(metadata, "tokenizer.ggml.eos_token_id",
                 "is missing, yet every prompt is to end with it (tokenizer.ggml.add_eos_token)");
  }
  return absl::OkStatus();
}

bool Vocabulary::IsEndOfGeneration(TokenId id) const {
  return std::binary_search(end_of_generation_.begin(), end_of_generation_.end(), id);
}

uint64_t Vocabulary::heap_bytes() const {
  return texts_.heap_bytes() + types_.capacity() * sizeof(TokenType) +
         scores_.capacity() * sizeof(float) + index_.capacity() * sizeof(uint32_t) +
         special_lengths_.capacity() * sizeof(SpecialLength) +
         (end_of_generation_.capacity() + strips_left_.capacity() + strips_right_.capacity()) *
             sizeof(TokenId);
}

}  // namespace weir
