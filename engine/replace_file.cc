#include "engine/replace_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

absl::Status WriteAll(int descriptor, const std::string& text, const std::string& path) {
  size_t written_bytes = 0;
  while (written_bytes < text.size()) {
    const ssize_t count =
        write(descriptor, text.data() + written_bytes, text.size() - written_bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path, ": wanted ",
                                                     text.size(), " bytes, got ", written_bytes));
    }
    written_bytes += static_cast<size_t>(count);
  }
  if (fsync(descriptor) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot sync ", path));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReplaceFile(const std::string& path, const std::string& text) {
  const std::string beside = absl::StrCat(path, ".", getpid(), ".new");
  const int descriptor = open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", beside));
  absl::Status status = WriteAll(descriptor, text, beside);
  close(descriptor);
  if (status.ok() && rename(beside.c_str(), path.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, absl::StrCat("cannot replace ", path));
  }
  if (!status.ok()) unlink(beside.c_str());
  return status;
}

}  // namespace weir
