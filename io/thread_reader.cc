#include "io/thread_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>

#include "io/base.h"

namespace weir {
namespace {

int64_t ThreadCpuNs() {
  timespec now;
  WEIR_CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ThreadReader>> ThreadReader::Create(const ReaderOptions& options,
                                                                   PreadFunction pread) {
  WEIR_RETURN_IF_ERROR(ValidateReaderOptions(options));
  return std::unique_ptr<ThreadReader>(new ThreadReader(options, pread));
}

ThreadReader::ThreadReader(const ReaderOptions& options, PreadFunction pread)
    : pread_(pread),
      capacity_(options.capacity),
      chunk_bytes_(options.chunk_bytes),
      queue_(options) {
  const uint32_t count = std::min(options.depth, kMaxReaderThreads);
  workers_.reserve(count);
  for (uint32_t i = 0; i < count; ++i) workers_.emplace_back([this] { WorkerLoop(); });
}

ThreadReader::~ThreadReader() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  has_work_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadReader::WorkerLoop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    has_work_.wait(lock, [this] { return is_stopping_ || queue_.has_pending(); });
    if (is_stopping_) return;
    ReadChunk(queue_.Next(), &lock);
  }
}

void ThreadReader::ReadChunk(ChunkQueue::Chunk* chunk, std::unique_lock<std::mutex>* lock) {
  const File* const file = chunk->file();
  while (true) {
    lock->unlock();
    const int64_t cpu_start_ns = ThreadCpuNs();
    const uint64_t offset_bytes = chunk->offset_bytes();
    ssize_t result = pread_(file->descriptor(), chunk->memory(), chunk->bytes(),
                            static_cast<off_t>(offset_bytes));
    if (result < 0) result = -errno;
    if (result > 0) file->DropCachedPages(offset_bytes, static_cast<uint64_t>(result));
    const uint64_t cpu_ns = static_cast<uint64_t>(ThreadCpuNs() - cpu_start_ns);
    lock->lock();
    queue_.AddCpuNs(cpu_ns);
    if (queue_.Complete(chunk, result, clock_.NowNs()) == ReadStep::kAgain) continue;
    if (queue_.has_done()) has_news_.notify_one();
    return;
  }
}

void ThreadReader::Submit(ReadOp* op) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.Add(op, clock_.NowNs());
  }
  // A small op is one chunk and needs one thread; waking all for it would cost switches.
  if (op->bytes <= chunk_bytes_) {
    has_work_.notify_one();
  } else {
    has_work_.notify_all();
  }
}

size_t ThreadReader::Wait(absl::Span<ReadOp*> done, int64_t timeout_ns) {
  WEIR_CHECK(!done.empty());
  std::unique_lock<std::mutex> lock(mutex_);
  const auto has_news = [this] { return queue_.has_done() || is_woken_; };
  if (timeout_ns < 0) {
    has_news_.wait(lock, has_news);
  } else {
    // A far deadline would overflow the clock's type.
    constexpr int64_t kMaxWaitNs = int64_t{1} << 60;
    has_news_.wait_for(lock, std::chrono::nanoseconds(std::min(timeout_ns, kMaxWaitNs)), has_news);
  }
  is_woken_ = false;
  return queue_.TakeDone(done);
}

void ThreadReader::Wake() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_woken_ = true;
  }
  has_news_.notify_one();
}

uint32_t ThreadReader::in_flight() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.in_flight();
}

ReaderStats ThreadReader::stats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.stats();
}

}  // namespace weir
