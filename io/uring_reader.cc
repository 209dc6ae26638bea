#include "io/uring_reader.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

// A chunk's address is neither of these.
constexpr uint64_t kWakeUserData = 0;
constexpr uint64_t kCancelUserData = 1;
constexpr int64_t kMaxWaitNs = int64_t{3600} * 1'000'000'000;
constexpr int64_t kBackOffNs = 1'000'000;  // when the kernel is out of memory for requests

absl::Status SetupFailure(int error) {
  std::string reason = strerror(error);
  if (error == ENOSYS) reason = "this kernel has no io_uring";
  if (error == EPERM || error == EACCES) {
    reason =
        "this system forbids io_uring (a container's seccomp rules or the sysctl "
        "kernel.io_uring_disabled)";
  }
  if (error == ENOMEM) reason = "too little memory may be locked for a ring (ulimit -l)";
  return absl::UnavailableError(absl::StrCat("io_uring cannot be used: ", reason));
}

}  // namespace

absl::StatusOr<std::unique_ptr<UringReader>> UringReader::Create(const ReaderOptions& options,
                                                                 UringSetup setup) {
  WEIR_RETURN_IF_ERROR(ValidateReaderOptions(options));
  std::unique_ptr<UringReader> reader(new UringReader(options));
  io_uring_params params = {};
  // Each chunk's read and its cancellation, and the poll: the submission queue is never full.
  const int result = setup(2 * options.depth + 1, &reader->ring_, &params);
  if (result < 0) return SetupFailure(-result);
  reader->has_ring_ = true;
  if ((params.features & IORING_FEAT_EXT_ARG) == 0) {
    return absl::UnavailableError(
        "io_uring cannot be used: this kernel's is too old (Linux 5.11 or later is needed)");
  }
  reader->wake_descriptor_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (reader->wake_descriptor_ < 0) {
    return absl::UnavailableError(
        absl::StrCat("io_uring cannot be used: no eventfd: ", strerror(errno)));
  }
  reader->QueueWakePoll();
  reader->SubmitQueued();
  return reader;
}

UringReader::~UringReader() {
  // A read in flight writes to the caller's memory whatever happens to the ring, so each is waited
  // for; chunks not yet started never are. The poll holds no memory.
  while (has_ring_ && queue_.chunks_in_flight() > 0) {
    WaitForCompletion(-1);
    Reap();
  }
  if (has_ring_) io_uring_queue_exit(&ring_);
  if (wake_descriptor_ >= 0) close(wake_descriptor_);
}

void UringReader::QueueRead(ChunkQueue::Chunk* chunk) {
  io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
  WEIR_CHECK(entry != nullptr);
  io_uring_prep_read(entry, chunk->file()->descriptor(), chunk->memory(),
                     static_cast<unsigned>(chunk->bytes()), chunk->offset_bytes());
  io_uring_sqe_set_data(entry, chunk);
}

void UringReader::QueueCancel(ChunkQueue::Chunk* chunk) {
  io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
  WEIR_CHECK(entry != nullptr);
  io_uring_prep_cancel(entry, chunk, 0);
  entry->user_data = kCancelUserData;
}

void UringReader::QueueWakePoll() {
  io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
  WEIR_CHECK(entry != nullptr);
  io_uring_prep_poll_add(entry, wake_descriptor_, POLLIN);
  entry->user_data = kWakeUserData;
}

void UringReader::StartChunks() {
  const int64_t now_ns = queue_.has_pending() ? clock_.NowNs() : 0;
  while (ChunkQueue::Chunk* chunk = queue_.Next(now_ns)) QueueRead(chunk);
  if (io_uring_sq_ready(&ring_) > 0) SubmitQueued();
}

void UringReader::SubmitQueued() {
  const int result = io_uring_submit(&ring_);
  // What the kernel cannot take now (EAGAIN, EBUSY) stays queued and goes with the next wait.
  WEIR_CHECK(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY);
}

void UringReader::Submit(ReadOp* op) {
  queue_.Add(op, clock_.NowNs());
  StartChunks();
}

void UringReader::OnCompletion(uint64_t user_data, int32_t result) {
  if (user_data == kWakeUserData) {
    uint64_t wakes;
    (void)!read(wake_descriptor_, &wakes, sizeof(wakes));  // resets it; empty is fine
    is_woken_ = true;
    QueueWakePoll();
    return;
  }
  if (user_data == kCancelUserData) return;  // what counts is how the read itself ends
  auto* const chunk = reinterpret_cast<ChunkQueue::Chunk*>(user_data);
  if (!chunk->is_abandoned && result > 0) {
    chunk->file()->DropCachedPages(chunk->offset_bytes(), static_cast<uint64_t>(result));
  }
  if (queue_.Complete(chunk, result, clock_.NowNs()) == ReadStep::kAgain) QueueRead(chunk);
}

void UringReader::Reap() {
  io_uring_cqe* completion = nullptr;
  while (io_uring_peek_cqe(&ring_, &completion) == 0) {
    const uint64_t user_data = completion->user_data;
    const int32_t result = completion->res;
    io_uring_cqe_seen(&ring_, completion);
    OnCompletion(user_data, result);
  }
}

void UringReader::GiveUpOverdue() {
  const int64_t now_ns = clock_.NowNs();
  while (ChunkQueue::Chunk* chunk = queue_.FindOverdue(now_ns)) {
    if (chunk->is_overdue) {
      queue_.Abandon(chunk, now_ns);
    } else {
      queue_.GrantGrace(chunk, now_ns);
      QueueCancel(chunk);
    }
  }
}

uint32_t UringReader::stuck() {
  if (queue_.stuck() > 0) Reap();
  return queue_.stuck();
}

void UringReader::WaitForCompletion(int64_t timeout_ns) {
  const int64_t wait_ns = timeout_ns < 0 ? kMaxWaitNs : std::min(timeout_ns, kMaxWaitNs);
  __kernel_timespec timeout = {};
  timeout.tv_sec = wait_ns / 1'000'000'000;
  timeout.tv_nsec = wait_ns % 1'000'000'000;
  io_uring_cqe* completion = nullptr;
  const int result = io_uring_submit_and_wait_timeout(&ring_, &completion, 1, &timeout, nullptr);
  if (result == -EAGAIN || result == -EBUSY) {
    const timespec pause = {0, kBackOffNs};
    nanosleep(&pause, nullptr);
    return;
  }
  WEIR_CHECK(result >= 0 || result == -ETIME || result == -EINTR);
}

size_t UringReader::Wait(absl::Span<ReadOp*> done, int64_t timeout_ns) {
  WEIR_CHECK(!done.empty());
  const int64_t start_ns = clock_.NowNs();
  while (true) {
    Reap();
    GiveUpOverdue();
    StartChunks();
    const size_t count = queue_.TakeDone(done);
    const bool was_woken = std::exchange(is_woken_, false);
    if (count > 0 || was_woken) return count;
    const int64_t now_ns = clock_.NowNs();
    int64_t wait_ns = longest_sleep_ns_;
    if (timeout_ns >= 0) {
      wait_ns = std::min(wait_ns, timeout_ns - (now_ns - start_ns));
      if (wait_ns <= 0) return 0;
    }
    WaitForCompletion(std::clamp<int64_t>(queue_.NextDeadlineNs() - now_ns, 0, wait_ns));
  }
}

void UringReader::Wake() {
  const uint64_t one = 1;
  ssize_t result;
  do {
    result = write(wake_descriptor_, &one, sizeof(one));
  } while (result < 0 && errno == EINTR);
  // EAGAIN: the counter is full, so a wake is pending anyway.
  WEIR_CHECK(result == sizeof(one) || errno == EAGAIN);
}

}  // namespace weir
