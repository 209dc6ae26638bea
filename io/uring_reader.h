// UringReader: the Reader contract over io_uring. Chunk reads go to the kernel in one ring; an
// eventfd polled in the same ring carries Wake. No thread of its own, no registered buffers, no
// SQPOLL or IOPOLL: at reads of a MiB they save nothing that shows.
#ifndef WEIR_IO_URING_READER_H_
#define WEIR_IO_URING_READER_H_

#include <liburing.h>

#include <memory>
#include <string>
#include <string_view>

#include "io/chunk_queue.h"
#include "io/clock.h"
#include "io/reader.h"

namespace weir {

// io_uring_queue_init_params, or a test's replacement: 0 or a negative errno.
using UringSetup = int (*)(unsigned entries, io_uring* ring, io_uring_params* params);

class UringReader final : public Reader {
 public:
  // Unavailable, in one clause without a full stop, where the kernel has no io_uring, forbids it
  // (containers, sysctl kernel.io_uring_disabled) or is too old (before 5.11: no timed wait).
  static absl::StatusOr<std::unique_ptr<UringReader>> Create(
      const ReaderOptions& options, UringSetup setup = &io_uring_queue_init_params);
  ~UringReader() override;
  UringReader(const UringReader&) = delete;
  UringReader& operator=(const UringReader&) = delete;

  std::string_view name() const override { return "uring"; }
  uint32_t capacity() const override { return queue_.capacity(); }
  uint32_t in_flight() const override { return queue_.in_flight(); }
  uint32_t stuck() override;
  void Submit(ReadOp* op) override;
  size_t Wait(absl::Span<ReadOp*> done, int64_t timeout_ns) override;
  void Wake() override;  // one write to an eventfd: also allowed in a signal handler
  ReaderStats stats() const override { return queue_.stats(); }

 private:
  explicit UringReader(const ReaderOptions& options)
      : longest_sleep_ns_(options.LongestSleepNs()), queue_(options) {}

  void QueueRead(ChunkQueue::Chunk* chunk);
  void QueueCancel(ChunkQueue::Chunk* chunk);
  void QueueWakePoll();
  void StartChunks();  // hands as many chunks as fit to the kernel
  void SubmitQueued();
  void Reap();  // takes every completion that is there, without waiting
  void GiveUpOverdue();
  void OnCompletion(uint64_t user_data, int32_t result);
  void WaitForCompletion(int64_t timeout_ns);  // negative: for ever

  const int64_t longest_sleep_ns_;
  RealClock clock_;
  ChunkQueue queue_;
  io_uring ring_ = {};
  bool has_ring_ = false;
  int wake_descriptor_ = -1;
  bool is_woken_ = false;
};

// MakeReader of io/reader.h with another way to set a ring up.
absl::StatusOr<std::unique_ptr<Reader>> MakeReader(std::string_view kind,
                                                   const ReaderOptions& options, std::string* note,
                                                   UringSetup setup);

}  // namespace weir

#endif  // WEIR_IO_URING_READER_H_
