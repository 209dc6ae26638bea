// FileWriter: asynchronous writes from the caller's memory to ranges of a file, by pwrite in
// threads of its own. For experiments on scratch files; weights are never written.
//
// Contract:
//  * A WriteOp and its data belong to the caller, but are the writer's from Submit until Wait hands
//    the op back; every submitted op is handed back exactly once, in any order.
//  * Large ops are split into chunks, which several threads write at once; short writes are
//    resumed, EINTR and EAGAIN tried again. What fails otherwise is reported in `status` with file,
//    offset and bytes; the rest of such an op is not written.
//  * Submit never blocks on I/O. Ops in flight whose ranges overlap are written in no order.
//  * One thread calls Submit, Wait and Sync.
//  * The destructor waits for the chunks that are being written and drops what was not begun.
#ifndef WEIR_IO_FILE_WRITER_H_
#define WEIR_IO_FILE_WRITER_H_

#include <sys/types.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/base.h"

namespace weir {

struct WriteOp {
  // Filled in by the caller; offset, address and length aligned as the file's direct I/O needs.
  uint64_t offset_bytes = 0;
  const uint8_t* data = nullptr;
  uint64_t bytes = 0;  // more than 0
  uint64_t tag = 0;    // the caller's, untouched

  // Filled in by the writer before Wait hands the op back.
  absl::Status status;
  uint64_t done_bytes = 0;

  // The writer's own while in flight.
  uint64_t begun_bytes = 0;
  uint32_t chunks_in_flight = 0;
};

// pwrite(2), or a test's replacement. Called from the writer's threads.
using PwriteFunction = ssize_t (*)(int descriptor, const void* data, size_t bytes,
                                   off_t offset_bytes);

struct FileWriterOptions {
  uint64_t chunk_bytes = 1 * kMiB;  // a multiple of 4096
  uint32_t threads = 8;             // chunks in flight at most; 1 to 64
  // Called after an op has become one that Wait hands back, on a thread of the writer's. May be
  // null.
  void (*wake)(void*) = nullptr;
  void* wake_argument = nullptr;
  PwriteFunction pwrite = &::pwrite;
};

class FileWriter {
 public:
  // The descriptor outlives the writer; `name` is what messages call the file.
  static absl::StatusOr<std::unique_ptr<FileWriter>> Create(int descriptor, std::string name,
                                                            const FileWriterOptions& options);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void Submit(WriteOp* op);
  // Hands back up to done.size() ops and returns their number. Blocks until there is one or
  // timeout_ns has passed (0 polls); returns 0 then, and where nothing is in flight.
  size_t Wait(absl::Span<WriteOp*> done, int64_t timeout_ns);
  // Makes what was handed back durable (fdatasync). Blocks.
  absl::Status Sync() const;

  uint32_t in_flight() const;
  uint64_t written_bytes() const;  // as accepted by the kernel so far

 private:
  FileWriter(int descriptor, std::string name, const FileWriterOptions& options);
  void WorkerLoop();
  // Writes all of a chunk; errno, or 0.
  int WriteChunk(const uint8_t* data, uint64_t bytes, uint64_t offset_bytes) const;
  void EndChunk(WriteOp* op, uint64_t bytes, int error);

  const int descriptor_;
  const std::string name_;
  const FileWriterOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable has_work_;
  std::condition_variable has_news_;
  // Guarded by mutex_, as all below. Of the first the chunks are not all begun.
  std::deque<WriteOp*> pending_;
  std::deque<WriteOp*> done_;
  uint32_t in_flight_ = 0;  // ops, finished ones included
  uint64_t written_bytes_ = 0;
  bool is_stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace weir

#endif  // WEIR_IO_FILE_WRITER_H_
