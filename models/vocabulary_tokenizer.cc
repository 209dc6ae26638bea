#include "models/vocabulary_tokenizer.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace weir {
namespace {

// Positions inside a fragment are 32 bits wide, and normalising makes a text up to 128 times longer
// (charsmap.cc). No context holds the tokens of a text as long as this.
constexpr size_t kMaxFragmentBytes = size_t{1} << 24;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

std::optional<uint8_t> ParseByteToken(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  const int high = HexDigit(text[3]);
  const int low = HexDigit(text[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high * 16 + low);
}

std::string ByteTokenText(uint8_t byte) { return absl::StrFormat("<0x%02X>", byte); }

std::vector<TokenId> VocabularyTokenizer::Encode(std::string_view text,
                                                 const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  if (options.add_special && vocabulary_.add_begin()) ids.push_back(*vocabulary_.begin_token());
  bool starts_words = true;
  for (Fragment fragment : vocabulary_.Partition(text, options.parse_special)) {
    if (fragment.token.has_value()) {
      ids.push_back(*fragment.token);
      starts_words = true;
      continue;
    }
    while (!fragment.text.empty()) {
      const std::string_view part = fragment.text.substr(0, kMaxFragmentBytes);
      EncodePlain(part, starts_words, &ids);
      fragment.text.remove_prefix(part.size());
      starts_words = false;
    }
  }
  if (options.add_special && vocabulary_.add_end()) ids.push_back(*vocabulary_.end_token());
  return ids;
}

void VocabularyTokenizer::AppendTokenBytes(TokenId id, bool show_special,
                                           std::string* bytes) const {
  if (!vocabulary_.InRange(id)) return;
  const std::string_view text = vocabulary_.Text(id);
  switch (vocabulary_.Type(id)) {
    case TokenType::kUnknown:
    case TokenType::kControl:
      if (show_special) bytes->append(text);
      return;
    case TokenType::kUserDefined:
      bytes->append(text);
      return;
    case TokenType::kByte:
      if (const std::optional<uint8_t> byte = ParseByteToken(text)) {
        bytes->push_back(static_cast<char>(*byte));
      } else {
        bytes->append(text);
      }
      return;
    case TokenType::kNormal:
      return AppendNormalBytes(text, bytes);
    case TokenType::kUndefined:
    case TokenType::kUnused:
      return;
  }
}

std::string VocabularyTokenizer::Decode(absl::Span<const TokenId> ids, bool show_special) const {
  std::string text;
  bool starts_words = true;
  // What Encode adds is no part of the text.
  if (vocabulary_.add_begin() && !ids.empty() && ids.front() == vocabulary_.begin_token()) {
    ids.remove_prefix(1);
  }
  if (vocabulary_.add_end() && !ids.empty() && ids.back() == vocabulary_.end_token()) {
    ids.remove_suffix(1);
  }
  for (const TokenId id : ids) {
    if (!vocabulary_.InRange(id)) continue;
    const TokenType type = vocabulary_.Type(id);
    const bool is_special = type == TokenType::kControl || type == TokenType::kUnknown ||
                            type == TokenType::kUserDefined;
    std::string bytes = TokenBytes(id, show_special);
    // The mirror image of Encode: what EncodePlain puts before a word is taken away again.
    if (!is_special && starts_words && inserts_space() && bytes.starts_with(' ')) {
      bytes.erase(0, 1);
    }
    text += bytes;
    starts_words = is_special;
  }
  return text;
}

std::string_view VocabularyTokenizer::TokenText(TokenId id) const {
  return vocabulary_.InRange(id) ? vocabulary_.Text(id) : std::string_view();
}

std::optional<TokenId> VocabularyTokenizer::FindToken(std::string_view text) const {
  return vocabulary_.Find(text);
}

}  // namespace weir
