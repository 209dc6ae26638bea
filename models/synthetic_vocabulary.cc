#include "models/synthetic_vocabulary.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "io/base.h"

namespace weir {
namespace {

// What the merges are learnt from.
constexpr char kText[] =
    "A weir is a low wall across a river. The water behind it rises until it can flow over the top "
    "and then the river goes on as before, but slower and more evenly than it was. Those who live "
    "by the water have built such walls for as long as there have been mills, and they have used "
    "them to measure too: the height of the water over the wall tells how much of it is passing. "
    "When there is little rain the wall holds the water back, and when there is too much of it the "
    "water goes over the wall and nothing is lost. The river is never still. What comes down from "
    "the hills in the morning is at the sea in the evening, and in the night the same thing starts "
    "again. It is not the wall that does the work but the water; the wall only says where and when "
    "it should go. A good weir is one that nobody sees: the boats are passing, the wheel of the "
    "mill is turning, the fields have their share and the fish have their stairs. The person who "
    "keeps the weir looks at the water, writes down the number and opens or closes a gate. If the "
    "number is higher than it was in the morning there will be more water in the evening, and the "
    "gate is opened before the water is there. That is all there is to it: to know what is coming, "
    "to have the room ready, and to let nothing wait that could be moving.";

constexpr char kChatMlTemplate[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' "
    "}}{% endif %}";

constexpr const char* kSpecialTokens[] = {"<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>",
                                          "<|im_end|>", "<|pad|>"};
constexpr uint32_t kSpecialCount = std::size(kSpecialTokens);

// Token types of tokenizer.ggml.token_type.
constexpr int64_t kNormalToken = 1;
constexpr int64_t kControlToken = 3;

// The printable characters that GPT-2's byte-level BPE writes bytes as (Radford et al. 2019).
std::string ByteAsText(uint32_t byte) {
  const auto is_printable = [](uint32_t b) {
    return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  };
  uint32_t code = byte;
  if (!is_printable(byte)) {
    code = 256;
    for (uint32_t b = 0; b < byte; ++b) code += is_printable(b) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

using Word = std::vector<std::string>;
using Pair = std::pair<std::string, std::string>;

void MergeEverywhere(const Pair& pair, std::vector<Word>* words) {
  for (Word& word : *words) {
    for (size_t i = 0; i + 1 < word.size(); ++i) {
      if (word[i] != pair.first || word[i + 1] != pair.second) continue;
      word[i] += word[i + 1];
      word.erase(word.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
  }
}

// Byte pair encoding: the most frequent pair, again and again, ties to the alphabetically first.
std::vector<Pair> LearnMerges(size_t count) {
  std::vector<Word> words;
  for (const absl::string_view text : absl::StrSplit(kText, ' ')) {
    Word word = {ByteAsText(' ')};
    for (const char letter : text) word.emplace_back(1, letter);
    words.push_back(std::move(word));
  }
  std::vector<Pair> merges;
  while (merges.size() < count) {
    std::map<Pair, uint32_t> frequency;
    for (const Word& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) ++frequency[{word[i], word[i + 1]}];
    }
    const auto best =
        std::max_element(frequency.begin(), frequency.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == frequency.end() || best->second < 2) break;
    merges.push_back(best->first);
    MergeEverywhere(merges.back(), &words);
  }
  return merges;
}

// " bako", " bakomi": a word for each number.
std::string FillerWord(uint64_t number) {
  static constexpr absl::string_view kConsonants = "bdfgklmnprstvz";
  static constexpr absl::string_view kVowels = "aeiou";
  const uint64_t syllables = kConsonants.size() * kVowels.size();
  std::string word = ByteAsText(' ');
  number += syllables * syllables;  // three syllables at least
  for (; number > 0; number /= syllables) {
    word += kConsonants[number % syllables / kVowels.size()];
    word += kVowels[number % kVowels.size()];
  }
  return word;
}

}  // namespace

absl::Status AddSyntheticVocabulary(uint32_t size, Metadata* metadata) {
  if (size < kLeastSyntheticVocabulary) {
    return absl::InvalidArgumentError(
        absl::StrCat("a vocabulary of ", size, " is too small; at least ",
                     kLeastSyntheticVocabulary, " tokens are needed"));
  }
  const uint32_t ordinary = size - kSpecialCount;
  StringTable tokens;
  StringTable merge_lines;
  tokens.Reserve(size);
  absl::flat_hash_set<std::string> seen;
  const auto add = [&](const std::string& token) {
    if (!seen.insert(token).second) return;
    tokens.Add(token);
  };
  for (uint32_t byte = 0; byte < 256; ++byte) add(ByteAsText(byte));
  for (const auto& [left, right] : LearnMerges(ordinary - 256)) {
    if (tokens.size() == ordinary) break;
    merge_lines.Add(absl::StrCat(left, " ", right));
    add(left + right);
  }
  for (uint64_t number = 0; tokens.size() < ordinary; ++number) add(FillerWord(number));
  for (const char* special : kSpecialTokens) tokens.Add(special);
  std::vector<int64_t> types(ordinary, kNormalToken);
  types.resize(size, kControlToken);
  tokens.ShrinkToFit();

  metadata->Set("tokenizer.ggml.model", std::string("gpt2"));
  metadata->Set("tokenizer.ggml.pre", std::string("llama-bpe"));
  metadata->Set("tokenizer.ggml.tokens", std::move(tokens));
  metadata->Set("tokenizer.ggml.token_type", std::move(types));
  metadata->Set("tokenizer.ggml.merges", std::move(merge_lines));
  metadata->Set("tokenizer.ggml.bos_token_id", uint64_t{ordinary});
  metadata->Set("tokenizer.ggml.eos_token_id", uint64_t{ordinary} + 1);
  metadata->Set("tokenizer.ggml.eot_token_id", uint64_t{ordinary} + 3);
  metadata->Set("tokenizer.ggml.padding_token_id", uint64_t{ordinary} + 4);
  metadata->Set("tokenizer.ggml.add_bos_token", true);
  metadata->Set("tokenizer.chat_template", std::string(kChatMlTemplate));
  return absl::OkStatus();
}

}  // namespace weir
