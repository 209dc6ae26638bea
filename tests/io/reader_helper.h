// Files, memory and readers for the tests of io/.
#ifndef WEIR_TESTS_IO_READER_HELPER_H_
#define WEIR_TESTS_IO_READER_HELPER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/clock.h"
#include "io/file.h"
#include "io/reader.h"

namespace weir {

// A file of `bytes` pseudo-random bytes in `folder`, removed by the destructor.
class ScratchFile {
 public:
  ScratchFile(const std::string& folder, uint64_t bytes, uint64_t seed);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<uint8_t>& content() const { return content_; }

 private:
  std::string path_;
  std::vector<uint8_t> content_;
};

// Memory for direct reads, filled with 0xA5.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(uint64_t bytes);
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&&) = delete;
  AlignedBuffer(const AlignedBuffer&) = delete;

  uint8_t* data() { return data_; }
  uint64_t size() const { return bytes_; }

 private:
  uint8_t* data_;
  uint64_t bytes_;
};

std::string ScratchFolder();  // ends without a slash

// "uring", "threads", "fault(uring)", "fault(threads)"; the faults are all that recover. Null where
// io_uring is forbidden. `clock` must outlive the reader.
std::unique_ptr<Reader> MakeTestReader(const std::string& kind, const ReaderOptions& options,
                                       const Clock* clock);

// An op for [offset, offset + bytes) widened for direct reads.
ReadOp WideOp(const File& file, uint64_t offset_bytes, uint64_t bytes, AlignedBuffer* buffer);

// Waits until `count` ops were handed back; fails the test after ten seconds.
std::vector<ReadOp*> WaitFor(Reader* reader, size_t count);

}  // namespace weir

#endif  // WEIR_TESTS_IO_READER_HELPER_H_
