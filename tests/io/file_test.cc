#include "io/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/base.h"
#include "tests/io/reader_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

std::string OpenError(const std::string& path, absl::StatusCode code) {
  const auto file = File::Open(path, FileMode::kDirectOrBuffered);
  EXPECT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), code) << file.status();
  return std::string(file.status().message());
}

TEST(File, RefusesWhatIsNotARegularFile) {
  const std::string folder = ScratchFolder();
  const std::string directory = OpenError(folder, absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(directory, HasSubstr(folder));
  EXPECT_THAT(directory, HasSubstr("a directory"));
  EXPECT_THAT(OpenError("/dev/null", absl::StatusCode::kInvalidArgument),
              HasSubstr("a character device"));
  const std::string pipe = folder + "/weir_fifo_" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(OpenError(pipe, absl::StatusCode::kInvalidArgument), HasSubstr("a pipe"));
  unlink(pipe.c_str());
}

TEST(File, MissingAndForbiddenFiles) {
  const std::string missing = OpenError("/no/such/file.gguf", absl::StatusCode::kNotFound);
  EXPECT_THAT(missing, HasSubstr("/no/such/file.gguf"));
  ScratchFile scratch(ScratchFolder(), 10, 1);
  ASSERT_EQ(chmod(scratch.path().c_str(), 0), 0);
  if (access(scratch.path().c_str(), R_OK) == 0) GTEST_SKIP() << "root may read everything";
  OpenError(scratch.path(), absl::StatusCode::kPermissionDenied);
}

TEST(File, ReportsSizeAndAlignment) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, 4 * kKiB, 100 * kKiB + 7}) {
    ScratchFile scratch(ScratchFolder(), bytes, 2);
    const auto file = File::Open(scratch.path(), FileMode::kDirectOrBuffered);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ((*file)->size_bytes(), bytes);
    EXPECT_EQ((*file)->path(), scratch.path());
    const uint64_t alignment = (*file)->alignment_bytes();
    EXPECT_GE(alignment, 512u);
    EXPECT_EQ(alignment & (alignment - 1), 0u);
    EXPECT_EQ((*file)->is_direct(), (*file)->buffered_reason().empty());
    std::vector<uint8_t> all(bytes);
    EXPECT_TRUE((*file)->ReadExactly(0, absl::MakeSpan(all)).ok());
    EXPECT_EQ(all, scratch.content());
  }
}

TEST(File, BufferedOnRequestAndFilesInMemory) {
  ScratchFile scratch(ScratchFolder(), 5000, 3);
  const auto buffered = File::Open(scratch.path(), FileMode::kBuffered);
  ASSERT_TRUE(buffered.ok()) << buffered.status();
  EXPECT_FALSE((*buffered)->is_direct());
  EXPECT_THAT((*buffered)->buffered_reason(), HasSubstr("asked for"));
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "no /dev/shm here";
  ScratchFile in_memory("/dev/shm", 5000, 4);
  const auto file = File::Open(in_memory.path(), FileMode::kDirectOrBuffered);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->is_direct(), (*file)->buffered_reason().empty());
  std::vector<uint8_t> part(1000);
  ASSERT_TRUE((*file)->ReadExactly(4000, absl::MakeSpan(part)).ok());
  EXPECT_TRUE(std::equal(part.begin(), part.end(), in_memory.content().begin() + 4000));
}

TEST(File, ProcFilesAreReadBuffered) {
  const auto file = File::Open("/proc/self/status", FileMode::kDirectOrBuffered);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_FALSE((*file)->is_direct());
  EXPECT_NE((*file)->buffered_reason(), "");
  std::vector<uint8_t> start(5);
  ASSERT_TRUE((*file)->ReadExactly(0, absl::MakeSpan(start)).ok());
  EXPECT_EQ(std::string(start.begin(), start.end()), "Name:");
}

TEST(File, ReadExactlyNamesWhatIsMissing) {
  ScratchFile scratch(ScratchFolder(), 5000, 5);
  const auto file = File::Open(scratch.path(), FileMode::kDirectOrBuffered);
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<uint8_t> out(1000);
  const absl::Status status = (*file)->ReadExactly(4500, absl::MakeSpan(out));
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr(scratch.path()));
  EXPECT_THAT(message, HasSubstr("offset 4500: wanted 1000 bytes, got 500"));
  EXPECT_EQ((*file)->ReadExactly(~uint64_t{0} - 10, absl::MakeSpan(out)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ((*file)->ReadExactly(uint64_t{1} << 63, absl::MakeSpan(out)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_TRUE((*file)->ReadExactly(5000, absl::Span<uint8_t>()).ok());
}

TEST(File, WidenCoversTheRange) {
  ScratchFile scratch(ScratchFolder(), 100, 6);
  const auto file = File::Open(scratch.path(), FileMode::kDirectOrBuffered);
  ASSERT_TRUE(file.ok()) << file.status();
  const uint64_t alignment = (*file)->alignment_bytes();
  for (const uint64_t offset :
       {uint64_t{0}, uint64_t{1}, alignment - 1, alignment, alignment + 1}) {
    for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, alignment, 3 * alignment + 1}) {
      const AlignedRange range = (*file)->Widen(offset, bytes);
      EXPECT_EQ(range.offset_bytes % alignment, 0u);
      EXPECT_EQ(range.bytes % alignment, 0u);
      EXPECT_EQ(range.offset_bytes + range.head_bytes, offset);
      EXPECT_LT(range.head_bytes, alignment);
      EXPECT_GE(range.bytes, range.head_bytes + bytes);
      EXPECT_LT(range.bytes, range.head_bytes + bytes + alignment);
    }
  }
}

// Pages of the file that are in the page cache.
size_t ResidentPages(const File& file) {
  const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const map = mmap(nullptr, file.size_bytes(), PROT_READ, MAP_SHARED, file.descriptor(), 0);
  WEIR_CHECK(map != MAP_FAILED);
  std::vector<unsigned char> pages(CeilDiv(file.size_bytes(), page_bytes));
  WEIR_CHECK(mincore(map, file.size_bytes(), pages.data()) == 0);
  munmap(map, file.size_bytes());
  size_t count = 0;
  for (const unsigned char page : pages) count += page & 1;
  return count;
}

TEST(File, BufferedPagesAreGivenBack) {
  ScratchFile scratch(ScratchFolder(), kMiB, 7);
  sync();  // dirty pages cannot be dropped
  const auto file = File::Open(scratch.path(), FileMode::kBuffered);
  ASSERT_TRUE(file.ok()) << file.status();
  (*file)->DropCachedPages(0, kMiB);
  if (ResidentPages(**file) > 0) GTEST_SKIP() << "this file system keeps its pages (tmpfs does)";
  const RealClock clock;
  const std::unique_ptr<Reader> reader = MakeTestReader("threads", ReaderOptions(), &clock);
  AlignedBuffer memory(kMiB);
  ReadOp op = WideOp(**file, 0, kMiB, &memory);
  reader->Submit(&op);
  ASSERT_EQ(WaitFor(reader.get(), 1).size(), 1u);
  EXPECT_EQ(ResidentPages(**file), 0u);
}

TEST(File, NoticesThatItWasChanged) {
  ScratchFile scratch(ScratchFolder(), 5000, 3);
  const auto open = [&] {
    auto file = File::Open(scratch.path(), FileMode::kDirectOrBuffered);
    WEIR_CHECK(file.ok());
    return *std::move(file);
  };
  auto file = open();
  EXPECT_TRUE(file->CheckUnchanged().ok());
  ASSERT_EQ(truncate(scratch.path().c_str(), 4000), 0);
  const absl::Status cut = file->CheckUnchanged();
  EXPECT_EQ(cut.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(cut.message()), HasSubstr(scratch.path()));
  EXPECT_THAT(std::string(cut.message()), HasSubstr("had 5000 bytes"));
  EXPECT_THAT(std::string(cut.message()), HasSubstr("has 4000 now"));
  file = open();
  EXPECT_TRUE(file->CheckUnchanged().ok());
  const timespec times[2] = {{0, UTIME_OMIT}, {1'000'000'000, 5}};
  ASSERT_EQ(utimensat(AT_FDCWD, scratch.path().c_str(), times, 0), 0);
  EXPECT_EQ(file->CheckUnchanged().code(), absl::StatusCode::kDataLoss);
  // Another file takes the name: this one is still what it was.
  file = open();
  const std::string other = scratch.path() + "_other";
  const int descriptor = ::open(other.c_str(), O_WRONLY | O_CREAT, 0600);
  close(descriptor);
  ASSERT_EQ(rename(other.c_str(), scratch.path().c_str()), 0);
  EXPECT_TRUE(file->CheckUnchanged().ok()) << file->CheckUnchanged();
}

}  // namespace
}  // namespace weir
