// A file without a name, for experiments that write: it is gone when its owner
// is, however the process ends. Writes go by a FileWriter (io/file_writer.h) to
// descriptor(), reads by a Reader to file(); both bypass the page cache where
// the file system lets them.
#ifndef WEIR_IO_SCRATCH_SPACE_H_
#define WEIR_IO_SCRATCH_SPACE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "io/base.h"
#include "io/file.h"

namespace weir {

// Left free on the disk, whatever is asked for.
inline constexpr uint64_t kScratchMarginBytes = 256 * kMiB;

// What an unprivileged process may still write below `folder`.
absl::StatusOr<uint64_t> FreeDiskBytes(const std::string& folder);

// Whether files in `folder` lie in memory (tmpfs, ramfs): writing there says
// nothing about a disk. False where the kernel does not say.
bool LiesInMemory(const std::string& folder);

// ResourceExhausted, with what is wanted and what is free, unless `bytes` and
// the margin fit.
absl::Status CheckDiskSpace(const std::string& folder, uint64_t bytes, uint64_t free_bytes);

class ScratchSpace {
 public:
  // Of so many bytes, which are reserved but hold nothing yet: reading what was
  // not written may not reach the disk. Errors: as CheckDiskSpace; NotFound,
  // PermissionDenied and the like name the folder.
  static absl::StatusOr<std::unique_ptr<ScratchSpace>> Create(const std::string& folder,
                                                              uint64_t bytes);
  ~ScratchSpace();
  ScratchSpace(const ScratchSpace&) = delete;
  ScratchSpace& operator=(const ScratchSpace&) = delete;

  int descriptor() const { return descriptor_; }  // for writing
  bool is_direct() const { return is_direct_; }   // of the descriptor; file() tells its own
  const File& file() const { return *file_; }     // for reading
  const std::string& folder() const { return folder_; }

 private:
  ScratchSpace() = default;
  absl::Status OpenWithoutName();
  absl::Status Reserve(uint64_t bytes) const;

  std::string folder_;
  int descriptor_ = -1;
  bool is_direct_ = false;
  std::unique_ptr<File> file_;
};

}  // namespace weir

#endif  // WEIR_IO_SCRATCH_SPACE_H_
