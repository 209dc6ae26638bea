#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/tokenizer.h"
#include "tests/models/vocabulary_helper.h"

namespace weir {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = true};

std::unique_ptr<Tokenizer> MakeTokenizer(Metadata metadata) {
  auto tokenizer = Tokenizer::Make(metadata);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::string Refusal(Metadata metadata) {
  const auto tokenizer = Tokenizer::Make(metadata);
  EXPECT_FALSE(tokenizer.ok());
  return std::string(tokenizer.status().message());
}

// Ids from 256: he, ll, llo, hello, Ġhello, and two special ones.
Metadata Hello() {
  return ByteLevelVocabulary("gpt-2",
                             {{"he"},
                              {"ll"},
                              {"llo"},
                              {"hello"},
                              {"Ġhello"},
                              {"<|im_end|>", TokenType::kControl},
                              {"<tool>", TokenType::kUserDefined}},
                             {"l l", "h e", "ll o", "he llo", "Ġ hello"});
}

TEST(BpeTokenizerTest, MergesInTheOrderOfTheList) {
  const auto tokenizer = MakeTokenizer(Hello());
  EXPECT_THAT(tokenizer->Encode("hello hello", kPlain), ElementsAre(259, 260));
  EXPECT_THAT(tokenizer->Encode("help", kPlain), ElementsAre(256, 'l', 'p'));
  EXPECT_THAT(tokenizer->Encode("lll", kPlain), ElementsAre(257, 'l'));
}

TEST(BpeTokenizerTest, AnyBytesComeBack) {
  const auto tokenizer = MakeTokenizer(Hello());
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  for (const std::string& text : {bytes, bytes + bytes, std::string("\xF0\x9F\x98"),
                                  std::string("é\xC3 漢\xE6\xBC"), std::string()}) {
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text, {}), true), text);
  }
}

TEST(BpeTokenizerTest, SpecialTokensOnlyWhenAsked) {
  const auto tokenizer = MakeTokenizer(Hello());
  EXPECT_THAT(tokenizer->Encode("hello<|im_end|>", kPlain), ElementsAre(259, 261));
  EXPECT_EQ(tokenizer->Encode("<|im_end|>", {.add_special = false, .parse_special = false}).size(),
            10u);
  EXPECT_THAT(tokenizer->Encode("<tool>", {.add_special = false, .parse_special = false}),
              ElementsAre(262));
  EXPECT_EQ(tokenizer->TokenBytes(261, false), "");
  EXPECT_EQ(tokenizer->TokenBytes(261, true), "<|im_end|>");
  EXPECT_EQ(tokenizer->TokenBytes(262, false), "<tool>");
  EXPECT_EQ(tokenizer->TokenBytes(-1, true), "");
  EXPECT_EQ(tokenizer->TokenBytes(263, true), "");
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(261));
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(262));
}

TEST(BpeTokenizerTest, FlagsAddBeginAndEnd) {
  Metadata metadata = Hello();
  metadata.Set("tokenizer.ggml.bos_token_id", uint64_t{7});
  metadata.Set("tokenizer.ggml.eos_token_id", uint64_t{9});
  metadata.Set("tokenizer.ggml.add_bos_token", true);
  metadata.Set("tokenizer.ggml.add_eos_token", true);
  const auto tokenizer = MakeTokenizer(std::move(metadata));
  EXPECT_TRUE(tokenizer->adds_begin());
  EXPECT_THAT(tokenizer->Encode("hello", {}), ElementsAre(7, 259, 9));
  EXPECT_THAT(tokenizer->Encode("hello", kPlain), ElementsAre(259));
  EXPECT_EQ(tokenizer->Decode({7, 259, 9}, true), "hello");
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(9));
}

TEST(BpeTokenizerTest, WholePiecesComeFirstWhereTheFamilySaysSo) {
  const std::vector<TestToken> tokens = {{"ab"}, {"abc"}};
  const auto gpt2 = MakeTokenizer(ByteLevelVocabulary("gpt-2", tokens, {"a b"}));
  EXPECT_THAT(gpt2->Encode("abc", kPlain), ElementsAre(256, 'c'));
  const auto llama3 = MakeTokenizer(ByteLevelVocabulary("llama-bpe", tokens, {"a b"}));
  EXPECT_THAT(llama3->Encode("abc", kPlain), ElementsAre(257));
  EXPECT_TRUE(llama3->adds_begin());
}

TEST(BpeTokenizerTest, AMergeWhoseResultIsNoTokenFallsBackToWhatIs) {
  const auto tokenizer = MakeTokenizer(ByteLevelVocabulary("gpt-2", {{"abc"}}, {"a b", "ab c"}));
  EXPECT_THAT(tokenizer->Encode("abc", kPlain), ElementsAre(256));
  EXPECT_THAT(tokenizer->Encode("abd", kPlain), ElementsAre('a', 'b', 'd'));
}

TEST(BpeTokenizerTest, ALongWordIsMergedInNearLinearTime) {
  const auto tokenizer =
      MakeTokenizer(ByteLevelVocabulary("gpt-2", {{"aa"}, {"aaaa"}}, {"a a", "aa aa"}));
  const std::string text(400003, 'a');  // quadratic merging would take minutes
  const std::vector<TokenId> ids = tokenizer->Encode(text, kPlain);
  EXPECT_EQ(ids.size(), 100000u + 2u);
  EXPECT_EQ(tokenizer->Decode(ids, true), text);
}

TEST(BpeTokenizerTest, RefusesWithTheReason) {
  EXPECT_THAT(Refusal(ByteLevelVocabulary("klingon", {}, {})),
              testing::AllOf(HasSubstr("klingon"), HasSubstr("qwen2")));
  EXPECT_THAT(Refusal(ByteLevelVocabulary("gpt-2", {}, {"a b", "ab"})), HasSubstr("merges[1]"));
  EXPECT_THAT(Refusal(ByteLevelVocabulary("gpt-2", {{"x1"}, {"x1"}}, {})), HasSubstr("256"));
  Metadata no_merges = Hello();
  no_merges.Take("tokenizer.ggml.merges");
  EXPECT_THAT(Refusal(std::move(no_merges)), HasSubstr("tokenizer.ggml.merges"));
  Metadata bad_id = Hello();
  bad_id.Set("tokenizer.ggml.eos_token_id", uint64_t{263});
  EXPECT_THAT(Refusal(std::move(bad_id)), HasSubstr("263"));
  Metadata unknown = Hello();
  unknown.Set("tokenizer.ggml.model", std::string("rwkv"));
  EXPECT_THAT(Refusal(std::move(unknown)), testing::AllOf(HasSubstr("rwkv"), HasSubstr("llama")));
}

}  // namespace
}  // namespace weir
