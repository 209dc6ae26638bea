// A vocabulary and a text from arbitrary bytes: whatever Make accepts must encode and decode
// anything.
//
// Input: lines of metadata, an empty line, the text. "T" + a digit for the type + a byte for the
// score + TEXT is a token, "M" + TEXT a merge, "C" + BYTES the charsmap, KEY=VALUE another entry.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "io/base.h"
#include "models/tokenizer.h"

namespace weir {
namespace {

struct Parsed {
  StringTable tokens;
  StringTable merges;
  std::vector<int64_t> types;
  std::vector<double> scores;
  Metadata metadata;
};

void TakeLine(std::string_view line, Parsed* parsed) {
  const size_t equals = line.find('=');
  if (line.starts_with("T") && line.size() >= 3) {
    parsed->types.push_back(line[1] - '0');
    parsed->scores.push_back(static_cast<signed char>(line[2]));
    parsed->tokens.Add(line.substr(3));
  } else if (line.starts_with("M")) {
    parsed->merges.Add(line.substr(1));
  } else if (line.starts_with("C")) {
    std::vector<int64_t> bytes;
    for (const char c : line.substr(1)) bytes.push_back(static_cast<unsigned char>(c));
    parsed->metadata.Set("tokenizer.ggml.precompiled_charsmap", std::move(bytes));
  } else if (equals != std::string_view::npos) {
    const std::string key = "tokenizer.ggml." + std::string(line.substr(0, equals));
    const std::string value(line.substr(equals + 1));
    char* end = nullptr;
    const uint64_t number = std::strtoull(value.c_str(), &end, 10);
    if (value == "true" || value == "false") {
      parsed->metadata.Set(key, value == "true");
    } else if (!value.empty() && *end == '\0') {
      parsed->metadata.Set(key, number);
    } else {
      parsed->metadata.Set(key, value);
    }
  }
}

void Exercise(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool special : {true, false}) {
    const std::vector<TokenId> ids =
        tokenizer.Encode(text, {.add_special = special, .parse_special = special});
    for (const TokenId id : ids) {
      WEIR_CHECK(id >= 0 && static_cast<uint32_t>(id) < tokenizer.size());
      (void)tokenizer.TokenBytes(id, special);
    }
    (void)tokenizer.Decode(ids, special);
  }
  (void)tokenizer.IsEndOfGeneration(static_cast<TokenId>(text.size()));
  (void)tokenizer.description();
}

}  // namespace
}  // namespace weir

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  weir::Parsed parsed;
  while (!input.empty()) {
    const size_t end = std::min(input.find('\n'), input.size());
    const std::string_view line = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    if (line.empty()) break;
    weir::TakeLine(line, &parsed);
  }
  parsed.metadata.source = "fuzz";
  parsed.metadata.Set("tokenizer.ggml.tokens", std::move(parsed.tokens));
  parsed.metadata.Set("tokenizer.ggml.token_type", std::move(parsed.types));
  parsed.metadata.Set("tokenizer.ggml.scores", std::move(parsed.scores));
  parsed.metadata.Set("tokenizer.ggml.merges", std::move(parsed.merges));
  const auto tokenizer = weir::Tokenizer::Make(parsed.metadata);
  if (tokenizer.ok()) weir::Exercise(**tokenizer, input);
  return 0;
}
