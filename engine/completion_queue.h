// CompletionQueue: pieces of work that were enqueued on one stream, in order, and how far it has
// come. Whoever waits for them is woken when there is something for it to do: a piece that it said
// it wants to know of is done, half of the queue has run and wants to be refilled, or nothing is
// left to run. Waking it after every piece would take a core from the workers a hundred times a
// token.
#ifndef WEIR_ENGINE_COMPLETION_QUEUE_H_
#define WEIR_ENGINE_COMPLETION_QUEUE_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "io/clock.h"
#include "kernels/device.h"

namespace weir {

// One thread uses it, beside the device's.
class CompletionQueue {
 public:
  struct Options {
    Stream* stream = nullptr;
    uint32_t capacity = 1;  // pieces pushed and not yet taken
    // The end of each piece is noted when it comes; otherwise some are told with one that comes
    // later, since a notification costs a GPU more than a small step.
    bool notify_each = true;
    // Called on a thread of the device's.
    void (*wake)(void*) = nullptr;
    void* wake_argument = nullptr;
  };
  struct Piece {
    uint32_t id = 0;
    int64_t begin_ns = 0;  // enqueued, or the one before it ended, or `not_before_ns`
    int64_t end_ns = 0;
  };

  explicit CompletionQueue(const Options& options);

  // What was enqueued on the stream since the last call is piece `id`. `wakes`: its end is to be
  // known at once. `enqueued_ns`: when that began.
  void Push(uint32_t id, bool wakes, int64_t enqueued_ns);
  // Before waiting: sees to it that the end of the last piece is noted.
  void NotifyLast();

  uint64_t pushed() const { return pushed_; }
  uint64_t taken() const { return taken_; }
  bool IsDone(uint64_t number) const { return done_.load(std::memory_order_acquire) >= number; }
  // Whether the oldest piece not yet taken is done.
  bool HasDone() const { return taken_ < pushed_ && IsDone(taken_ + 1); }
  // Takes the oldest, done or known to be done. It began at `not_before_ns` at the earliest.
  Piece Take(int64_t not_before_ns);
  // Of one that was taken and is among the last `capacity`; numbers begin at 1.
  int64_t EndNs(uint64_t number) const { return end_ns_of_[number % ring_]; }

 private:
  static void OnComplete(void* queue);
  void Notify(bool wakes);

  const Options options_;
  const uint64_t ring_;
  const RealClock clock_;
  // By number of the piece, modulo the ring.
  std::vector<uint32_t> ids_;
  std::vector<int64_t> enqueued_ns_;
  std::vector<int64_t> end_ns_of_;              // as told
  std::vector<std::atomic<int64_t>> noted_ns_;  // by the device's thread
  // By number of the notification, modulo the ring.
  std::vector<uint64_t> notified_piece_;
  std::vector<uint8_t> notified_wakes_;
  uint64_t notified_ = 0;       // notifications enqueued
  uint64_t last_notified_ = 0;  // piece of the latest
  uint64_t taken_ = 0;
  uint64_t pushed_ = 0;
  std::atomic<uint64_t> pushed_seen_{0};  // pushed_, for the device's thread
  uint64_t completed_ = 0;                // notifications; the device's thread alone
  std::atomic<uint64_t> done_{0};         // pieces
};

}  // namespace weir

#endif  // WEIR_ENGINE_COMPLETION_QUEUE_H_
