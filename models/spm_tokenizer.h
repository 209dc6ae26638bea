// SentencePiece BPE ("llama" in tokenizer.ggml.model): neighbouring texts merge into the token with
// the best score; a character that is no token falls back to its bytes.
#ifndef WEIR_MODELS_SPM_TOKENIZER_H_
#define WEIR_MODELS_SPM_TOKENIZER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/vocabulary_tokenizer.h"

namespace weir {

class SpmTokenizer : public VocabularyTokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(Metadata& metadata);

  std::string description() const override;

 protected:
  void EncodePlain(std::string_view text, bool starts_words,
                   std::vector<TokenId>* ids) const override;
  void AppendNormalBytes(std::string_view token_text, std::string* bytes) const override;
  bool inserts_space() const override { return vocabulary().add_space_prefix(); }

 private:
  struct Symbol;
  struct Candidate;
  struct Scratch;

  explicit SpmTokenizer(Vocabulary taken);
  void Merge(std::string_view text, Scratch* scratch) const;
  void PushCandidate(std::string_view text, uint32_t left, Scratch* scratch) const;
  void AppendText(std::string_view text, std::vector<TokenId>* ids) const;

  std::array<std::optional<TokenId>, 256> byte_tokens_;
};

// `text` with every space replaced by kSpaceMark.
std::string MarkSpaces(std::string_view text);
// Appends `text` with every kSpaceMark replaced by a space.
void AppendUnmarked(std::string_view text, std::string* plain);

}  // namespace weir

#endif  // WEIR_MODELS_SPM_TOKENIZER_H_
