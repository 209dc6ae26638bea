#include "io/file_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {

uint64_t FileMapping::PageBytes() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

absl::StatusOr<std::unique_ptr<FileMapping>> FileMapping::Open(const File& file,
                                                               uint64_t offset_bytes,
                                                               uint64_t bytes) {
  WEIR_CHECK(bytes > 0 && offset_bytes < file.size_bytes() &&
             bytes <= file.size_bytes() - offset_bytes);
  const uint64_t start = AlignDown(offset_bytes, PageBytes());
  const uint64_t head_bytes = offset_bytes - start;
  void* const pages = mmap(nullptr, head_bytes + bytes, PROT_READ, MAP_SHARED, file.descriptor(),
                           static_cast<off_t>(start));
  if (pages == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot map ", file.path()));
  }
  return std::unique_ptr<FileMapping>(
      new FileMapping(file, static_cast<const uint8_t*>(pages), head_bytes + bytes, head_bytes));
}

FileMapping::~FileMapping() { munmap(const_cast<uint8_t*>(pages_), mapped_bytes_); }

absl::StatusOr<double> FileMapping::CachedShare() const {
  std::vector<unsigned char> pages(CeilDiv(mapped_bytes_, PageBytes()));
  if (mincore(const_cast<uint8_t*>(pages_), mapped_bytes_, pages.data()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot tell what is cached of ", file_.path()));
  }
  const auto cached =
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
  return static_cast<double>(cached) / static_cast<double>(pages.size());
}

void DropPagesOf(const File& file) {
  (void)fdatasync(file.descriptor());
  (void)posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace weir
