#include "models/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/models/gguf_bytes_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kF32 = 0;
constexpr uint32_t kQ4K = 12;
constexpr uint64_t kHuge = uint64_t{1} << 62;

absl::StatusOr<TensorIndex> Parse(const std::string& bytes) {
  return ParseGgufHeader(bytes, bytes.size(), "test.gguf");
}

// Refused, with this in the message.
void ExpectRefused(const std::string& bytes, const std::string& reason) {
  const absl::StatusOr<TensorIndex> index = Parse(bytes);
  ASSERT_FALSE(index.ok()) << "accepted; expected: " << reason;
  EXPECT_THAT(std::string(index.status().message()), HasSubstr(reason));
  EXPECT_THAT(std::string(index.status().message()), HasSubstr("test.gguf"));
}

// Two tensors of 32 floats, one key.
std::string GoodFile(uint32_t version) {
  return ByteBuilder()
      .Start(2, 1, version)
      .Entry("general.architecture", "llama")
      .Tensor("a", {32}, kF32, 0)
      .Tensor("b", {8, 4}, kF32, 128)
      .PadTo(32)
      .Zeros(256)
      .bytes();
}

TEST(Gguf, ReadsVersionsTwoAndThree) {
  for (const uint32_t version : {2u, 3u}) {
    const absl::StatusOr<TensorIndex> index = Parse(GoodFile(version));
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_EQ(index->format, "GGUF v" + std::to_string(version));
    ASSERT_EQ(index->tensors.size(), 2u);
    EXPECT_EQ(*index->metadata.GetString("general.architecture"), "llama");
    const TensorInfo* tensor = index->Find("b");
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->columns(), 8u);
    EXPECT_EQ(tensor->rows(), 4u);
    EXPECT_EQ(tensor->bytes, 128u);
    EXPECT_EQ(tensor->offset_bytes % 32, 0u);
    EXPECT_EQ(tensor->offset_bytes + 128, GoodFile(version).size());
    EXPECT_EQ(index->Find("c"), nullptr);
    EXPECT_EQ(index->tensor_bytes(), 256u);
  }
}

TEST(Gguf, ReadsEveryKindOfValue) {
  ByteBuilder file;
  file.Start(0, 17);
  file.Text("u8").Type(GgufType::kUint8).Number(uint8_t{200});
  file.Text("i8").Type(GgufType::kInt8).Number(int8_t{-5});
  file.Text("u16").Type(GgufType::kUint16).Number(uint16_t{65535});
  file.Text("i16").Type(GgufType::kInt16).Number(int16_t{-300});
  file.Text("u32").Type(GgufType::kUint32).Number(uint32_t{4000000000});
  file.Text("i32").Type(GgufType::kInt32).Number(int32_t{-7});
  file.Text("u64").Type(GgufType::kUint64).Number(uint64_t{1} << 63);
  file.Text("i64").Type(GgufType::kInt64).Number(std::numeric_limits<int64_t>::min());
  file.Text("f32").Type(GgufType::kFloat32).Number(0.5f);
  file.Text("f64").Type(GgufType::kFloat64).Number(0.25);
  file.Text("yes").Type(GgufType::kBool).Number(uint8_t{1});
  file.Entry("text", "hello");
  file.Array("strings", GgufType::kString, 3).Text("a").Text("").Text("ccc");
  file.Array("integers", GgufType::kInt16, 2).Number(int16_t{-1}).Number(int16_t{2});
  file.Array("floats", GgufType::kFloat32, 1).Number(1.5f);
  file.Array("bools", GgufType::kBool, 2).Number(uint8_t{0}).Number(uint8_t{1});
  file.Array("none", GgufType::kString, 0);
  const absl::StatusOr<TensorIndex> index = Parse(file.bytes());
  ASSERT_TRUE(index.ok()) << index.status();
  const Metadata& metadata = index->metadata;
  EXPECT_EQ(*metadata.GetUint("u8"), 200u);
  EXPECT_FALSE(metadata.GetUint("i8").ok());
  EXPECT_EQ(*metadata.GetFloat("i8"), -5);
  EXPECT_EQ(*metadata.GetUint("u16"), 65535u);
  EXPECT_EQ(*metadata.GetFloat("i16"), -300);
  EXPECT_EQ(*metadata.GetUint("u32"), 4000000000u);
  EXPECT_EQ(*metadata.GetUint("u64"), uint64_t{1} << 63);
  EXPECT_EQ(std::get<int64_t>(*metadata.Find("i64")), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(*metadata.GetFloat("f32"), 0.5);
  EXPECT_EQ(*metadata.GetFloat("f64"), 0.25);
  EXPECT_EQ(*metadata.GetBool("yes"), true);
  EXPECT_FALSE(metadata.GetString("yes").ok());
  EXPECT_EQ(*metadata.GetStringOr("absent", "x"), "x");
  EXPECT_FALSE(metadata.GetStringOr("u8", "x").ok());
  const auto& strings = std::get<StringTable>(*metadata.Find("strings"));
  ASSERT_EQ(strings.size(), 3u);
  EXPECT_EQ(strings[0], "a");
  EXPECT_EQ(strings[1], "");
  EXPECT_EQ(strings[2], "ccc");
  EXPECT_EQ(std::get<std::vector<int64_t>>(*metadata.Find("integers")),
            (std::vector<int64_t>{-1, 2}));
  EXPECT_EQ(std::get<std::vector<double>>(*metadata.Find("floats")), std::vector<double>{1.5});
  EXPECT_EQ(std::get<std::vector<bool>>(*metadata.Find("bools")), (std::vector<bool>{false, true}));
}

TEST(Gguf, MetadataGivesValuesAway) {
  Metadata metadata;
  metadata.Set("a", uint64_t{1});
  metadata.Set("b", std::string("two"));
  metadata.Set("c", uint64_t{3});
  const std::unique_ptr<MetadataValue> taken = metadata.Take("b");
  ASSERT_NE(taken, nullptr);
  EXPECT_EQ(std::get<std::string>(*taken), "two");
  EXPECT_FALSE(metadata.Has("b"));
  EXPECT_EQ(*metadata.GetUint("c"), 3u);
  EXPECT_EQ(metadata.Take("b"), nullptr);
}

// Every prefix of a good file is refused: as truncated when the file ends there, as "more of the
// header" when only the header at hand does.
TEST(Gguf, EveryTruncationIsRefused) {
  const std::string good = GoodFile(3);
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    const std::string cut = good.substr(0, bytes);
    EXPECT_FALSE(Parse(cut).ok()) << bytes;
    const absl::StatusOr<TensorIndex> more = ParseGgufHeader(cut, good.size(), "test.gguf");
    if (!more.ok()) {
      EXPECT_TRUE(absl::IsOutOfRange(more.status())) << bytes << ": " << more.status();
    } else {
      EXPECT_GE(bytes, good.size() - 256 - 31) << "the header was whole";
    }
  }
}

TEST(Gguf, RefusesOtherVersionsAndByteOrders) {
  ExpectRefused(GoodFile(1), "version 1");
  ExpectRefused(GoodFile(4), "version 4");
  ExpectRefused(GoodFile(0x03000000), "big-endian");
  ExpectRefused(GoodFile(0), "version 0");
}

TEST(Gguf, RefusesCountsThatTheFileCannotHold) {
  ExpectRefused(ByteBuilder().Start(kHuge, 0).Zeros(64).bytes(), "tensors");
  ExpectRefused(ByteBuilder().Start(0, kHuge).Zeros(64).bytes(), "metadata keys");
  ExpectRefused(ByteBuilder().Start(0, 1).U64(kHuge).Zeros(64).bytes(), "a metadata key");
  ExpectRefused(ByteBuilder().Start(0, 1).U64(0).Zeros(64).bytes(), "a metadata key");
  ExpectRefused(
      ByteBuilder().Start(0, 1).Text("k").Type(GgufType::kString).U64(kHuge).Zeros(9).bytes(),
      "string of");
  ExpectRefused(
      ByteBuilder().Start(0, 1).Text("k").Type(GgufType::kString).U64(1000).Zeros(9).bytes(),
      "truncated");
  for (const GgufType type : {GgufType::kUint8, GgufType::kFloat64, GgufType::kString}) {
    ExpectRefused(ByteBuilder().Start(0, 1).Array("k", type, kHuge).Zeros(64).bytes(), "elements");
    ExpectRefused(ByteBuilder().Start(0, 1).Array("k", type, 1 << 20).Zeros(64).bytes(),
                  "truncated");
  }
  ExpectRefused(
      ByteBuilder().Start(0, 1).Array("k", GgufType::kString, 1).U64(kHuge).Zeros(64).bytes(),
      "holds a string");
}

TEST(Gguf, RefusesMalformedMetadata) {
  ExpectRefused(ByteBuilder().Start(0, 2).Entry("k", "a").Entry("k", "b").bytes(), "twice");
  ExpectRefused(ByteBuilder().Start(0, 1).Text("k").U32(13).Zeros(64).bytes(), "unknown type 13");
  ExpectRefused(ByteBuilder().Start(0, 1).Array("k", GgufType::kArray, 1).Zeros(64).bytes(),
                "arrays");
  ExpectRefused(
      ByteBuilder().Start(0, 1).Array("k", static_cast<GgufType>(99), 1).Zeros(64).bytes(),
      "unknown type 99");
  ExpectRefused(ByteBuilder()
                    .Start(0, 1)
                    .Text("k")
                    .Type(GgufType::kBool)
                    .Number(uint8_t{2})
                    .Zeros(64)
                    .bytes(),
                "boolean");
}

TEST(Gguf, RefusesSenselessAlignments) {
  for (const uint32_t alignment : {0u, 3u, 48u, 1u << 30}) {
    ExpectRefused(ByteBuilder().Start(0, 1).Entry("general.alignment", alignment).Zeros(64).bytes(),
                  "general.alignment");
  }
  const std::string good = ByteBuilder()
                               .Start(1, 1)
                               .Entry("general.alignment", 64)
                               .Tensor("a", {4}, kF32, 64)
                               .PadTo(64)
                               .Zeros(128)
                               .bytes();
  const absl::StatusOr<TensorIndex> index = Parse(good);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->tensors[0].offset_bytes % 64, 0u);
}

std::string OneTensor(const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
  return ByteBuilder().Start(1, 0).Tensor("t", dims, type, offset).PadTo(32).Zeros(256).bytes();
}

TEST(Gguf, RefusesMalformedTensors) {
  ExpectRefused(OneTensor({}, kF32, 0), "0 dimensions");
  ExpectRefused(OneTensor({1, 1, 1, 1, 1}, kF32, 0), "5 dimensions");
  ExpectRefused(OneTensor({4, 0}, kF32, 0), "dimension of zero");
  ExpectRefused(OneTensor({kHuge, kHuge}, kF32, 0), "overflows");
  ExpectRefused(OneTensor({uint64_t{1} << 31, uint64_t{1} << 32}, kF32, 0), "overflows");
  ExpectRefused(OneTensor({128}, kQ4K, 0), "multiple of the 256");
  ExpectRefused(OneTensor({4}, kF32, 8), "alignment");
  ExpectRefused(OneTensor({4}, kF32, kHuge), "truncated");
  ExpectRefused(OneTensor({4}, kF32, ~uint64_t{0} - 31), "overflows");
  ExpectRefused(OneTensor({65}, kF32, 0), "truncated");
  ASSERT_TRUE(Parse(OneTensor({64}, kF32, 0)).ok());
  ASSERT_TRUE(Parse(OneTensor({1, 1, 1, 64}, kF32, 0)).ok());
}

TEST(Gguf, RefusesTensorsThatOverlapOrRepeat) {
  const auto two = [](const char* second, uint64_t offset) {
    return ByteBuilder()
        .Start(2, 0)
        .Tensor("first", {32}, kF32, 0)
        .Tensor(second, {8}, kF32, offset)
        .PadTo(32)
        .Zeros(256)
        .bytes();
  };
  ASSERT_TRUE(Parse(two("second", 128)).ok());
  ExpectRefused(two("second", 96), "overlap");
  ExpectRefused(two("second", 0), "overlap");
  ExpectRefused(two("first", 128), "twice");
}

TEST(Gguf, RefusesFormatsByName) {
  ExpectRefused(OneTensor({256}, 16, 0), "IQ2_XXS");
  ExpectRefused(OneTensor({256}, 35, 0), "TQ2_0");
  ExpectRefused(OneTensor({256}, 40, 0), "NVFP4");
  ExpectRefused(OneTensor({256}, 12345, 0), "12345");
  ExpectRefused(OneTensor({256}, 16, 0), "Supported formats: F32");
}

}  // namespace
}  // namespace weir
