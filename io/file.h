// A file opened for reading in place, with O_DIRECT where the file system allows it.
#ifndef WEIR_IO_FILE_H_
#define WEIR_IO_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace weir {

// A byte range of a file widened to the alignment that direct reads need.
struct AlignedRange {
  uint64_t offset_bytes;  // multiple of the file's alignment
  uint64_t bytes;         // multiple of the file's alignment; may reach past the end of the file
  uint64_t head_bytes;    // where the wanted range starts inside this one
};

enum class FileMode {
  kDirectOrBuffered,  // O_DIRECT, or buffered where the file system refuses; is_direct() tells
  kBuffered,
};

// Owns the descriptor. Immutable after Open, so it may be shared between threads.
class File {
 public:
  // Refuses what is not a regular file (directories, pipes) with a message that says what it is.
  static absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, FileMode mode);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const { return path_; }
  int descriptor() const { return descriptor_; }
  uint64_t size_bytes() const { return size_bytes_; }  // when it was opened
  bool is_direct() const { return is_direct_; }
  // What offsets, lengths and addresses of direct reads must be multiples of (statx's
  // STATX_DIOALIGN, at least 512; 4096 where the kernel does not say). Also returned, and honoured
  // by callers, when the file is buffered, so that one layout serves both.
  uint64_t alignment_bytes() const { return alignment_bytes_; }
  // Empty when direct; otherwise one sentence that says why reads are buffered.
  const std::string& buffered_reason() const { return buffered_reason_; }

  // DataLoss, in words for the user, when the file's size or its time of last modification differ
  // from those at Open: it was cut, grown or written to. Another file under the same name is no
  // concern: this one is still read. A few hundred nanoseconds; never waits for a file server.
  absl::Status CheckUnchanged() const;

  AlignedRange Widen(uint64_t offset_bytes, uint64_t bytes) const;

  // Blocking read of exactly `out.size()` bytes through the page cache: for headers and tests,
  // not for weights. OutOfRange names file, offset, bytes wanted and got when the file is too
  // short.
  absl::Status ReadExactly(uint64_t offset_bytes, absl::Span<uint8_t> out) const;

  // Tells the kernel that the pages of a buffered range will not be read again, because a cgroup
  // counts the page cache as memory of this process. A hint: errors are ignored. Nothing when
  // direct.
  void DropCachedPages(uint64_t offset_bytes, uint64_t bytes) const;

 private:
  File() = default;
  absl::Status OpenDescriptors(FileMode mode);
  // Why direct reads are impossible; empty when descriptor_ is a direct one now.
  absl::StatusOr<std::string> TryDirect(uint64_t device, uint64_t inode);

  std::string path_;
  int descriptor_ = -1;           // direct where is_direct_, else the same as the next
  int buffered_descriptor_ = -1;  // for ReadExactly
  uint64_t size_bytes_ = 0;
  int64_t modified_ns_ = 0;
  uint64_t alignment_bytes_ = 4096;
  bool is_direct_ = false;
  std::string buffered_reason_;
};

}  // namespace weir

#endif  // WEIR_IO_FILE_H_
