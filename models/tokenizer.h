// Text <-> token ids, from a GGUF's metadata alone (tokenizer.ggml.*).
//
// Kinds: byte-level BPE ("gpt2"), SentencePiece BPE with scores and byte fallback ("llama"),
// unigram ("t5"). The ids are those of llama.cpp's tokenizer for the same file.
#ifndef WEIR_MODELS_TOKENIZER_H_
#define WEIR_MODELS_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/tensor_index.h"

namespace weir {

using TokenId = int32_t;

struct EncodeOptions {
  bool add_special = true;    // begin and end tokens as the file's flags say
  bool parse_special = true;  // "<|im_start|>" in the text becomes the control token
};

// Immutable after Make: any thread.
class Tokenizer {
 public:
  // Moves the vocabulary out of `metadata`. Refuses an unknown model or pre-tokenizer by name with
  // the list of known ones.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(Metadata& metadata);
  virtual ~Tokenizer() = default;

  // Never fails: bytes that are not UTF-8 go through as bytes (byte-level BPE, byte fallback) or as
  // the unknown token.
  virtual std::vector<TokenId> Encode(std::string_view text,
                                      const EncodeOptions& options) const = 0;

  // Appends the bytes that one token stands for (may be part of a UTF-8 character). Control tokens
  // give their text only when `show_special`; ids out of range give nothing.
  virtual void AppendTokenBytes(TokenId id, bool show_special, std::string* bytes) const = 0;
  std::string TokenBytes(TokenId id, bool show_special) const {
    std::string bytes;
    AppendTokenBytes(id, show_special, &bytes);
    return bytes;
  }
  // All of them joined, less what Encode put there by the file's flags: one begin token in front,
  // one end token behind, and the space that SentencePiece puts before a word that begins the text
  // or follows a special token. So Decode(Encode(text), true) == text, unless the vocabulary cannot
  // express a byte of the text.
  virtual std::string Decode(absl::Span<const TokenId> ids, bool show_special) const = 0;

  virtual uint32_t size() const = 0;
  virtual std::string_view TokenText(TokenId id) const = 0;  // as stored in the vocabulary
  virtual std::optional<TokenId> FindToken(
      std::string_view text) const = 0;                    // exact vocabulary entry
  virtual std::optional<TokenId> begin_token() const = 0;  // BOS
  virtual std::optional<TokenId> end_token() const = 0;    // EOS
  virtual bool IsEndOfGeneration(TokenId id) const = 0;  // EOS, EOT, <|im_end|>, <end_of_turn>, ...
  virtual bool adds_begin() const = 0;  // the file's add_bos flag, with the kind's default
  virtual bool adds_end() const = 0;
  virtual std::string description() const = 0;  // "byte-level BPE, qwen2, 151936 tokens"
};

}  // namespace weir

#endif  // WEIR_MODELS_TOKENIZER_H_
