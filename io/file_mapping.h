// A range of a file, mapped for reading, and what of it the page cache holds: for experiments that
// are about page faults and the page cache. Weights are read by a Reader.
#ifndef WEIR_IO_FILE_MAPPING_H_
#define WEIR_IO_FILE_MAPPING_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "io/file.h"

namespace weir {

class FileMapping {
 public:
  // `bytes` of the file from `offset_bytes` on: at least 1, and within the file. Errors name it.
  static absl::StatusOr<std::unique_ptr<FileMapping>> Open(const File& file, uint64_t offset_bytes,
                                                           uint64_t bytes);
  ~FileMapping();
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;

  // Of the range's first byte. What is mapped of a file that is cut meanwhile must not be read.
  const uint8_t* data() const { return pages_ + head_bytes_; }
  uint64_t bytes() const { return mapped_bytes_ - head_bytes_; }

  // Of the pages that the range lies in, those that the page cache holds (mincore), 0 to 1.
  absl::StatusOr<double> CachedShare() const;

  static uint64_t PageBytes();

 private:
  FileMapping(const File& file, const uint8_t* pages, uint64_t mapped_bytes, uint64_t head_bytes)
      : file_(file), pages_(pages), mapped_bytes_(mapped_bytes), head_bytes_(head_bytes) {}

  const File& file_;
  const uint8_t* pages_;
  uint64_t mapped_bytes_;
  uint64_t head_bytes_;  // before the range, in its first page
};

// Asks the kernel to forget the file's pages, after those that are still to be written were: a
// hint, which CachedShare tells the success of.
void DropPagesOf(const File& file);

}  // namespace weir

#endif  // WEIR_IO_FILE_MAPPING_H_
