// Parts that the commands share: exit codes, model paths, result files, prompts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model.h"
#include "tools/exit_codes.h"
#include "tools/model_path.h"
#include "tools/output_file.h"
#include "tools/prompt.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

class Folder {
 public:
  Folder() : path_(absl::StrCat(testing::TempDir(), "weir_tools_XXXXXX")) {
    EXPECT_NE(mkdtemp(path_.data()), nullptr);
  }
  ~Folder() { (void)std::system(absl::StrCat("rm -rf '", path_, "'").c_str()); }
  const std::string& path() const { return path_; }
  std::string Write(const std::string& name, const std::string& text) const {
    std::string path = absl::StrCat(path_, "/", name);
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

 private:
  std::string path_;
};

std::string Slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Restored at the end of a test.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    const char* old = std::getenv(name);
    had_ = old != nullptr;
    if (had_) old_ = old;
    setenv(name, value.c_str(), 1);
  }
  ~Environment() {
    if (had_) {
      setenv(name_, old_.c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }

 private:
  const char* name_;
  bool had_ = false;
  std::string old_;
};

TEST(ExitCodes, TheFirstCodeStays) {
  absl::Status status = WithExitCode(ExitCode::kBudget, absl::InternalError("x"));
  status = WithExitCode(ExitCode::kIo, status);
  EXPECT_EQ(ReportStatus(status), 4);
  EXPECT_EQ(ReportStatus(WithExitCode(ExitCode::kIo, absl::OkStatus())), 0);
}

TEST(ExitCodes, ThoseOfStatusesWithoutOne) {
  EXPECT_EQ(ReportStatus(absl::OkStatus()), 0);
  EXPECT_EQ(ReportStatus(absl::InternalError("x")), 1);
  EXPECT_EQ(ReportStatus(absl::InvalidArgumentError("x")), 2);
  EXPECT_EQ(ReportStatus(absl::NotFoundError("x")), 3);
  EXPECT_EQ(ReportStatus(absl::ResourceExhaustedError("x")), 4);
  EXPECT_EQ(ReportStatus(absl::DataLossError("x")), 5);
  EXPECT_EQ(ReportStatus(absl::CancelledError("x")), 130);
}

TEST(ModelPath, AnExistingPathIsTakenAsItIs) {
  const auto path = ResolveModel("tests/data/tiny.gguf");
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, "tests/data/tiny.gguf");
}

TEST(ModelPath, ANameIsLookedUpInTheCacheFolder) {
  const Folder folder;
  const Environment cache("XDG_CACHE_HOME", folder.path());
  EXPECT_EQ(UserCacheFolder(), folder.path() + "/weir");
  const absl::Status missing = ResolveModel("sample").status();
  EXPECT_THAT(std::string(missing.message()), HasSubstr("tools/fetch_model sample"));
  EXPECT_EQ(ReportStatus(missing), 3);
  ASSERT_EQ(mkdir((folder.path() + "/weir").c_str(), 0700), 0);
  ASSERT_EQ(mkdir((folder.path() + "/weir/models").c_str(), 0700), 0);
  const std::string file = folder.Write("weir/models/sample.gguf", "x");
  const auto found = ResolveModel("sample");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, file);
  const absl::Status path = ResolveModel("some/where.gguf").status();
  EXPECT_THAT(std::string(path.message()), HasSubstr("some/where.gguf"));
  EXPECT_EQ(ReportStatus(path), 3);
}

TEST(ModelPath, ARelativeCacheFolderIsIgnoredAsTheSpecificationSays) {
  const Environment cache("XDG_CACHE_HOME", "relative");
  const Environment home("HOME", "/home/someone");
  EXPECT_EQ(UserCacheFolder(), "/home/someone/.cache/weir");
}

TEST(OutputFile, WritesAndReplaces) {
  const Folder folder;
  const std::string path = folder.Write("out.json", "what was there before, and longer");
  auto file = OutputFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->is_open());
  ASSERT_TRUE(file->Write("new ").ok());
  ASSERT_TRUE(file->Write("text").ok());
  ASSERT_TRUE(file->Close().ok());
  EXPECT_EQ(Slurp(path), "new text");
}

// A run that is refused after its options were read (a budget too small, say) has destroyed
// nothing: the path may even be the model's, by mistake.
TEST(OutputFile, OpenedButNotWrittenLeavesWhatWasThere) {
  const Folder folder;
  const std::string path = folder.Write("precious", "bytes");
  { ASSERT_TRUE(OutputFile::Open(path).ok()); }
  EXPECT_EQ(Slurp(path), "bytes");
}

std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

TEST(OutputFile, WrittenButNotClosedLeavesNothingNew) {
  const Folder folder;
  const std::string path = folder.Write("precious", "bytes");
  {
    auto file = OutputFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE(file->Write(std::string(100000, 'x')).ok());
    auto other = OutputFile::Open(folder.path() + "/other");
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_EQ(NamesIn(folder.path()).size(), 2u) << "nothing before the first byte";
    ASSERT_TRUE(other->Write("x").ok());
    const OutputFile moved = *std::move(other);
    EXPECT_TRUE(moved.is_open());
  }
  EXPECT_EQ(NamesIn(folder.path()), std::vector<std::string>{"precious"});
  EXPECT_EQ(Slurp(path), "bytes");
}

TEST(OutputFile, KeepsLinksAndModes) {
  const Folder folder;
  const std::string path = folder.Write("target", "old");
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  const std::string link = folder.path() + "/link";
  ASSERT_EQ(symlink("target", link.c_str()), 0);
  auto file = OutputFile::Open(link);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Write("new").ok());
  ASSERT_TRUE(file->Close().ok());
  EXPECT_EQ(Slurp(path), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  struct stat info = {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST(OutputFile, NoPathWritesNothing) {
  auto file = OutputFile::Open("");
  ASSERT_TRUE(file.ok());
  EXPECT_FALSE(file->is_open());
  EXPECT_TRUE(file->Write("x").ok());
  EXPECT_TRUE(file->Close().ok());
}

TEST(OutputFile, UnwritablePathsAndFullDisksAreNamed) {
  for (const char* path : {"/nonexistent/folder/x.json", "/"}) {
    const auto file = OutputFile::Open(path);
    ASSERT_FALSE(file.ok());
    EXPECT_EQ(ReportStatus(file.status()), 6);
    EXPECT_THAT(std::string(file.status().message()), HasSubstr(path));
  }
  auto full = OutputFile::Open("/dev/full");
  if (!full.ok()) GTEST_SKIP() << "no /dev/full here";
  absl::Status status = full->Write("text");
  if (status.ok()) status = full->Close();
  EXPECT_EQ(ReportStatus(status), 6);
}

TEST(ReadTextFile, WholeFilesAndRefusals) {
  const Folder folder;
  std::string text(200000, 'x');
  text[1000] = '\0';
  const auto read = ReadTextFile(folder.Write("long.txt", text));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(*read, text);
  const absl::Status missing = ReadTextFile(folder.path() + "/none.txt").status();
  EXPECT_THAT(std::string(missing.message()), HasSubstr("none.txt"));
  EXPECT_FALSE(ReadTextFile(folder.path()).ok()) << "a folder";
}

class Prompts : public testing::Test {
 protected:
  void SetUp() override {
    auto model = LoadModel("tests/data/tiny.gguf");
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }
  std::string Text(const std::vector<TokenId>& tokens) {
    return model_->tokenizer->Decode(tokens, /*show_special=*/true);
  }
  std::unique_ptr<Model> model_;
};

TEST_F(Prompts, TheModelsTemplateIsUsedUnlessTheTextIsRaw) {
  const auto chat = EncodePrompt(*model_, "the water", "", /*raw=*/false);
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_THAT(Text(*chat), HasSubstr("<|im_start|>user\nthe water<|im_end|>\n"));
  EXPECT_THAT(Text(*chat), HasSubstr("<|im_start|>assistant\n"));
  const auto raw = EncodePrompt(*model_, "the water", "", /*raw=*/true);
  ASSERT_TRUE(raw.ok()) << raw.status();
  EXPECT_EQ(Text(*raw), "the water");
}

TEST_F(Prompts, ASystemMessageComesFirst) {
  const auto chat = EncodePrompt(*model_, "hi", "be brief", /*raw=*/false);
  ASSERT_TRUE(chat.ok()) << chat.status();
  const std::string text = Text(*chat);
  EXPECT_LT(text.find("be brief"), text.find("user\nhi"));
}

TEST_F(Prompts, AnUnknownTemplateIsSaidNotGuessedAt) {
  model_->chat_template = "{% for m in messages %}[[{{ m.content }}]]{% endfor %}";
  const absl::Status status = EncodePrompt(*model_, "hi", "", /*raw=*/false).status();
  EXPECT_EQ(ReportStatus(status), 2);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--no-chat"));
  EXPECT_TRUE(EncodePrompt(*model_, "hi", "", /*raw=*/true).ok());
  model_->chat_template.clear();
  const auto none = EncodePrompt(*model_, "hi", "", /*raw=*/false);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(Text(*none), "hi");
}

}  // namespace
}  // namespace weir
