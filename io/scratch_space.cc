#include "io/scratch_space.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

absl::Status Failure(int error, absl::string_view what, const std::string& folder) {
  return absl::ErrnoToStatus(error, absl::StrCat(what, " in ", folder));
}

}  // namespace

absl::StatusOr<uint64_t> FreeDiskBytes(const std::string& folder) {
  struct statvfs info = {};
  if (statvfs(folder.c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot use the folder ", folder));
  }
  uint64_t bytes = 0;
  if (!CheckedMul(info.f_bavail, info.f_frsize, &bytes)) {
    bytes = std::numeric_limits<uint64_t>::max();
  }
  return bytes;
}

bool LiesInMemory(const std::string& folder) {
  struct statfs info = {};
  if (statfs(folder.c_str(), &info) != 0) return false;
  return info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC;
}

absl::Status CheckDiskSpace(const std::string& folder, uint64_t bytes, uint64_t free_bytes) {
  uint64_t wanted_bytes = 0;
  if (CheckedAdd(bytes, kScratchMarginBytes, &wanted_bytes) && wanted_bytes <= free_bytes) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      folder, ": scratch space of ", FormatBytes(bytes), " (", bytes, " bytes) and ",
      FormatBytes(kScratchMarginBytes), " beside it are wanted, ", FormatBytes(free_bytes), " (",
      free_bytes, " bytes) are free. Ask for less, or name a folder on another disk"));
}

absl::StatusOr<std::unique_ptr<ScratchSpace>> ScratchSpace::Create(const std::string& folder,
                                                                   uint64_t bytes) {
  WEIR_ASSIGN_OR_RETURN(const uint64_t free_bytes, FreeDiskBytes(folder));
  WEIR_RETURN_IF_ERROR(CheckDiskSpace(folder, bytes, free_bytes));
  std::unique_ptr<ScratchSpace> scratch(new ScratchSpace());
  scratch->folder_ = folder;
  WEIR_RETURN_IF_ERROR(scratch->OpenWithoutName());
  WEIR_RETURN_IF_ERROR(scratch->Reserve(bytes));
  // Opened anew by the descriptor, since there is no name.
  const std::string path = absl::StrCat("/proc/self/fd/", scratch->descriptor_);
  WEIR_ASSIGN_OR_RETURN(scratch->file_, File::Open(path, FileMode::kDirectOrBuffered));
  return scratch;
}

ScratchSpace::~ScratchSpace() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status ScratchSpace::OpenWithoutName() {
  constexpr int kFlags = O_RDWR | O_CLOEXEC;
  for (const int direct : {O_DIRECT, 0}) {
    descriptor_ = open(folder_.c_str(), kFlags | O_TMPFILE | direct, 0600);
    is_direct_ = direct != 0;
    if (descriptor_ >= 0) return absl::OkStatus();
    if (errno != EINVAL && errno != EOPNOTSUPP && errno != EISDIR) {
      return Failure(errno, "cannot make a scratch file", folder_);
    }
  }
  // The file system makes no files without names: this one loses its name at
  // once.
  std::string path = folder_ + "/weir_scratch_XXXXXX";
  for (const int direct : {O_DIRECT, 0}) {
    descriptor_ = mkostemp(path.data(), O_CLOEXEC | direct);
    is_direct_ = direct != 0;
    if (descriptor_ >= 0) break;
    path = folder_ + "/weir_scratch_XXXXXX";
  }
  if (descriptor_ < 0) return Failure(errno, "cannot make a scratch file", folder_);
  if (unlink(path.c_str()) != 0) return Failure(errno, "cannot unlink a scratch file", folder_);
  return absl::OkStatus();
}

absl::Status ScratchSpace::Reserve(uint64_t bytes) const {
  int result;
  do {
    result = fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return absl::OkStatus();
  const bool cannot = errno == EOPNOTSUPP || errno == ENOSYS;
  if (cannot && ftruncate(descriptor_, static_cast<off_t>(bytes)) == 0) return absl::OkStatus();
  return Failure(errno, absl::StrCat("cannot reserve ", FormatBytes(bytes), " of scratch space"),
                 folder_);
}

}  // namespace weir
