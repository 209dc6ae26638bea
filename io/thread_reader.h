// ThreadReader: the Reader contract over pread in threads of its own. The fallback where io_uring
// is forbidden; at chunks of a MiB it reaches the same rate for a little more CPU time.
//
// A stuck read keeps its thread; the destructor joins it.
#ifndef WEIR_IO_THREAD_READER_H_
#define WEIR_IO_THREAD_READER_H_

#include <sys/types.h>
#include <unistd.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "io/chunk_queue.h"
#include "io/clock.h"
#include "io/reader.h"

namespace weir {

// Reads in flight at most, whatever the depth asked for: 16 reads of a MiB keep any one disk busy,
// and more threads only add switches.
inline constexpr uint32_t kMaxReaderThreads = 16;

// pread(2), or a test's replacement. Called from the Reader's threads.
using PreadFunction = ssize_t (*)(int descriptor, void* buffer, size_t bytes, off_t offset_bytes);

class ThreadReader final : public Reader {
 public:
  // Starts min(depth, kMaxReaderThreads) threads.
  static absl::StatusOr<std::unique_ptr<ThreadReader>> Create(const ReaderOptions& options,
                                                              PreadFunction pread = &::pread);
  ~ThreadReader() override;
  ThreadReader(const ThreadReader&) = delete;
  ThreadReader& operator=(const ThreadReader&) = delete;

  std::string_view name() const override { return "threads"; }
  uint32_t capacity() const override { return capacity_; }
  uint32_t in_flight() const override;
  uint32_t stuck() override;
  void Submit(ReadOp* op) override;
  size_t Wait(absl::Span<ReadOp*> done, int64_t timeout_ns) override;
  void Wake() override;
  ReaderStats stats() const override;

 private:
  ThreadReader(const ReaderOptions& options, PreadFunction pread);

  void WorkerLoop();
  // Reads one chunk to its end; `lock` is released during the reads.
  void ReadChunk(ChunkQueue::Chunk* chunk, std::unique_lock<std::mutex>* lock);
  // A thread inside a read cannot be called back: its chunk is abandoned.
  void GiveUpOverdue();

  const PreadFunction pread_;
  const uint32_t capacity_;
  const uint64_t chunk_bytes_;
  const int64_t longest_sleep_ns_;
  RealClock clock_;
  mutable std::mutex mutex_;
  std::condition_variable has_work_;  // workers wait for chunks or the end
  std::condition_variable has_news_;  // Wait waits for finished ops or a wake
  ChunkQueue queue_;                  // guarded by mutex_
  bool is_woken_ = false;             // guarded by mutex_
  bool is_stopping_ = false;          // guarded by mutex_
  std::vector<std::thread> workers_;
};

}  // namespace weir

#endif  // WEIR_IO_THREAD_READER_H_
