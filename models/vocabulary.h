// Vocabulary: the tokens of a file and what each one is, in a few compact tables. Every kind of
// tokenizer has one.
//
// Memory: the texts themselves, 4 bytes of end offset, 1 byte of type, 4 bytes of score and 8 to 16
// bytes of index for each token: 7 MB for 262,144 tokens.
#ifndef WEIR_MODELS_VOCABULARY_H_
#define WEIR_MODELS_VOCABULARY_H_

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/tensor_index.h"
#include "models/tokenizer.h"

namespace weir {

// Values as in tokenizer.ggml.token_type.
enum class TokenType : uint8_t {
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// What a kind of tokenizer assumes where the file says nothing.
struct VocabularyDefaults {
  std::optional<TokenId> begin;
  std::optional<TokenId> end;
  std::optional<TokenId> unknown;
  bool add_begin = false;
  bool add_end = false;
  bool add_space_prefix = false;
};

// A stretch of text, or one special token that stands for the text it was cut out of.
struct Fragment {
  std::string_view text;  // empty for a token
  std::optional<TokenId> token;
};

// Immutable after Make: any thread.
class Vocabulary {
 public:
  // Moves tokens, scores and types out of `metadata`. Refuses duplicates, arrays of other lengths,
  // texts longer than any real token, scores that are no numbers and special ids out of range.
  static absl::StatusOr<Vocabulary> Make(Metadata& metadata, const VocabularyDefaults& defaults);

  uint32_t size() const { return static_cast<uint32_t>(texts_.size()); }
  std::string_view Text(TokenId id) const { return texts_[static_cast<size_t>(id)]; }
  TokenType Type(TokenId id) const { return types_[static_cast<size_t>(id)]; }
  float Score(TokenId id) const { return scores_.empty() ? 0 : scores_[static_cast<size_t>(id)]; }
  bool InRange(TokenId id) const { return id >= 0 && static_cast<uint32_t>(id) < size(); }
  std::optional<TokenId> Find(std::string_view text) const;

  std::optional<TokenId> begin_token() const { return begin_; }
  std::optional<TokenId> end_token() const { return end_; }
  std::optional<TokenId> unknown_token() const { return unknown_; }
  bool add_begin() const { return add_begin_; }
  bool add_end() const { return add_end_; }
  bool add_space_prefix() const { return add_space_prefix_; }
  bool IsEndOfGeneration(TokenId id) const;

  uint32_t max_token_bytes() const { return max_token_bytes_; }
  uint64_t heap_bytes() const;

  // Cuts the texts of special tokens out of `text`: longer ones first, then from left to right, as
  // llama.cpp does. Control and unknown tokens only when `parse_special`; user-defined ones always.
  std::vector<Fragment> Partition(std::string_view text, bool parse_special) const;

 private:
  // One length that some special token has.
  struct SpecialLength {
    uint32_t bytes = 0;
    bool has_user_defined = false;
    std::bitset<256> first_bytes;
  };
  struct Span {
    size_t begin = 0;
    size_t end = 0;
    TokenId token = 0;
  };

  absl::Status TakeTokens(Metadata& metadata);
  absl::Status TakeTypes(Metadata& metadata);
  absl::Status TakeScores(Metadata& metadata);
  absl::Status BuildIndex(const std::string& source);
  absl::Status ReadSpecialIds(const Metadata& metadata, const VocabularyDefaults& defaults);
  absl::Status ReadFlags(const Metadata& metadata, const VocabularyDefaults& defaults);
  absl::Status FindEndOfGeneration(const Metadata& metadata);
  void ApplyTextRules();
  void MarkStrippingTokens(const Metadata& metadata);
  absl::Status IndexSpecials(const std::string& source);
  bool IsSpecial(TokenId id, bool parse_special) const;
  void CutLength(std::string_view text, const SpecialLength& length, bool parse_special,
                 std::vector<Span>* spans) const;
  Span Widen(std::string_view text, Span span, size_t lowest, size_t highest) const;

  StringTable texts_;
  std::vector<TokenType> types_;
  std::vector<float> scores_;                   // empty when the file has none
  std::vector<uint32_t> index_;                 // open addressing; a power of two; kNoToken: empty
  std::vector<SpecialLength> special_lengths_;  // longest first
  std::vector<TokenId> end_of_generation_;      // sorted
  std::vector<TokenId> strips_left_;  // sorted; tokens that swallow white space beside them
  std::vector<TokenId> strips_right_;
  std::optional<TokenId> begin_;
  std::optional<TokenId> end_;
  std::optional<TokenId> unknown_;
  bool add_begin_ = false;
  bool add_end_ = false;
  bool add_space_prefix_ = false;
  uint32_t max_token_bytes_ = 0;
};

}  // namespace weir

#endif  // WEIR_MODELS_VOCABULARY_H_
