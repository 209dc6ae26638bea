// Small vocabularies as GGUF metadata, for tests of tokenizers.
#ifndef WEIR_TESTS_MODELS_VOCABULARY_HELPER_H_
#define WEIR_TESTS_MODELS_VOCABULARY_HELPER_H_

#include <string>
#include <string_view>
#include <vector>

#include "models/tensor_index.h"
#include "models/vocabulary.h"

namespace weir {

struct TestToken {
  std::string text;
  TokenType type = TokenType::kNormal;
  double score = 0;
};

Metadata TestVocabulary(std::string_view model, const std::vector<TestToken>& tokens);

// Tokens for all 256 bytes in GPT-2's alphabet: ids 0 to 255, in the order of the bytes.
std::vector<TestToken> ByteLevelTokens();
// "gpt2" metadata with those, then `tokens`, and `merges`.
Metadata ByteLevelVocabulary(std::string_view pre, const std::vector<TestToken>& tokens,
                             const std::vector<std::string>& merges);

// "<0x00>" to "<0xFF>" as kByte tokens.
std::vector<TestToken> ByteFallbackTokens();

}  // namespace weir

#endif  // WEIR_TESTS_MODELS_VOCABULARY_HELPER_H_
