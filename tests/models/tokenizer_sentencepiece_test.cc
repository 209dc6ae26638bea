#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/charsmap.h"
#include "models/tokenizer.h"
#include "tests/models/vocabulary_helper.h"

namespace weir {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::unique_ptr<Tokenizer> MakeTokenizer(Metadata metadata) {
  auto tokenizer = Tokenizer::Make(metadata);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// Ids: <unk> 0, <s> 1, </s> 2, bytes from 3, then from 259 on: ▁ a b ab ▁ab abab "\n\n" <h1>.
Metadata Spm(bool space_prefix) {
  std::vector<TestToken> tokens = {
      {"<unk>", TokenType::kUnknown}, {"<s>", TokenType::kControl}, {"</s>", TokenType::kControl}};
  for (const TestToken& token : ByteFallbackTokens()) tokens.push_back(token);
  for (const TestToken& token : std::vector<TestToken>{{"▁", TokenType::kNormal, -1},
                                                       {"a", TokenType::kNormal, -2},
                                                       {"b", TokenType::kNormal, -3},
                                                       {"ab", TokenType::kNormal, -0.5},
                                                       {"▁ab", TokenType::kNormal, -0.7},
                                                       {"abab", TokenType::kNormal, -0.1},
                                                       {"\n\n", TokenType::kUserDefined},
                                                       {"<h1>", TokenType::kUserDefined}}) {
    tokens.push_back(token);
  }
  Metadata metadata = TestVocabulary("llama", tokens);
  metadata.Set("tokenizer.ggml.add_space_prefix", space_prefix);
  return metadata;
}

TEST(SpmTokenizerTest, MergesByScoreAndPutsASpaceInFront) {
  const auto with_space = MakeTokenizer(Spm(true));
  EXPECT_THAT(with_space->Encode("ab", {}), ElementsAre(1, 263));
  EXPECT_THAT(with_space->Encode("abab", {}), ElementsAre(1, 259, 264));
  const auto without = MakeTokenizer(Spm(false));
  EXPECT_THAT(without->Encode("abab ab", {}), ElementsAre(1, 264, 263));
}

TEST(SpmTokenizerTest, UnknownCharactersFallBackToBytes) {
  const auto tokenizer = MakeTokenizer(Spm(false));
  EXPECT_THAT(tokenizer->Encode("é", {}), ElementsAre(1, 3 + 0xC3, 3 + 0xA9));
  EXPECT_THAT(tokenizer->Encode("\xFF", {}), ElementsAre(1, 3 + 0xFF));
}

TEST(SpmTokenizerTest, TheSpaceReturnsAfterSpecialTokensAndGoesAgain) {
  const auto tokenizer = MakeTokenizer(Spm(true));
  EXPECT_THAT(tokenizer->Encode("<h1>ab", {}), ElementsAre(1, 266, 263));
  for (const char* text : {"ab", " ab", "  ab ", "", " ", "<h1> ab<h1>ab", "\n\n\n\nab\n", "<s>ab",
                           "\xF0\x9F", "漢 字"}) {
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text, {}), true), text);
  }
}

TEST(SpmTokenizerTest, LongerSpecialTokensWin) {
  const auto tokenizer = MakeTokenizer(Spm(false));
  EXPECT_THAT(tokenizer->Encode("a\n\n\nb", {}), ElementsAre(1, 260, 265, 3 + '\n', 261));
}

TEST(SpmTokenizerTest, ShortArraysAreRefused) {
  Metadata metadata = Spm(true);
  metadata.Set("tokenizer.ggml.scores", std::vector<double>(5));
  const auto tokenizer = Tokenizer::Make(metadata);
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("5 entries for 267 tokens"));
}

TEST(SpmTokenizerTest, PhiSwallowsSpaceBehindItsMarkers) {
  std::vector<TestToken> tokens = {{"<unk>", TokenType::kUnknown},
                                   {"<s>", TokenType::kControl},
                                   {"</s>", TokenType::kControl},
                                   {"<|user|>", TokenType::kControl},
                                   {"a"},
                                   {"▁"}};
  Metadata metadata = TestVocabulary("llama", tokens);
  metadata.Set("general.name", std::string("Phi-3 mini"));
  metadata.Set("tokenizer.ggml.add_space_prefix", false);
  EXPECT_THAT(MakeTokenizer(std::move(metadata))->Encode("<|user|> \n a<s> a", {}),
              ElementsAre(1, 3, 4, 1, 5, 4));
}

// Ids: <pad> 0, </s> 1, <unk> 2, then ▁ a b ab ▁ab fi
Metadata Unigram(bool merges_spaces) {
  Metadata metadata = TestVocabulary("t5", {{"<pad>", TokenType::kControl},
                                            {"</s>", TokenType::kControl},
                                            {"<unk>", TokenType::kUnknown},
                                            {"▁", TokenType::kNormal, -2},
                                            {"a", TokenType::kNormal, -3},
                                            {"b", TokenType::kNormal, -3},
                                            {"ab", TokenType::kNormal, -4},
                                            {"▁ab", TokenType::kNormal, -7},
                                            {"fi", TokenType::kNormal, -5}});
  metadata.Set("tokenizer.ggml.add_space_prefix", true);
  metadata.Set("tokenizer.ggml.remove_extra_whitespaces", merges_spaces);
  return metadata;
}

TEST(UnigramTokenizerTest, TakesTheBestSumOfScores) {
  const auto tokenizer = MakeTokenizer(Unigram(false));
  EXPECT_THAT(tokenizer->Encode("ab", {}), ElementsAre(3, 6, 1));  // -2 - 4 beats -7 and -2 - 6
  EXPECT_THAT(tokenizer->Encode("ba", {}), ElementsAre(3, 5, 4, 1));
  EXPECT_THAT(tokenizer->Encode("漢字a", {}), ElementsAre(3, 2, 4, 1));  // unknown ones join
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("ab  ab", {}), true), "ab  ab");
}

TEST(UnigramTokenizerTest, MergesRunsOfSpaces) {
  const auto tokenizer = MakeTokenizer(Unigram(true));
  EXPECT_EQ(tokenizer->Encode("  ab    ab ", {}), tokenizer->Encode("ab ab", {}));
}

// A trie by hand: from the root (offset 2) 'A' leads to unit 2 ^ 'A', which has a leaf.
std::vector<int64_t> OneRuleCharsmap() {
  constexpr uint32_t kChild = 2 ^ 'A';
  std::vector<uint32_t> units(256, 0);
  units[0] = 2u << 10;
  units[kChild] = 'A' | 1u << 8 | 1u << 10;  // label, has a leaf, offset 1
  units[kChild ^ 1u] = 1u << 31 | 0;         // the leaf: replacement at 0
  std::vector<int64_t> bytes;
  const auto add = [&](uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(word >> shift & 0xFF);
  };
  add(static_cast<uint32_t>(units.size() * 4));
  for (const uint32_t unit : units) add(unit);
  for (const char c : std::string("ab")) bytes.push_back(c);
  bytes.push_back(0);
  return bytes;
}

TEST(UnigramTokenizerTest, NormalisesByTheFilesRules) {
  Metadata metadata = Unigram(false);
  metadata.Set("tokenizer.ggml.precompiled_charsmap", OneRuleCharsmap());
  const auto tokenizer = MakeTokenizer(std::move(metadata));
  EXPECT_EQ(tokenizer->Encode("A", {}), tokenizer->Encode("ab", {}));
}

TEST(CharsmapTest, DamagedMapsAreRefused) {
  for (const size_t bytes : {1u, 3u, 4u, 100u, 1028u}) {
    std::vector<int64_t> map = OneRuleCharsmap();
    map.resize(bytes);
    Metadata metadata;
    metadata.Set("tokenizer.ggml.precompiled_charsmap", map);
    EXPECT_EQ(Charsmap::Make(metadata).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace weir
