// Pre-tokenizers of byte-level BPE: regular expressions that cut a text into the pieces inside
// which merges happen. Run by PCRE2 with Unicode properties, compiled to machine code where it can.
//
// Which expressions a name in tokenizer.ggml.pre stands for is taken from llama.cpp
// (src/llama-vocab.cpp), as are the Unicode properties (version 15.1) where PCRE2 has an older
// table.
#ifndef WEIR_MODELS_PRE_TOKENIZER_H_
#define WEIR_MODELS_PRE_TOKENIZER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace weir {

// One expression: alternatives, tried in this order at each place.
using SplitAlternatives = absl::Span<const std::string_view>;

// A value of tokenizer.ggml.pre and what follows from it.
struct PreTokenizerInfo {
  std::string_view name;
  // Applied one after the other: each cuts the pieces that those before it left into matches and
  // what lies between them.
  absl::Span<const SplitAlternatives> splits;
  bool ignores_merges = false;  // a piece that is a token is taken whole
  bool adds_begin = false;      // the default of add_bos_token
  bool has_default_begin = true;
};

// Null when the name is unknown.
const PreTokenizerInfo* FindPreTokenizer(std::string_view name);
std::string KnownPreTokenizers();  // "bailingmoe, bloom, ..." for messages

// Immutable after Make: any thread.
class PreTokenizer {
 public:
  static absl::StatusOr<PreTokenizer> Make(const PreTokenizerInfo& info);
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // Where each piece of `text` ends, ascending, the last being text.size(); empty for an empty
  // text. Any bytes will do: one that is not UTF-8 counts as a symbol of its own.
  std::vector<size_t> Split(std::string_view text) const;

 private:
  class Expression;
  PreTokenizer();

  std::vector<Expression> expressions_;
};

}  // namespace weir

#endif  // WEIR_MODELS_PRE_TOKENIZER_H_
