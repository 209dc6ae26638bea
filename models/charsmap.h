// SentencePiece's precompiled character map: the normalisation rules of a vocabulary (NFKC and the
// like) as a trie from texts to replacements.
//
// Format (tokenizer.ggml.precompiled_charsmap): the trie's size in bytes as a little-endian uint32,
// the trie as little-endian uint32 units of a XOR-compressed double array (the layout of
// darts-clone: https://github.com/s-yata/darts-clone), then the replacements, each ended by a zero.
#ifndef WEIR_MODELS_CHARSMAP_H_
#define WEIR_MODELS_CHARSMAP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/tensor_index.h"

namespace weir {

// What the front of a text becomes.
struct NormalisedPrefix {
  std::string_view replacement;  // into the text, or into the Charsmap
  size_t consumed_bytes = 0;     // of the text; 0: no rule applies
};

// Immutable after Make: any thread.
class Charsmap {
 public:
  // Moves the map out of `metadata`; one without rules where the file has none.
  static absl::StatusOr<Charsmap> Make(Metadata& metadata);

  // The longest rule that matches the front of `text`.
  NormalisedPrefix LongestMatch(std::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;  // ends with a zero
};

}  // namespace weir

#endif  // WEIR_MODELS_CHARSMAP_H_
