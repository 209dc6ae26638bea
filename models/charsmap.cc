#include "models/charsmap.h"

#include <algorithm>
#include <memory>
#include <variant>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr size_t kUnitBytes = 4;
// Far more than the rules of any normalisation need (NFKC: 18 bytes become at most 33). A damaged
// trie has no longest rule, and one that a stranger made could turn a short text into a huge one.
constexpr size_t kMaxRuleBytes = 256;
constexpr size_t kMaxReplacementBytes = 128;

// Fields of a unit.
uint32_t OffsetOf(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
uint32_t LabelOf(uint32_t unit) { return unit & (1u << 31 | 0xFFu); }
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1u) != 0; }
uint32_t ValueOf(uint32_t unit) { return unit & ((1u << 31) - 1); }

}  // namespace

absl::StatusOr<Charsmap> Charsmap::Make(Metadata& metadata) {
  constexpr std::string_view kKey = "tokenizer.ggml.precompiled_charsmap";
  Charsmap result;
  const std::unique_ptr<MetadataValue> value = metadata.Take(kKey);
  if (value == nullptr) return result;
  const auto* numbers = std::get_if<std::vector<int64_t>>(value.get());
  if (numbers == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(metadata.source, ": ", AbslView(kKey),
                     " is not an array of bytes. Convert or download the file ", "again."));
  }
  if (numbers->empty()) return result;
  const auto byte = [&](size_t at) { return static_cast<uint32_t>((*numbers)[at] & 0xFF); };
  const auto word = [&](size_t at) {
    return byte(at) | byte(at + 1) << 8 | byte(at + 2) << 16 | byte(at + 3) << 24;
  };
  const uint64_t total = numbers->size();
  const uint64_t trie_bytes = total < kUnitBytes ? 0 : word(0);
  const bool is_ended = total > 0 && byte(total - 1) == 0;
  if (total < kUnitBytes || trie_bytes % kUnitBytes != 0 || kUnitBytes + trie_bytes >= total ||
      !is_ended) {
    return absl::InvalidArgumentError(absl::StrCat(
        metadata.source, ": ", AbslView(kKey), " has ", total, " bytes, of which ", trie_bytes,
        " are to be a trie and the rest texts that end with a zero; that does not fit together. "
        "Convert or download the file again."));
  }
  result.units_.reserve(trie_bytes / kUnitBytes);
  for (uint64_t at = 0; at < trie_bytes; at += kUnitBytes) {
    result.units_.push_back(word(kUnitBytes + at));
  }
  result.replacements_.reserve(total - kUnitBytes - trie_bytes);
  for (uint64_t at = kUnitBytes + trie_bytes; at < total; ++at) {
    result.replacements_.push_back(static_cast<char>(byte(at)));
  }
  size_t begin = 0;
  for (size_t end = result.replacements_.find('\0'); end != std::string::npos;
       begin = end + 1, end = result.replacements_.find('\0', begin)) {
    if (end - begin <= kMaxReplacementBytes) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(metadata.source, ": ", AbslView(kKey), " has a replacement of ", end - begin,
                     " bytes; at most ", kMaxReplacementBytes,
                     " are expected. Convert or download the file ", "again."));
  }
  return result;
}

NormalisedPrefix Charsmap::LongestMatch(std::string_view text) const {
  NormalisedPrefix best;
  if (units_.empty()) return best;
  uint32_t node = OffsetOf(units_[0]);
  for (size_t i = 0; i < std::min(text.size(), kMaxRuleBytes) && text[i] != '\0'; ++i) {
    const uint32_t label = static_cast<unsigned char>(text[i]);
    node ^= label;
    // A damaged trie can point anywhere: that is no match.
    if (node >= units_.size() || LabelOf(units_[node]) != label) break;
    const bool has_leaf = HasLeaf(units_[node]);
    node ^= OffsetOf(units_[node]);
    if (node >= units_.size()) break;
    if (!has_leaf) continue;
    const uint32_t at = ValueOf(units_[node]);
    if (at >= replacements_.size()) break;
    const size_t end = replacements_.find('\0', at);
    best.replacement = std::string_view(replacements_).substr(at, end - at);
    best.consumed_bytes = i + 1;
  }
  return best;
}

}  // namespace weir
