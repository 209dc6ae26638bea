// What the kinds of tokenizers share: everything that follows from the vocabulary alone.
#ifndef WEIR_MODELS_VOCABULARY_TOKENIZER_H_
#define WEIR_MODELS_VOCABULARY_TOKENIZER_H_

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/tokenizer.h"
#include "models/vocabulary.h"

namespace weir {

class VocabularyTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const override;
  void AppendTokenBytes(TokenId id, bool show_special, std::string* bytes) const override;
  std::string Decode(absl::Span<const TokenId> ids, bool show_special) const override;
  uint32_t size() const override { return vocabulary_.size(); }
  std::string_view TokenText(TokenId id) const override;
  std::optional<TokenId> FindToken(std::string_view text) const override;
  std::optional<TokenId> begin_token() const override { return vocabulary_.begin_token(); }
  std::optional<TokenId> end_token() const override { return vocabulary_.end_token(); }
  bool IsEndOfGeneration(TokenId id) const override { return vocabulary_.IsEndOfGeneration(id); }
  bool adds_begin() const override { return vocabulary_.add_begin(); }
  bool adds_end() const override { return vocabulary_.add_end(); }

 protected:
  explicit VocabularyTokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

  const Vocabulary& vocabulary() const { return vocabulary_; }

  // Appends the ids of a text without special tokens, of at least one byte and at most 16 MiB.
  // `starts_words`: it begins the text or follows a special token.
  virtual void EncodePlain(std::string_view text, bool starts_words,
                           std::vector<TokenId>* ids) const = 0;
  // Appends the bytes that the text of a kNormal token stands for.
  virtual void AppendNormalBytes(std::string_view token_text, std::string* bytes) const = 0;
  // Whether EncodePlain puts a space before a text that starts words.
  virtual bool inserts_space() const = 0;

 private:
  Vocabulary vocabulary_;
};

// Hexadecimal value of "<0x41>"; nullopt for any other text.
std::optional<uint8_t> ParseByteToken(std::string_view text);
// "<0x41>", as byte tokens are called in vocabularies with byte fallback.
std::string ByteTokenText(uint8_t byte);

// The mark that SentencePiece writes for a space, U+2581.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

}  // namespace weir

#endif  // WEIR_MODELS_VOCABULARY_TOKENIZER_H_
