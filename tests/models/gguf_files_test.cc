// OpenGguf: files on disk, files of other formats given by mistake, split models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "models/gguf.h"
#include "tests/models/gguf_bytes_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kF32 = 0;

void ExpectRefused(const std::string& path, const std::string& reason) {
  const absl::StatusOr<TensorIndex> index = OpenGguf(path);
  ASSERT_FALSE(index.ok()) << "accepted; expected: " << reason;
  EXPECT_THAT(std::string(index.status().message()), HasSubstr(reason));
}

TEST(GgufFiles, ForeignFilesAreNamed) {
  const struct {
    const char* what;
    std::string bytes;
  } kCases[] = {
      {"is empty", ""},
      {"safetensors", ByteBuilder().U64(20).Raw("{\"__metadata__\":{}}  ").bytes()},
      {"PyTorch", std::string("PK\x03\x04") + std::string(100, 'x')},
      {"pickle", std::string("\x80\x02\x8a\x0a") + std::string(100, 'x')},
      {"GGML", std::string("lmgg") + std::string(100, '\0')},
      {"GGJT", std::string("tjgg") + std::string(100, '\0')},
      {"HTML", "<!DOCTYPE html><html><body>Not found</body></html>"},
      {"HTML", "\n <html>"},
      {"Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"},
      {"JSON", "{\n  \"architectures\": [\"LlamaForCausalLM\"]\n}"},
      {"gzip", std::string("\x1f\x8b\x08\x00", 4)},
      {"begins with \"abcd\"", "abcdefgh"},
      {"begins with \"GG\"", "GG"},
  };
  const TemporaryFolder folder;
  for (const auto& [what, bytes] : kCases) {
    WriteFile(folder.File("model.gguf"), bytes);
    ExpectRefused(folder.File("model.gguf"), what);
  }
}

TEST(GgufFiles, MissingFilesAndFolders) {
  const TemporaryFolder folder;
  EXPECT_EQ(OpenGguf(folder.File("absent.gguf")).status().code(), absl::StatusCode::kNotFound);
  ExpectRefused(folder.path(), "is a directory");
  WriteFile(folder.File("inside.gguf"), "GGUF");
  ExpectRefused(folder.path(), "inside.gguf");
  ExpectRefused("/dev/null", "/dev/null");
}

// A header larger than the window it is read through.
TEST(GgufFiles, ReadsLongHeadersInPieces) {
  const TemporaryFolder folder;
  const uint64_t tokens = 100000;
  ByteBuilder file;
  file.Start(1, 3).Array("tokens", GgufType::kString, tokens);
  for (uint64_t i = 0; i < tokens; ++i) file.Text("token " + std::to_string(i));
  file.Entry("long", std::string(600000, 'z'));
  file.Array("types", GgufType::kInt32, tokens);
  for (uint64_t i = 0; i < tokens; ++i) file.Number(static_cast<int32_t>(i));
  file.Tensor("t", {16}, kF32, 0).PadTo(32).Zeros(64);
  WriteFile(folder.File("long.gguf"), file.bytes());
  const absl::StatusOr<TensorIndex> index = OpenGguf(folder.File("long.gguf"));
  ASSERT_TRUE(index.ok()) << index.status();
  const auto& table = std::get<StringTable>(*index->metadata.Find("tokens"));
  ASSERT_EQ(table.size(), tokens);
  for (uint64_t i = 0; i < tokens; ++i) ASSERT_EQ(table[i], "token " + std::to_string(i));
  EXPECT_EQ(index->metadata.GetString("long")->size(), 600000u);
  const auto& types = std::get<std::vector<int64_t>>(*index->metadata.Find("types"));
  for (uint64_t i = 0; i < tokens; ++i) ASSERT_EQ(types[i], static_cast<int64_t>(i));
  EXPECT_LT(table.heap_bytes(), 2 * tokens * (sizeof("token 99999") + 4));
}

// Writes part `number` (from one) of a split model with one tensor.
class SplitModel {
 public:
  std::string Path(int number, int count) const {
    return folder_.File(absl::StrFormat("m-%05d-of-%05d.gguf", number, count));
  }
  void WritePart(int number, int count, const std::string& tensor, uint32_t total = 3,
                 int said_number = -1) const {
    ByteBuilder part;
    part.Start(1, number == 1 ? 4 : 3);
    if (number == 1) part.Entry("general.architecture", "llama");
    part.Text("split.no")
        .Type(GgufType::kUint16)
        .Number(static_cast<uint16_t>((said_number < 0 ? number : said_number) - 1));
    part.Text("split.count").Type(GgufType::kUint16).Number(static_cast<uint16_t>(count));
    part.Text("split.tensors.count").Type(GgufType::kInt32).U32(total);
    part.Tensor(tensor, {8}, kF32, 0).PadTo(32).Zeros(32);
    WriteFile(Path(number, count), part.bytes());
  }
  void WriteAll(uint32_t total = 3) const {
    for (int i = 1; i <= 3; ++i) WritePart(i, 3, "t" + std::to_string(i), total);
  }

 private:
  TemporaryFolder folder_;
};

TEST(GgufFiles, OpensSplitModels) {
  const SplitModel model;
  model.WriteAll();
  const absl::StatusOr<TensorIndex> index = OpenGguf(model.Path(1, 3));
  ASSERT_TRUE(index.ok()) << index.status();
  ASSERT_EQ(index->files.size(), 3u);
  ASSERT_EQ(index->tensors.size(), 3u);
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(index->files[i].path, model.Path(static_cast<int>(i) + 1, 3));
    EXPECT_EQ(index->tensors[i].file, i);
    const TensorInfo* tensor = index->Find("t" + std::to_string(i + 1));
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->file, i);
  }
  EXPECT_EQ(*index->metadata.GetString("general.architecture"), "llama");
}

TEST(GgufFiles, NamesMissingParts) {
  const SplitModel model;
  model.WritePart(1, 3, "t1");
  model.WritePart(3, 3, "t3");
  ExpectRefused(model.Path(1, 3), model.Path(2, 3));
}

TEST(GgufFiles, RefusesSplitsThatDoNotFit) {
  const SplitModel model;
  model.WriteAll();
  ExpectRefused(model.Path(2, 3), "Give the first one");
  model.WritePart(2, 3, "t1");
  ExpectRefused(model.Path(1, 3), "earlier part");
  model.WritePart(2, 3, "t2", 3, /*said_number=*/3);
  ExpectRefused(model.Path(1, 3), "its name says part 2");
  model.WriteAll(/*total=*/4);
  ExpectRefused(model.Path(1, 3), "split.tensors.count");
  model.WriteAll();
  const std::string renamed = model.Path(1, 3) + ".renamed.gguf";
  std::filesystem::copy_file(model.Path(1, 3), renamed);
  ExpectRefused(renamed, "-00001-of-00003.gguf");
}

}  // namespace
}  // namespace weir
