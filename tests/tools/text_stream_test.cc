#include "tools/text_stream.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace weir {
namespace {

std::string Utf8(uint32_t code) {
  auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (code < 0x80) return {byte(code)};
  if (code < 0x800) return {byte(0xc0 | code >> 6), byte(0x80 | (code & 0x3f))};
  if (code < 0x10000) {
    return {byte(0xe0 | code >> 12), byte(0x80 | (code >> 6 & 0x3f)), byte(0x80 | (code & 0x3f))};
  }
  return {byte(0xf0 | code >> 18), byte(0x80 | (code >> 12 & 0x3f)),
          byte(0x80 | (code >> 6 & 0x3f)), byte(0x80 | (code & 0x3f))};
}

class StreamedFile {
 public:
  StreamedFile() : file_(std::tmpfile()) {}
  ~StreamedFile() { std::fclose(file_); }
  std::FILE* file() { return file_; }
  std::string Text() {
    std::rewind(file_);
    std::string text;
    for (int c = std::fgetc(file_); c != EOF; c = std::fgetc(file_))
      text.push_back(static_cast<char>(c));
    return text;
  }

 private:
  std::FILE* file_;
};

// By definition: a suffix is held back exactly if some character begins with it.
TEST(IncompleteUtf8Suffix, EveryPrefixOfEveryCharacter) {
  std::vector<bool> is_prefix1(1 << 8), is_prefix2(1 << 16), is_prefix3(1 << 24);
  for (uint32_t code = 0x80; code < 0x110000; ++code) {
    if (code >= 0xd800 && code < 0xe000) continue;  // surrogates are no characters
    const std::string c = Utf8(code);
    uint32_t key = 0;
    for (size_t length = 1; length < c.size(); ++length) {
      key = key << 8 | static_cast<uint8_t>(c[length - 1]);
      (length == 1 ? is_prefix1 : length == 2 ? is_prefix2 : is_prefix3)[key] = true;
    }
    ASSERT_EQ(IncompleteUtf8Suffix("x" + c), 0u) << code;
  }
  for (uint32_t key = 0; key < 1 << 8; ++key) {
    const std::string text = {'x', static_cast<char>(key)};
    ASSERT_EQ(IncompleteUtf8Suffix(text), is_prefix1[key] ? 1u : 0u) << key;
  }
  for (uint32_t key = 0; key < 1 << 16; ++key) {
    const std::string text = {'x', static_cast<char>(key >> 8), static_cast<char>(key)};
    const size_t expected = is_prefix2[key] ? 2 : is_prefix1[key & 0xff] ? 1 : 0;
    ASSERT_EQ(IncompleteUtf8Suffix(text), expected) << key;
  }
  for (uint32_t lead = 0xe0; lead < 0x100; ++lead) {
    for (uint32_t rest = 0; rest < 1 << 16; rest += 1 + rest % 7) {
      const uint32_t key = lead << 16 | rest;
      const std::string text = {'x', static_cast<char>(lead), static_cast<char>(rest >> 8),
                                static_cast<char>(rest)};
      const size_t expected = is_prefix3[key]           ? 3
                              : is_prefix2[rest]        ? 2
                              : is_prefix1[rest & 0xff] ? 1
                                                        : 0;
      ASSERT_EQ(IncompleteUtf8Suffix(text), expected) << key;
    }
  }
}

TEST(TextStream, CutAtEveryByteNothingComesOutInHalf) {
  const std::string text = "a\xc3\xa9z\xe2\x82\xac!\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd end";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    StreamedFile streamed;
    TextStream stream(streamed.file());
    ASSERT_TRUE(stream.Write(text.substr(0, cut)).ok());
    const std::string before = streamed.Text();
    EXPECT_EQ(IncompleteUtf8Suffix(before), 0u) << cut;
    EXPECT_GT(before.size() + 4, cut);
    ASSERT_TRUE(stream.Write(text.substr(cut)).ok());
    ASSERT_TRUE(stream.Finish().ok());
    EXPECT_EQ(streamed.Text(), text + "\n");
  }
}

TEST(TextStream, ByteByByteEachCharacterComesWhenItIsWhole) {
  const std::string text = "\xe6\xbc\xa2\xf0\x9f\x91\x8d";
  StreamedFile streamed;
  TextStream stream(streamed.file());
  const std::vector<size_t> expected = {0, 0, 3, 3, 3, 3, 7};
  for (size_t i = 0; i < text.size(); ++i) {
    ASSERT_TRUE(stream.Write(std::string_view(text).substr(i, 1)).ok());
    EXPECT_EQ(streamed.Text().size(), expected[i]);
  }
}

TEST(TextStream, BytesThatAreNoTextComeOutAsTheyAre) {
  const std::string text = "\xff\x80\xe2(\xed\xa0\x80\xc3";
  StreamedFile streamed;
  TextStream stream(streamed.file());
  for (const char c : text) ASSERT_TRUE(stream.Write(std::string_view(&c, 1)).ok());
  ASSERT_TRUE(stream.Finish().ok());
  EXPECT_EQ(streamed.Text(), text + "\n");
}

TEST(TextStream, ANewlineAtTheEndOnlyWhereThereIsNone) {
  for (const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
           {"", ""}, {"a", "a\n"}, {"a\n", "a\n"}, {"\n\n", "\n\n"}}) {
    StreamedFile streamed;
    TextStream stream(streamed.file());
    ASSERT_TRUE(stream.Write(text).ok());
    ASSERT_TRUE(stream.Finish().ok());
    EXPECT_EQ(streamed.Text(), expected);
  }
}

TEST(TextStream, AFullDiskIsAnError) {
  std::FILE* full = std::fopen("/dev/full", "w");
  if (full == nullptr) GTEST_SKIP() << "no /dev/full here";
  TextStream stream(full);
  EXPECT_FALSE(stream.Write("text").ok());
  std::fclose(full);
}

}  // namespace
}  // namespace weir
