#include "tests/models/vocabulary_helper.h"

#include <utility>

#include "models/utf8.h"
#include "models/vocabulary_tokenizer.h"

namespace weir {

Metadata TestVocabulary(std::string_view model, const std::vector<TestToken>& tokens) {
  StringTable texts;
  std::vector<int64_t> types;
  std::vector<double> scores;
  for (const TestToken& token : tokens) {
    texts.Add(token.text);
    types.push_back(static_cast<int64_t>(token.type));
    scores.push_back(token.score);
  }
  Metadata metadata;
  metadata.source = "test.gguf";
  metadata.Set("tokenizer.ggml.model", std::string(model));
  metadata.Set("tokenizer.ggml.tokens", std::move(texts));
  metadata.Set("tokenizer.ggml.token_type", std::move(types));
  metadata.Set("tokenizer.ggml.scores", std::move(scores));
  return metadata;
}

std::vector<TestToken> ByteLevelTokens() {
  std::vector<TestToken> tokens;
  uint32_t next_other = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    std::string text;
    AppendUtf8(printable ? byte : next_other++, &text);
    tokens.push_back({.text = text});
  }
  return tokens;
}

Metadata ByteLevelVocabulary(std::string_view pre, const std::vector<TestToken>& tokens,
                             const std::vector<std::string>& merges) {
  std::vector<TestToken> all = ByteLevelTokens();
  all.insert(all.end(), tokens.begin(), tokens.end());
  Metadata metadata = TestVocabulary("gpt2", all);
  metadata.Set("tokenizer.ggml.pre", std::string(pre));
  StringTable table;
  for (const std::string& merge : merges) table.Add(merge);
  metadata.Set("tokenizer.ggml.merges", std::move(table));
  return metadata;
}

std::vector<TestToken> ByteFallbackTokens() {
  std::vector<TestToken> tokens;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    tokens.push_back({.text = ByteTokenText(static_cast<uint8_t>(byte)), .type = TokenType::kByte});
  }
  return tokens;
}

}  // namespace weir
