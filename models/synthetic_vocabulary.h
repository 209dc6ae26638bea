// A valid byte-level BPE vocabulary of any size, for synthetic models: every text can be encoded.
#ifndef WEIR_MODELS_SYNTHETIC_VOCABULARY_H_
#define WEIR_MODELS_SYNTHETIC_VOCABULARY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "models/tensor_index.h"

namespace weir {

// The least `size`: the 256 bytes and the special tokens.
inline constexpr uint32_t kLeastSyntheticVocabulary = 264;

// Sets the tokenizer.* keys: the 256 bytes, merges learnt from a short text, filler words that no
// merge reaches, and at the end the special tokens (begin, end, ChatML's, padding) with a ChatML
// template.
absl::Status AddSyntheticVocabulary(uint32_t size, Metadata* metadata);

}  // namespace weir

#endif  // WEIR_MODELS_SYNTHETIC_VOCABULARY_H_
