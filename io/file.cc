#include "io/file.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr uint64_t kDefaultAlignmentBytes = 4096;
constexpr uint64_t kMinAlignmentBytes = 512;
constexpr uint64_t kMaxAlignmentBytes = kMiB;  // a larger one would make every read a waste

const char* KindOfFile(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode)) return "a character device";
  if (S_ISBLK(mode)) return "a block device";
  return "not a regular file";
}

absl::Status RefuseIrregular(const std::string& path, mode_t mode) {
  if (S_ISREG(mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, " is ", KindOfFile(mode), "; name a regular file instead"));
}

int64_t Nanoseconds(int64_t seconds, int64_t nanoseconds) {
  return seconds * 1'000'000'000 + nanoseconds;
}

absl::Status OpenFailure(const std::string& path, int error) {
  return absl::ErrnoToStatus(error, absl::StrCat("cannot open ", path));
}

struct DirectSupport {
  bool refused = false;  // the kernel says that this file cannot be read directly
  uint64_t alignment_bytes = kDefaultAlignmentBytes;
};

// STATX_DIOALIGN: Linux 6.1 (man 2 statx). Both fields 0 means that direct I/O is not supported.
DirectSupport AskAlignment(int descriptor) {
  DirectSupport support;
#ifdef STATX_DIOALIGN
  struct statx info = {};
  if (statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) != 0) return support;
  if ((info.stx_mask & STATX_DIOALIGN) == 0) return support;
  if (info.stx_dio_offset_align == 0 || info.stx_dio_mem_align == 0) {
    support.refused = true;
    return support;
  }
  const uint64_t needed_bytes =
      std::max<uint64_t>({info.stx_dio_offset_align, info.stx_dio_mem_align, kMinAlignmentBytes});
  const bool is_power_of_two = (needed_bytes & (needed_bytes - 1)) == 0;
  if (!is_power_of_two || needed_bytes > kMaxAlignmentBytes) {
    support.refused = true;
  } else {
    support.alignment_bytes = needed_bytes;
  }
#else
  (void)descriptor;
#endif
  return support;
}

// Some file systems accept O_DIRECT and then refuse the reads.
int TrialReadError(int descriptor, uint64_t alignment_bytes) {
  void* block = std::aligned_alloc(alignment_bytes, alignment_bytes);
  WEIR_CHECK(block != nullptr);
  ssize_t got;
  do {
    got = pread(descriptor, block, alignment_bytes, 0);
  } while (got < 0 && errno == EINTR);
  const int error = got < 0 ? errno : 0;
  std::free(block);
  return error;
}

}  // namespace

absl::StatusOr<std::unique_ptr<File>> File::Open(const std::string& path, FileMode mode) {
  std::unique_ptr<File> file(new File());
  file->path_ = path;
  WEIR_RETURN_IF_ERROR(file->OpenDescriptors(mode));
  return file;
}

absl::Status File::OpenDescriptors(FileMode mode) {
  // Asked before open, which would wait for the other end of a pipe.
  struct stat info = {};
  if (stat(path_.c_str(), &info) != 0) return OpenFailure(path_, errno);
  WEIR_RETURN_IF_ERROR(RefuseIrregular(path_, info.st_mode));
  buffered_descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (buffered_descriptor_ < 0) return OpenFailure(path_, errno);
  if (fstat(buffered_descriptor_, &info) != 0) return OpenFailure(path_, errno);
  WEIR_RETURN_IF_ERROR(RefuseIrregular(path_, info.st_mode));
  size_bytes_ = static_cast<uint64_t>(info.st_size);
  modified_ns_ = Nanoseconds(info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
  if (mode == FileMode::kBuffered) {
    buffered_reason_ = "buffered reads were asked for";
  } else {
    WEIR_ASSIGN_OR_RETURN(buffered_reason_, TryDirect(info.st_dev, info.st_ino));
  }
  is_direct_ = buffered_reason_.empty();
  if (!is_direct_) descriptor_ = buffered_descriptor_;
  return absl::OkStatus();
}

absl::StatusOr<std::string> File::TryDirect(uint64_t device, uint64_t inode) {
  const DirectSupport support = AskAlignment(buffered_descriptor_);
  if (support.refused) return std::string("the file system does not support direct reads");
  alignment_bytes_ = support.alignment_bytes;
  const int descriptor = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (descriptor < 0) {
    if (errno != EINVAL && errno != EOPNOTSUPP) return OpenFailure(path_, errno);
    return std::string("the file system refuses O_DIRECT");
  }
  struct stat info = {};
  if (fstat(descriptor, &info) != 0 || info.st_dev != device || info.st_ino != inode) {
    close(descriptor);
    return absl::AbortedError(absl::StrCat(path_, " was replaced while it was opened; try again"));
  }
  if (const int error = TrialReadError(descriptor, alignment_bytes_); error != 0) {
    close(descriptor);
    return absl::StrCat("a direct read of ", alignment_bytes_, " bytes failed (", strerror(error),
                        ")");
  }
  descriptor_ = descriptor;
  return std::string();
}

File::~File() {
  if (descriptor_ >= 0 && descriptor_ != buffered_descriptor_) close(descriptor_);
  if (buffered_descriptor_ >= 0) close(buffered_descriptor_);
}

absl::Status File::CheckUnchanged() const {
  struct statx info = {};
  if (statx(buffered_descriptor_, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE | STATX_MTIME,
            &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot look at ", path_));
  }
  if (info.stx_size != size_bytes_) {
    return absl::DataLossError(absl::StrCat(
        path_, ": it had ", size_bytes_, " bytes when it was opened and has ", info.stx_size,
        " now: it was changed while it was read. Run again once it is whole"));
  }
  if (Nanoseconds(info.stx_mtime.tv_sec, info.stx_mtime.tv_nsec) == modified_ns_) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(
      path_, ": it was written to while it was read. Run again once nobody changes it"));
}

AlignedRange File::Widen(uint64_t offset_bytes, uint64_t bytes) const {
  uint64_t end_bytes = 0;
  WEIR_CHECK(CheckedAdd(offset_bytes, bytes, &end_bytes));
  WEIR_CHECK(CheckedAdd(end_bytes, alignment_bytes_ - 1, &end_bytes));
  AlignedRange range;
  range.offset_bytes = AlignDown(offset_bytes, alignment_bytes_);
  range.bytes = AlignDown(end_bytes, alignment_bytes_) - range.offset_bytes;
  range.head_bytes = offset_bytes - range.offset_bytes;
  return range;
}

absl::Status File::ReadExactly(uint64_t offset_bytes, absl::Span<uint8_t> out) const {
  uint64_t end_bytes = 0;
  constexpr uint64_t kMaxOffset = uint64_t{std::numeric_limits<int64_t>::max()};
  if (!CheckedAdd(offset_bytes, out.size(), &end_bytes) || end_bytes > kMaxOffset) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": offset ", offset_bytes, ": wanted ",
                                              out.size(), " bytes, which no file can hold"));
  }
  size_t got_bytes = 0;
  while (got_bytes < out.size()) {
    const ssize_t result =
        pread(buffered_descriptor_, out.data() + got_bytes, out.size() - got_bytes,
              static_cast<off_t>(offset_bytes + got_bytes));
    if (result < 0 && errno == EINTR) continue;
    if (result < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat(path_, ": offset ", offset_bytes, ": wanted ",
                                                     out.size(), " bytes, got ", got_bytes));
    }
    if (result == 0) {
      return absl::OutOfRangeError(absl::StrCat(
          path_, ": offset ", offset_bytes, ": wanted ", out.size(), " bytes, got ", got_bytes,
          ": the file ends there (it had ", size_bytes_, " bytes when it was opened)"));
    }
    got_bytes += static_cast<size_t>(result);
  }
  return absl::OkStatus();
}

void File::DropCachedPages(uint64_t offset_bytes, uint64_t bytes) const {
  if (is_direct_ || bytes == 0) return;  // 0 would mean "to the end" to the kernel
  (void)posix_fadvise(descriptor_, static_cast<off_t>(offset_bytes), static_cast<off_t>(bytes),
                      POSIX_FADV_DONTNEED);
}

}  // namespace weir
