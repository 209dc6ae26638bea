// Metadata entries as bytes: kept as they lie, also the types that the index widens, and written
// again into another file.
#include "models/gguf_entries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "models/gguf.h"
#include "tests/models/gguf_bytes_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

// One entry of each kind that changes when it is read into an index and written from there.
ByteBuilder OddEntries() {
  ByteBuilder builder;
  builder.Text("a.byte").Type(GgufType::kUint8).Number(uint8_t{200});
  builder.Text("a.short").Type(GgufType::kInt16).Number(int16_t{-3});
  builder.Text("a.double").Type(GgufType::kFloat64).Number(0.1);
  builder.Text("a.wide").Type(GgufType::kUint64).U64(7);
  builder.Array("a.bytes", GgufType::kUint8, 3).Raw("abc");
  builder.Array("a.texts", GgufType::kString, 2).Text("one").Text("");
  builder.Array("a.none", GgufType::kFloat32, 0);
  return builder;
}
constexpr uint64_t kOddCount = 7;

class GgufEntriesTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/gguf_entries_test.gguf";
    other_path_ = path_ + ".other";
  }
  void TearDown() override {
    std::filesystem::remove(path_);
    std::filesystem::remove(other_path_);
  }
  void Save(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }

  std::string path_, other_path_;
};

TEST_F(GgufEntriesTest, AreKeptByteForByte) {
  ByteBuilder file;
  file.Start(0, kOddCount + 2).Entry("first", 1).Raw(OddEntries().bytes()).Entry("last", "text");
  Save(file.PadTo(32).bytes());
  ASSERT_TRUE(OpenGguf(path_).ok()) << OpenGguf(path_).status();
  const absl::StatusOr<GgufEntries> entries =
      ReadGgufEntries(path_, [](std::string_view key) { return key != "first" && key != "last"; });
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_EQ(entries->count, kOddCount);
  EXPECT_EQ(entries->bytes, OddEntries().bytes());
}

TEST_F(GgufEntriesTest, AreWrittenBesideOtherMetadata) {
  Metadata metadata;
  metadata.Set("own", uint64_t{5});
  const GgufLayoutOptions options = {.alignment_bytes = 64,
                                     .entries = {OddEntries().bytes(), kOddCount}};
  const absl::StatusOr<GgufLayout> layout =
      LayOutGguf(metadata, {{"t", DType::kF32, {4, 2}}}, options);
  ASSERT_TRUE(layout.ok()) << layout.status();
  const auto fill = [](size_t, uint64_t, absl::Span<uint8_t> out) { out[0] = 1; };
  ASSERT_TRUE(WriteGguf(path_, *layout, fill, {}).ok());
  const absl::StatusOr<TensorIndex> index = OpenGguf(path_);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(*index->metadata.GetUint("own"), 5u);
  EXPECT_EQ(*index->metadata.GetUint("a.byte"), 200u);
  EXPECT_EQ(*index->metadata.GetFloat("a.double"), 0.1);
  EXPECT_EQ(*index->metadata.GetUint("general.alignment"), 64u);
  EXPECT_EQ(index->tensors[0].offset_bytes % 64, 0u);
  const auto entries = ReadGgufEntries(path_, [](std::string_view key) { return key[0] == 'a'; });
  ASSERT_TRUE(entries.ok());
  EXPECT_EQ(entries->bytes, OddEntries().bytes());
}

// Whatever happened to a file since it was accepted: an error, and no memory beyond its size.
TEST_F(GgufEntriesTest, RefusesWhatIsCutOrMakesNoSense) {
  ByteBuilder whole;
  whole.Start(0, kOddCount).Raw(OddEntries().bytes());
  const auto all = [](std::string_view) { return true; };
  for (size_t size = 0; size < whole.bytes().size(); ++size) {
    Save(whole.bytes().substr(0, size));
    EXPECT_FALSE(ReadGgufEntries(path_, all).ok()) << size;
  }
  Save(ByteBuilder().Start(0, 1).Text("key").U32(99).bytes());
  EXPECT_THAT(ReadGgufEntries(path_, all).status().message(), HasSubstr("changed"));
  Save(ByteBuilder().Start(0, 1).Text("key").Type(GgufType::kString).U64(~uint64_t{0}).bytes());
  EXPECT_FALSE(ReadGgufEntries(path_, all).ok());
  Save(ByteBuilder().Start(0, 1).Array("key", GgufType::kUint64, ~uint64_t{0}).bytes());
  EXPECT_FALSE(ReadGgufEntries(path_, all).ok());
}

TEST_F(GgufEntriesTest, WritingEndsWhereItsCheckSaysSo) {
  const absl::StatusOr<GgufLayout> layout =
      LayOutGguf(Metadata(), {{"t", DType::kF32, {1 << 20}}}, {});
  ASSERT_TRUE(layout.ok());
  int fills = 0;
  GgufWriteOptions options;
  options.check = [&fills] {
    return fills < 2 ? absl::OkStatus() : absl::CancelledError("enough");
  };
  const auto fill = [&fills](size_t, uint64_t, absl::Span<uint8_t>) { ++fills; };
  EXPECT_EQ(WriteGguf(other_path_, *layout, fill, options), absl::CancelledError("enough"));
  EXPECT_EQ(fills, 2);
  for (const auto& entry : std::filesystem::directory_iterator(testing::TempDir())) {
    EXPECT_THAT(entry.path().string(), Not(HasSubstr("gguf_entries_test.gguf.other")));
  }
}

}  // namespace
}  // namespace weir
