// Byte-level BPE ("gpt2" in tokenizer.ggml.model): a pre-tokenizer cuts the text into pieces, each
// byte of a piece becomes a symbol, and pairs of symbols merge in the order of the file's list.
#ifndef WEIR_MODELS_BPE_TOKENIZER_H_
#define WEIR_MODELS_BPE_TOKENIZER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/pre_tokenizer.h"
#include "models/vocabulary_tokenizer.h"

namespace weir {

// A symbol is a token's id or, from the vocabulary's size on, a text that occurs in merges without
// being a token.
using SymbolId = uint32_t;

struct Merge {
  uint32_t rank = 0;  // position in the file's list: the smallest merges first
  SymbolId result = 0;
};

// Pairs of symbols -> what they merge into. Open addressing, 16 bytes a slot.
class MergeTable {
 public:
  static constexpr uint32_t kNoRank = 0xFFFFFFFFu;

  explicit MergeTable(size_t expected_merges);
  // The first of several with the same pair counts.
  void Add(SymbolId left, SymbolId right, Merge merge);
  // Null when the pair does not merge.
  const Merge* Find(SymbolId left, SymbolId right) const;
  uint64_t heap_bytes() const;

 private:
  size_t Slot(uint64_t pair) const;

  std::vector<uint64_t> pairs_;  // left in the high half
  std::vector<Merge> merges_;    // parallel; kNoRank: an empty slot
};

class BpeTokenizer : public VocabularyTokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(Metadata& metadata);

  std::string description() const override;

 protected:
  void EncodePlain(std::string_view text, bool starts_words,
                   std::vector<TokenId>* ids) const override;
  void AppendNormalBytes(std::string_view token_text, std::string* bytes) const override;
  bool inserts_space() const override { return false; }

 private:
  struct Candidate;
  struct Scratch;

  BpeTokenizer(Vocabulary vocabulary, const PreTokenizerInfo& info, PreTokenizer pre_tokenizer,
               size_t merges);
  absl::Status AddMerges(const std::string& source, const StringTable& merges);
  void EncodePiece(std::string_view piece, Scratch* scratch, std::vector<TokenId>* ids) const;
  void MergeSymbols(Scratch* scratch) const;
  void PushCandidate(uint32_t left, Scratch* scratch) const;
  void AppendSymbol(SymbolId symbol, std::vector<TokenId>* ids) const;

  std::string_view pre_name_;
  bool ignores_merges_ = false;
  PreTokenizer pre_tokenizer_;
  MergeTable merges_;
  StringTable extra_texts_;  // of the symbols that are no tokens
  std::array<SymbolId, 256> byte_symbols_{};
};

}  // namespace weir

#endif  // WEIR_MODELS_BPE_TOKENIZER_H_
