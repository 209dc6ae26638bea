#include "io/scratch_space.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/io/fake_root_helper.h"
#include "tests/io/reader_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(ScratchSpace, HasRoomAndNoName) {
  const FakeRoot folder;
  const auto scratch = ScratchSpace::Create(folder.path(), 3 * kMiB);
  ASSERT_TRUE(scratch.ok()) << scratch.status();
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "the file has a name";
  EXPECT_EQ((*scratch)->file().size_bytes(), 3 * kMiB);
  EXPECT_EQ((*scratch)->folder(), folder.path());
  struct stat info = {};
  ASSERT_EQ(fstat((*scratch)->descriptor(), &info), 0);
  EXPECT_EQ(info.st_nlink, 0u);
  // Both descriptors are of one file.
  AlignedBuffer block(4096);
  ASSERT_EQ(pwrite((*scratch)->descriptor(), block.data(), 4096, 8192), 4096);
  std::vector<uint8_t> got(4096);
  ASSERT_TRUE((*scratch)->file().ReadExactly(8192, absl::MakeSpan(got)).ok());
  EXPECT_EQ(got[4095], 0xA5);
}

TEST(ScratchSpace, RefusesWhatDoesNotFit) {
  const std::string folder = ScratchFolder();
  const absl::Status status = ScratchSpace::Create(folder, uint64_t{1} << 60).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1152921504606846976 bytes"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder));
  EXPECT_TRUE(CheckDiskSpace("/f", 100, 100 + kScratchMarginBytes).ok());
  EXPECT_FALSE(CheckDiskSpace("/f", 101, 100 + kScratchMarginBytes).ok()) << "the margin is left";
  EXPECT_FALSE(CheckDiskSpace("/f", ~uint64_t{0}, ~uint64_t{0}).ok()) << "the sum overflows";
}

TEST(ScratchSpace, NamesTheFolderThatIsNotThere) {
  for (const char* folder : {"/nowhere/at/all", "/proc/self/status"}) {
    const absl::Status status = ScratchSpace::Create(folder, 4096).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(folder));
  }
}

TEST(ScratchSpace, KnowsMemoryFromDisks) {
  EXPECT_FALSE(LiesInMemory("/proc"));
  EXPECT_FALSE(LiesInMemory("/nowhere/at/all"));
  EXPECT_TRUE(FreeDiskBytes(ScratchFolder()).ok());
  if (access("/dev/shm", F_OK) == 0) {
    EXPECT_TRUE(LiesInMemory("/dev/shm"));
  }
}

}  // namespace
}  // namespace weir
