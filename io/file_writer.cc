#include "io/file_writer.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr uint32_t kMaxThreads = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<FileWriter>> FileWriter::Create(int descriptor, std::string name,
                                                               const FileWriterOptions& options) {
  if (options.threads == 0 || options.threads > kMaxThreads || options.chunk_bytes == 0 ||
      options.chunk_bytes % 4096 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("file writer: ", options.threads,
                                                   " threads and chunks of ", options.chunk_bytes,
                                                   " bytes are not possible: 1 to ", kMaxThreads,
                                                   " threads, chunks a multiple of 4096 bytes"));
  }
  return std::unique_ptr<FileWriter>(new FileWriter(descriptor, std::move(name), options));
}

FileWriter::FileWriter(int descriptor, std::string name, const FileWriterOptions& options)
    : descriptor_(descriptor), name_(std::move(name)), options_(options) {
  workers_.reserve(options.threads);
  for (uint32_t i = 0; i < options.threads; ++i) workers_.emplace_back([this] { WorkerLoop(); });
}

FileWriter::~FileWriter() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  has_work_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void FileWriter::WorkerLoop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    has_work_.wait(lock, [this] { return is_stopping_ || !pending_.empty(); });
    if (is_stopping_) return;
    WriteOp* const op = pending_.front();
    const uint64_t begin = op->begun_bytes;
    const uint64_t bytes = std::min(options_.chunk_bytes, op->bytes - begin);
    const uint8_t* const data = op->data + begin;
    const uint64_t offset_bytes = op->offset_bytes + begin;
    op->begun_bytes += bytes;
    ++op->chunks_in_flight;
    if (op->begun_bytes == op->bytes) pending_.pop_front();
    lock.unlock();
    const int error = WriteChunk(data, bytes, offset_bytes);
    lock.lock();
    EndChunk(op, bytes, error);
    if (op->chunks_in_flight > 0 || op->begun_bytes < op->bytes) continue;
    done_.push_back(op);  // not to be touched from here on
    lock.unlock();
    has_news_.notify_one();
    if (options_.wake != nullptr) options_.wake(options_.wake_argument);
    lock.lock();
  }
}

int FileWriter::WriteChunk(const uint8_t* data, uint64_t bytes, uint64_t offset_bytes) const {
  uint64_t at = 0;
  while (at < bytes) {
    const ssize_t result =
        options_.pwrite(descriptor_, data + at, bytes - at, static_cast<off_t>(offset_bytes + at));
    if (result < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (result <= 0) return result < 0 ? errno : EIO;
    at += static_cast<uint64_t>(result);
  }
  return 0;
}

void FileWriter::EndChunk(WriteOp* op, uint64_t bytes, int error) {
  --op->chunks_in_flight;
  if (error == 0) {
    op->done_bytes += bytes;
    written_bytes_ += bytes;
    return;
  }
  if (!op->status.ok()) return;
  op->status = absl::ErrnoToStatus(
      error, absl::StrCat(name_, ": cannot write ", op->bytes, " bytes at ", op->offset_bytes));
  if (op->begun_bytes < op->bytes) {
    op->begun_bytes = op->bytes;
    pending_.pop_front();  // it is the first: only one op is partly begun
  }
}

void FileWriter::Submit(WriteOp* op) {
  WEIR_CHECK(op->bytes > 0 && op->data != nullptr);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    op->status = absl::OkStatus();
    op->done_bytes = 0;
    op->begun_bytes = 0;
    op->chunks_in_flight = 0;
    pending_.push_back(op);
    ++in_flight_;
  }
  if (op->bytes <= options_.chunk_bytes) {
    has_work_.notify_one();
  } else {
    has_work_.notify_all();
  }
}

size_t FileWriter::Wait(absl::Span<WriteOp*> done, int64_t timeout_ns) {
  WEIR_CHECK(!done.empty() && timeout_ns >= 0);
  std::unique_lock<std::mutex> lock(mutex_);
  if (in_flight_ == 0) return 0;
  has_news_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), [this] { return !done_.empty(); });
  size_t count = 0;
  while (count < done.size() && !done_.empty()) {
    done[count++] = done_.front();
    done_.pop_front();
    --in_flight_;
  }
  return count;
}

absl::Status FileWriter::Sync() const {
  int result;
  do {
    result = fdatasync(descriptor_);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat(name_, ": cannot flush what was written"));
}

uint32_t FileWriter::in_flight() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return in_flight_;
}

uint64_t FileWriter::written_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return written_bytes_;
}

}  // namespace weir
