#include "tests/io/reader_helper.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <utility>

#include "io/base.h"
#include "io/fault_reader.h"
#include "io/thread_reader.h"
#include "io/uring_reader.h"

namespace weir {

ScratchFile::ScratchFile(const std::string& folder, uint64_t bytes, uint64_t seed)
    : path_(folder + "/weir_io_test_XXXXXX"), content_(bytes) {
  std::mt19937_64 random(seed);
  for (uint8_t& byte : content_) byte = static_cast<uint8_t>(random());
  const int descriptor = mkstemp(path_.data());
  WEIR_CHECK(descriptor >= 0);
  uint64_t written_bytes = 0;
  while (written_bytes < bytes) {
    const ssize_t count = write(descriptor, content_.data() + written_bytes, bytes - written_bytes);
    WEIR_CHECK(count > 0);
    written_bytes += static_cast<uint64_t>(count);
  }
  close(descriptor);
}

ScratchFile::~ScratchFile() { unlink(path_.c_str()); }

AlignedBuffer::AlignedBuffer(uint64_t bytes) : bytes_(std::max<uint64_t>(bytes, 1)) {
  constexpr uint64_t kAlignmentBytes = 64 * kKiB;  // more than any file system here asks for
  data_ =
      static_cast<uint8_t*>(std::aligned_alloc(kAlignmentBytes, AlignUp(bytes_, kAlignmentBytes)));
  WEIR_CHECK(data_ != nullptr);
  std::memset(data_, 0xA5, bytes_);
}

AlignedBuffer::~AlignedBuffer() { std::free(data_); }

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

std::string ScratchFolder() {
  std::string folder = ::testing::TempDir();
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  return folder;
}

std::unique_ptr<Reader> MakeTestReader(const std::string& kind, const ReaderOptions& options,
                                       const Clock* clock) {
  constexpr char kFaultPrefix[] = "fault(";
  if (kind.rfind(kFaultPrefix, 0) == 0) {
    const size_t start = std::strlen(kFaultPrefix);
    std::unique_ptr<Reader> wrapped =
        MakeTestReader(kind.substr(start, kind.size() - start - 1), options, clock);
    if (wrapped == nullptr) return nullptr;
    auto faults = ParseFaultOptions(
        "seed=11,short=30%,again=10%,spike=10%:200us,eio=10%,eio_forever=0,reorder=20%");
    WEIR_CHECK(faults.ok());
    return std::make_unique<FaultReader>(std::move(wrapped), *faults, clock);
  }
  if (kind == "threads") {
    auto reader = ThreadReader::Create(options);
    WEIR_CHECK(reader.ok());
    return *std::move(reader);
  }
  WEIR_CHECK(kind == "uring");
  auto reader = UringReader::Create(options);
  if (!reader.ok()) return nullptr;
  return *std::move(reader);
}

ReadOp WideOp(const File& file, uint64_t offset_bytes, uint64_t bytes, AlignedBuffer* buffer) {
  const AlignedRange range = file.Widen(offset_bytes, bytes);
  WEIR_CHECK(range.bytes <= buffer->size());
  ReadOp op;
  op.file = &file;
  op.offset_bytes = range.offset_bytes;
  op.buffer = buffer->data();
  op.bytes = range.bytes;
  op.required_bytes = range.head_bytes + bytes;
  return op;
}

std::vector<ReadOp*> WaitFor(Reader* reader, size_t count) {
  constexpr int64_t kPatienceNs = 10'000'000'000;
  const RealClock clock;
  const int64_t start_ns = clock.NowNs();
  std::vector<ReadOp*> ops;
  std::vector<ReadOp*> batch(3);  // smaller than what is finished, so that the rest must wait
  while (ops.size() < count) {
    const size_t got = reader->Wait(absl::MakeSpan(batch), 1'000'000'000);
    ops.insert(ops.end(), batch.begin(), batch.begin() + static_cast<ptrdiff_t>(got));
    if (clock.NowNs() - start_ns > kPatienceNs) {
      ADD_FAILURE() << "only " << ops.size() << " of " << count << " ops came back";
      return ops;
    }
  }
  return ops;
}

}  // namespace weir
