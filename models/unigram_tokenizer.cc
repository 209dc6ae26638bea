#include "models/unigram_tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "models/spm_tokenizer.h"
#include "models/utf8.h"

namespace weir {
namespace {

// How much worse than the worst token an unknown character is (SentencePiece: kUnkPenalty).
constexpr double kUnknownPenalty = 10.0;
constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

std::vector<TokenId> IdsOfTypes(const Vocabulary& vocabulary,
                                std::initializer_list<TokenType> types) {
  std::vector<TokenId> ids;
  for (TokenId id = 0; vocabulary.InRange(id); ++id) {
    if (absl::c_linear_search(types, vocabulary.Type(id))) ids.push_back(id);
  }
  return ids;
}

double UnknownScore(const Vocabulary& vocabulary) {
  float worst = std::numeric_limits<float>::max();
  for (TokenId id = 0; vocabulary.InRange(id); ++id) {
    if (vocabulary.Type(id) == TokenType::kNormal) worst = std::min(worst, vocabulary.Score(id));
  }
  return static_cast<float>(worst - kUnknownPenalty);
}

}  // namespace

PrefixIndex::PrefixIndex(const Vocabulary& vocabulary, std::vector<TokenId> ids)
    : vocabulary_(&vocabulary), ids_(std::move(ids)) {
  absl::c_sort(ids_, [&](TokenId a, TokenId b) { return vocabulary.Text(a) < vocabulary.Text(b); });
  first_byte_begin_.assign(257, 0);
  for (const TokenId id : ids_) {
    ++first_byte_begin_[static_cast<unsigned char>(vocabulary.Text(id)[0]) + 1u];
  }
  for (size_t i = 1; i < first_byte_begin_.size(); ++i) {
    first_byte_begin_[i] += first_byte_begin_[i - 1];
  }
}

PrefixIndex::Range PrefixIndex::Narrow(Range range, unsigned char byte) const {
  if (range.bytes == 0) {
    return {.begin = first_byte_begin_[byte], .end = first_byte_begin_[byte + 1u], .bytes = 1};
  }
  // -1 for a text that ends here: it sorts before those that go on.
  const auto next_byte = [&](TokenId id) {
    const std::string_view text = vocabulary_->Text(id);
    return text.size() == range.bytes ? -1 : static_cast<unsigned char>(text[range.bytes]);
  };
  const auto first = ids_.begin() + range.begin;
  const auto last = ids_.begin() + range.end;
  const auto low =
      std::partition_point(first, last, [&](TokenId id) { return next_byte(id) < byte; });
  const auto high =
      std::partition_point(low, last, [&](TokenId id) { return next_byte(id) <= byte; });
  return {.begin = static_cast<uint32_t>(low - ids_.begin()),
          .end = static_cast<uint32_t>(high - ids_.begin()),
          .bytes = range.bytes + 1};
}

std::optional<TokenId> PrefixIndex::Exact(Range range) const {
  if (range.empty() || vocabulary_->Text(ids_[range.begin]).size() != range.bytes) {
    return std::nullopt;
  }
  return ids_[range.begin];
}

// The best way to reach a place in the text.
struct UnigramTokenizer::Best {
  double score = -std::numeric_limits<double>::max();
  TokenId token = 0;   // the last one
  uint32_t begin = 0;  // where that token begins
};

UnigramTokenizer::UnigramTokenizer(Vocabulary taken, Charsmap charsmap, bool merges_spaces)
    : VocabularyTokenizer(std::move(taken)),
      charsmap_(std::move(charsmap)),
      merges_spaces_(merges_spaces),
      unknown_score_(UnknownScore(vocabulary())),
      tokens_(vocabulary(), IdsOfTypes(vocabulary(), {TokenType::kNormal, TokenType::kUserDefined,
                                                      TokenType::kUnused})),
      user_defined_(vocabulary(), IdsOfTypes(vocabulary(), {TokenType::kUserDefined})) {}

absl::StatusOr<std::unique_ptr<Tokenizer>> UnigramTokenizer::Make(Metadata& metadata) {
  VocabularyDefaults defaults;  // llama.cpp's for this kind
  defaults.end = 1;
  defaults.unknown = 2;
  defaults.add_end = true;
  WEIR_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Make(metadata, defaults));
  if (!vocabulary.unknown_token().has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        metadata.source,
        ": a unigram vocabulary needs tokenizer.ggml.unknown_token_id, which is missing. Convert "
        "or download the file again."));
  }
  WEIR_ASSIGN_OR_RETURN(Charsmap charsmap, Charsmap::Make(metadata));
  WEIR_ASSIGN_OR_RETURN(const bool merges_spaces,
                        metadata.GetBoolOr("tokenizer.ggml.remove_extra_whitespaces", false));
  return std::unique_ptr<Tokenizer>(
      new UnigramTokenizer(std::move(vocabulary), std::move(charsmap), merges_spaces));
}

NormalisedPrefix UnigramTokenizer::NormalisePrefix(std::string_view text) const {
  // A text that begins as a user-defined token does is left alone, as far as it does (llama.cpp).
  PrefixIndex::Range range = user_defined_.All();
  size_t bytes = 0;
  while (bytes < text.size()) {
    range = user_defined_.Narrow(range, static_cast<unsigned char>(text[bytes]));
    if (range.empty()) break;
    ++bytes;
  }
  if (bytes > 0) return {.replacement = text.substr(0, bytes), .consumed_bytes = bytes};
  const NormalisedPrefix match = charsmap_.LongestMatch(text);
  if (match.consumed_bytes > 0) return match;
  const Utf8Char c = DecodeUtf8(text);
  if (c.bytes == 0) return {.replacement = kReplacementCharacter, .consumed_bytes = 1};
  return {.replacement = text.substr(0, c.bytes), .consumed_bytes = c.bytes};
}

std::string UnigramTokenizer::Normalise(std::string_view text) const {
  std::string normalised;
  bool has_prefix = false;
  bool in_word = false;
  while (!text.empty()) {
    const NormalisedPrefix prefix = NormalisePrefix(text);
    for (const char c : prefix.replacement) {
      if (c == ' ') {
        in_word = false;
        if (!merges_spaces_) normalised += kSpaceMark;
        continue;
      }
      if (!in_word) {
        in_word = true;
        // When runs of spaces merge, each word brings its one space along.
        if (merges_spaces_ || (vocabulary().add_space_prefix() && !has_prefix)) {
          normalised += kSpaceMark;
          has_prefix = true;
        }
      }
      normalised += c;
    }
    text.remove_prefix(prefix.consumed_bytes);
  }
  return normalised;
}

void UnigramTokenizer::Extend(std::string_view text, size_t at, std::vector<Best>* best) const {
  const double score = (*best)[at].score;
  const auto offer = [&](size_t end, TokenId token, double token_score) {
    Best& champion = (*best)[end];
    if (score + token_score > champion.score) {
      champion = {.score = score + token_score, .token = token, .begin = static_cast<uint32_t>(at)};
    }
  };
  const size_t character =
      std::min(Utf8LengthFromLead(static_cast<unsigned char>(text[at])), text.size() - at);
  bool covers_character = false;
  PrefixIndex::Range range = tokens_.All();
  for (size_t end = at; end < text.size();) {
    range = tokens_.Narrow(range, static_cast<unsigned char>(text[end++]));
    if (range.empty()) break;
    const std::optional<TokenId> token = tokens_.Exact(range);
    if (!token.has_value()) continue;
    covers_character = covers_character || end - at == character;
    const bool is_user_defined = vocabulary().Type(*token) == TokenType::kUserDefined;
    offer(end, *token, is_user_defined ? 0.0 : double{vocabulary().Score(*token)});
  }
  if (!covers_character) offer(at + character, *vocabulary().unknown_token(), unknown_score_);
}

void UnigramTokenizer::EncodePlain(std::string_view text, bool /*starts_words*/,
                                   std::vector<TokenId>* ids) const {
  const std::string normalised = Normalise(text);
  if (normalised.empty()) return;
  const TokenId unknown = *vocabulary().unknown_token();
  std::vector<Best> best(normalised.size() + 1, Best{.token = unknown});
  best[0].score = 0;
  for (size_t at = 0; at < normalised.size();) {
    Extend(normalised, at, &best);
    at += Utf8LengthFromLead(static_cast<unsigned char>(normalised[at]));
  }
  const size_t first = ids->size();
  bool after_unknown = false;
  for (size_t at = normalised.size(); at > 0; at = best[at].begin) {
    const bool is_unknown = best[at].token == unknown;
    // Neighbouring unknown characters are one unknown token.
    if (!(is_unknown && after_unknown)) ids->push_back(best[at].token);
    after_unknown = is_unknown;
  }
  std::reverse(ids->begin() + static_cast<std::ptrdiff_t>(first), ids->end());
}

bool UnigramTokenizer::inserts_space() const {
  return merges_spaces_ || vocabulary().add_space_prefix();
}

void UnigramTokenizer::AppendNormalBytes(std::string_view token_text, std::string* bytes) const {
  AppendUnmarked(token_text, bytes);
}

std::string UnigramTokenizer::description() const {
  return absl::StrCat("unigram, ", size(), " tokens");
}

}  // namespace weir
