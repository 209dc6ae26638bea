// Unigram ("t5" in tokenizer.ggml.model): of all ways to cut the normalised text into tokens, the
// one with the largest sum of scores (Viterbi).
#ifndef WEIR_MODELS_UNIGRAM_TOKENIZER_H_
#define WEIR_MODELS_UNIGRAM_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/charsmap.h"
#include "models/vocabulary_tokenizer.h"

namespace weir {

// Finds the tokens that begin at a place in a text: ids sorted by text, narrowed byte by byte.
class PrefixIndex {
 public:
  // Tokens [begin, end) of the sorted order share the first `bytes` bytes.
  struct Range {
    uint32_t begin = 0;
    uint32_t end = 0;
    uint32_t bytes = 0;
    bool empty() const { return begin == end; }
  };

  // `vocabulary` must outlive this.
  PrefixIndex(const Vocabulary& vocabulary, std::vector<TokenId> ids);

  Range All() const { return {.begin = 0, .end = static_cast<uint32_t>(ids_.size()), .bytes = 0}; }
  // Those that have `byte` next.
  Range Narrow(Range range, unsigned char byte) const;
  // The token that consists of the shared bytes alone.
  std::optional<TokenId> Exact(Range range) const;

 private:
  const Vocabulary* vocabulary_;
  std::vector<TokenId> ids_;
  std::vector<uint32_t> first_byte_begin_;  // [257]: where the tokens with each first byte begin
};

class UnigramTokenizer : public VocabularyTokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(Metadata& metadata);

  std::string description() const override;

 protected:
  void EncodePlain(std::string_view text, bool starts_words,
                   std::vector<TokenId>* ids) const override;
  void AppendNormalBytes(std::string_view token_text, std::string* bytes) const override;
  bool inserts_space() const override;

 private:
  struct Best;

  UnigramTokenizer(Vocabulary taken, Charsmap charsmap, bool merges_spaces);
  std::string Normalise(std::string_view text) const;
  // The normalised form of the front of `text`, and how many bytes of it that stands for.
  NormalisedPrefix NormalisePrefix(std::string_view text) const;
  void Extend(std::string_view text, size_t at, std::vector<Best>* best) const;

  Charsmap charsmap_;
  bool merges_spaces_ = false;
  double unknown_score_ = 0;
  PrefixIndex tokens_;
  PrefixIndex user_defined_;
};

}  // namespace weir

#endif  // WEIR_MODELS_UNIGRAM_TOKENIZER_H_
