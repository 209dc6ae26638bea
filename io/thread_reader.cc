#include "io/thread_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "io/base.h"

namespace weir {
absl::StatusOr<std::unique_ptr<ThreadReader>> ThreadReader::Create(const ReaderOptions& options,
                                                                   PreadFunction pread) {
  WEIR_RETURN_IF_ERROR(ValidateReaderOptions(options));
  return std::unique_ptr<ThreadReader>(new ThreadReader(options, pread));
}

ThreadReader::ThreadReader(const ReaderOptions& options, PreadFunction pread)
    : pread_(pread),
      capacity_(options.capacity),
      chunk_bytes_(options.chunk_bytes),
      longest_sleep_ns_(options.LongestSleepNs()),
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
    ReadChunk(queue_.Next(clock_.NowNs()), &lock);
  }
}

void ThreadReader::ReadChunk(ChunkQueue::Chunk* chunk, std::unique_lock<std::mutex>* lock) {
  ReadStep step = ReadStep::kAgain;
  while (step == ReadStep::kAgain) {
    const File* const file = chunk->file();
    const int descriptor = file->descriptor();
    const uint64_t offset_bytes = chunk->offset_bytes();
    uint8_t* const memory = chunk->memory();
    const uint64_t bytes = chunk->bytes();
    lock->unlock();
    const int64_t cpu_start_ns = ThreadCpuNs();
    ssize_t result = pread_(descriptor, memory, bytes, static_cast<off_t>(offset_bytes));
    if (result < 0) result = -errno;
    lock->lock();
    if (!chunk->is_abandoned && !file->is_direct() && result > 0) {
      chunk->is_answered = true;  // so that the file stays
      lock->unlock();
      file->DropCachedPages(offset_bytes, static_cast<uint64_t>(result));
      lock->lock();
    }
    queue_.AddCpuNs(static_cast<uint64_t>(ThreadCpuNs() - cpu_start_ns));
    step = queue_.Complete(chunk, result, clock_.NowNs());
  }
  if (queue_.has_done()) has_news_.notify_one();
}

void ThreadReader::GiveUpOverdue() {
  const int64_t now_ns = clock_.NowNs();
  while (ChunkQueue::Chunk* chunk = queue_.FindOverdue(now_ns)) queue_.Abandon(chunk, now_ns);
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
  const int64_t start_ns = clock_.NowNs();
  std::unique_lock<std::mutex> lock(mutex_);
  const auto has_news = [this] { return queue_.has_done() || is_woken_; };
  while (true) {
    GiveUpOverdue();
    if (has_news()) break;
    const int64_t now_ns = clock_.NowNs();
    int64_t wait_ns = std::min(longest_sleep_ns_, queue_.NextDeadlineNs() - now_ns);
    if (timeout_ns >= 0) wait_ns = std::min(wait_ns, timeout_ns - (now_ns - start_ns));
    const bool is_over = timeout_ns >= 0 && now_ns - start_ns >= timeout_ns;
    if (is_over) break;
    has_news_.wait_for(lock, std::chrono::nanoseconds(std::max<int64_t>(wait_ns, 0)), has_news);
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

uint32_t ThreadReader::stuck() {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.stuck();
}

ReaderStats ThreadReader::stats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.stats();
}

}  // namespace weir
