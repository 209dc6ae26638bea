// Files from strangers: each known kind of malice or damage gives one message that names the file
// and what is wrong, never a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "models/tokenizer.h"
#include "tests/models/gguf_bytes_helper.h"
#include "tests/models/hostile_files_helper.h"
#include "tests/models/raw_model_helper.h"
#include "tests/models/vocabulary_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

void ExpectOutcomes(const HostileFiles& files) {
  for (const HostileFile& file : files) {
    SCOPED_TRACE(file.name);
    const absl::Status status = LoadAll(file.bytes, "hostile.gguf");
    EXPECT_EQ(status.code(), file.code) << status;
    if (file.code == absl::StatusCode::kOk) continue;
    const std::string message(status.message());
    EXPECT_THAT(message, HasSubstr(file.says));
    EXPECT_THAT(message, HasSubstr("hostile.gguf"));
    EXPECT_LT(message.size(), 1000u);
    for (const char c : message) EXPECT_TRUE(c >= ' ' && c <= '~') << message;
    // What to do about it.
    EXPECT_THAT(message, testing::ContainsRegex("[Cc]onvert|[Dd]ownload|[Gg]ive|[Cc]hoose|take one|"
                                                "Update|Known|Use |only dense"));
  }
}

TEST(HostileFiles, HeadersAreRefused) { ExpectOutcomes(HostileHeaders()); }
TEST(HostileFiles, MetadataIsRefused) { ExpectOutcomes(HostileMetadata()); }
TEST(HostileFiles, TensorsAreRefused) { ExpectOutcomes(HostileTensors()); }
TEST(HostileFiles, ConfigsAreRefused) { ExpectOutcomes(HostileConfigs()); }
TEST(HostileFiles, RopesAreRefused) { ExpectOutcomes(HostileRopes()); }
TEST(HostileFiles, VocabulariesAreRefused) { ExpectOutcomes(HostileVocabularies()); }
TEST(HostileFiles, TokenizersAreRefused) { ExpectOutcomes(HostileTokenizers()); }
TEST(HostileFiles, OddFilesLoad) { ExpectOutcomes(OddFiles()); }

TEST(HostileFiles, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const HostileFile& file : AllHostileFiles()) {
    EXPECT_TRUE(names.insert(file.name).second) << file.name;
  }
  EXPECT_GT(names.size(), 150u);
}

// The whole header of a real model, cut off at every byte: as the end of the file, and as the end
// of what is at hand.
TEST(HostileFiles, EveryCutOfTheHeaderIsRefused) {
  std::string bytes = SoundBpeModel().Bytes();
  ASSERT_TRUE(LoadAll(bytes, "cut.gguf").ok());
  constexpr size_t kPaddingBytes = 16;  // behind the last tensor: not needed
  for (size_t cut = 0; cut < bytes.size() - kPaddingBytes; ++cut) {
    const absl::Status status = LoadAll(bytes.substr(0, cut), "cut.gguf");
    ASSERT_FALSE(status.ok()) << cut;
    ASSERT_THAT(std::string(status.message()), HasSubstr("cut.gguf")) << cut;
  }
}

// Every byte of the header, turned into each of a few others: no outcome but a status.
TEST(HostileFiles, EveryByteOfTheHeaderMayBeWrong) {
  const RawModel model = SoundUnigramModel();
  std::string bytes = model.Bytes();
  const size_t header_bytes = bytes.size() - model.data.size();
  size_t refused = 0;
  for (size_t at = 0; at < header_bytes; ++at) {
    const char original = bytes[at];
    for (const char wrong : {'\0', '\x7f', '\xff', static_cast<char>(original ^ 1)}) {
      bytes[at] = wrong;
      refused += LoadAll(bytes, "wrong.gguf").ok() ? 0 : 1;
    }
    bytes[at] = original;
  }
  EXPECT_GT(refused, header_bytes);
}

// What the announced elements take is bounded over all arrays of a file together: 8 bytes are held
// for each, whatever they have in the file.
TEST(HostileFiles, ManyArraysAreRefused) {
  RawModel model;
  for (int i = 0; i < 9; ++i) {
    model.SetBytes("array " + std::to_string(i), std::string(1 << 20, '\0'));
  }
  const absl::Status status = LoadAll(model.Bytes(), "arrays.gguf");
  EXPECT_THAT(std::string(status.message()), HasSubstr("from all arrays of a file"));
}

// Long tokens and long special tokens that all begin alike: every place of the text must be looked
// at for each. (That it ends is what is tested; the time is bounded by kMaxTokenBytes and
// kMaxSpecialBytes.)
TEST(HostileFiles, TokensThatAllBeginAlike) {
  const std::string text(4000, 'a');
  std::vector<TestToken> tokens = {
      {"<unk>", TokenType::kUnknown}, {"<s>", TokenType::kControl}, {"</s>", TokenType::kControl}};
  for (size_t bytes = 1; bytes <= 1024; bytes += bytes < 64 ? 1 : 64) {
    tokens.push_back({std::string(bytes, 'a'), TokenType::kNormal, -static_cast<double>(bytes)});
  }
  for (size_t bytes = 1; bytes <= 500; bytes += 25) {
    tokens.push_back({std::string(bytes, 'a') + "#", TokenType::kUserDefined, 0});
  }
  for (const char* kind : {"llama", "t5"}) {
    Metadata metadata = TestVocabulary(kind, tokens);
    metadata.Set("tokenizer.ggml.unknown_token_id", uint64_t{0});
    metadata.Set("tokenizer.ggml.add_space_prefix", false);
    const auto tokenizer = Tokenizer::Make(metadata);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const std::vector<TokenId> ids = (*tokenizer)->Encode(text, {});
    EXPECT_EQ((*tokenizer)->Decode(ids, true), text);
  }
}

// For tests/tools/hostile_files_test.py, which opens the files with the program itself, and for
// tests/fuzz/corpus/gguf. Writes to $TEST_TMPDIR/hostile: the files, and NAME<tab>WORDS of the
// message for each in files.tsv.
TEST(HostileFiles, DISABLED_Write) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "hostile";
  std::filesystem::create_directories(folder);
  std::ostringstream list;
  for (const HostileFile& file : AllHostileFiles()) {
    WriteFile((folder / file.name).string() + ".gguf", file.bytes);
    list << file.name << '\t' << file.says << '\n';
  }
  WriteFile((folder / "files.tsv").string(), list.str());
}

}  // namespace
}  // namespace weir
