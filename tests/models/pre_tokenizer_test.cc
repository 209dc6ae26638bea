#include "models/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace weir {
namespace {

using testing::ElementsAre;

std::vector<std::string> Pieces(std::string_view pre, std::string_view text) {
  const PreTokenizerInfo* info = FindPreTokenizer(pre);
  EXPECT_NE(info, nullptr) << pre;
  const absl::StatusOr<PreTokenizer> pre_tokenizer = PreTokenizer::Make(*info);
  EXPECT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  std::vector<std::string> pieces;
  size_t begin = 0;
  for (const size_t end : pre_tokenizer->Split(text)) {
    pieces.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return pieces;
}

TEST(PreTokenizerTest, EveryNameCompilesAndKeepsEveryByte) {
  const std::string text =
      "I'm  1234\t\n\xFF\xC3 \u00a0héllo_wörld 漢字かな\u0301 \xF0\x9F\x98\x80";
  std::string names = KnownPreTokenizers() + ", ";
  int count = 0;
  for (size_t comma = names.find(", "); comma != std::string::npos; comma = names.find(", ")) {
    std::string joined;
    for (const std::string& piece : Pieces(names.substr(0, comma), text)) joined += piece;
    EXPECT_EQ(joined, text) << names.substr(0, comma);
    names.erase(0, comma + 2);
    ++count;
  }
  EXPECT_GT(count, 50);
}

TEST(PreTokenizerTest, DigitsDifferBetweenFamilies) {
  EXPECT_THAT(Pieces("gpt-2", "a 12345"), ElementsAre("a", " 12345"));
  EXPECT_THAT(Pieces("llama-bpe", "a 12345"), ElementsAre("a", " ", "123", "45"));
  EXPECT_THAT(Pieces("qwen2", "a 123"), ElementsAre("a", " ", "1", "2", "3"));
  EXPECT_THAT(Pieces("smollm", "a 12"), ElementsAre("a", " ", "1", "2"));
  EXPECT_THAT(Pieces("deepseek-v3", "x1234"), ElementsAre("x", "123", "4"));
}

TEST(PreTokenizerTest, OnlySomeFamiliesKnowUpperContractions) {
  EXPECT_THAT(Pieces("gpt-2", "I'M it's"), ElementsAre("I", "'", "M", " it", "'s"));
  EXPECT_THAT(Pieces("qwen2", "I'M it's"), ElementsAre("I", "'M", " it", "'s"));
}

TEST(PreTokenizerTest, SpacesStayTogetherButForTheLast) {
  EXPECT_THAT(Pieces("gpt-2", "a   b"), ElementsAre("a", "  ", " b"));
  EXPECT_THAT(Pieces("qwen2", "a \n\n  b "), ElementsAre("a", " \n\n", " ", " b", " "));
}

TEST(PreTokenizerTest, TekkenCutsWhereACapitalBegins) {
  EXPECT_THAT(Pieces("tekken", "fooBar HTTPServer"), ElementsAre("foo", "Bar", " HTTPServer"));
  EXPECT_THAT(Pieces("gpt-4o", "fooBar's"), ElementsAre("foo", "Bar's"));
}

TEST(PreTokenizerTest, KnowsCharactersNewerThanTheLibrary) {
  const std::string letters = "\U00031350\U0001E030";  // assigned with Unicode 15
  EXPECT_THAT(Pieces("gpt-2", "a" + letters), ElementsAre("a" + letters));
  const std::string vowel_separator = "\u180e";  // a space until Unicode 6.3
  EXPECT_THAT(Pieces("gpt-2", " " + vowel_separator), ElementsAre(" " + vowel_separator));
}

TEST(PreTokenizerTest, LongRunsAreCutInOneGo) {
  for (const std::string_view pre : {"gpt-2", "qwen2", "gpt-4o", "deepseek-v3", "default"}) {
    for (const char* unit : {"A", "漢", " ", "\n", "'", "\xFF"}) {
      std::string text;
      while (text.size() < 300000) text += unit;
      size_t bytes = 0;
      for (const std::string& piece : Pieces(pre, text)) bytes += piece.size();
      EXPECT_EQ(bytes, text.size());
    }
  }
}

}  // namespace
}  // namespace weir
