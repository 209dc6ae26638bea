#include "engine/completion_queue.h"

#include <algorithm>

#include "io/base.h"

namespace weir {

// Times are kept for longer than pieces are in flight: one begins where the one before it ended.
CompletionQueue::CompletionQueue(const Options& options)
    : options_(options),
      ring_(2 * uint64_t{options.capacity} + 1),
      ids_(ring_),
      enqueued_ns_(ring_),
      end_ns_of_(ring_),
      noted_ns_(ring_),
      notified_piece_(ring_),
      notified_wakes_(ring_) {}

void CompletionQueue::Push(uint32_t id, bool wakes, int64_t enqueued_ns) {
  WEIR_CHECK(pushed_ - taken_ < options_.capacity);
  const uint64_t number = ++pushed_;
  ids_[number % ring_] = id;
  enqueued_ns_[number % ring_] = enqueued_ns;
  // Before the notification is enqueued, so that the last piece always finds itself last.
  pushed_seen_.store(pushed_);
  const bool is_due = pushed_ - last_notified_ >= std::max(1u, options_.capacity / 2);
  if (options_.notify_each || wakes || is_due) Notify(wakes || !options_.notify_each);
}

void CompletionQueue::NotifyLast() {
  if (last_notified_ < pushed_) Notify(/*wakes=*/true);
}

void CompletionQueue::Notify(bool wakes) {
  const uint64_t at = notified_++ % ring_;
  notified_piece_[at] = last_notified_ = pushed_;
  notified_wakes_[at] = wakes ? 1 : 0;
  options_.stream->NotifyWhenComplete(&CompletionQueue::OnComplete, this);
}

void CompletionQueue::OnComplete(void* queue) {
  auto* self = static_cast<CompletionQueue*>(queue);
  const uint64_t at = self->completed_++ % self->ring_;
  const uint64_t piece = self->notified_piece_[at];
  const bool wakes = self->notified_wakes_[at] != 0;
  self->noted_ns_[piece % self->ring_].store(self->clock_.NowNs(), std::memory_order_relaxed);
  self->done_.store(piece);
  const uint64_t left = self->pushed_seen_.load() - piece;
  if (wakes || left == 0 || left == self->options_.capacity / 2) {
    self->options_.wake(self->options_.wake_argument);
  }
}

CompletionQueue::Piece CompletionQueue::Take(int64_t not_before_ns) {
  WEIR_CHECK(taken_ < pushed_);
  const uint64_t number = ++taken_;
  const uint64_t at = number % ring_;
  int64_t& end_ns = end_ns_of_[at];
  end_ns = noted_ns_[at].exchange(0, std::memory_order_relaxed);
  if (end_ns == 0) end_ns = clock_.NowNs();  // told with a later one
  const int64_t before_ns = number == 1 ? 0 : EndNs(number - 1);
  const int64_t begin_ns = std::max({enqueued_ns_[at], before_ns, not_before_ns});
  end_ns = std::max(end_ns, begin_ns);
  return {.id = ids_[at], .begin_ns = begin_ns, .end_ns = end_ns};
}

}  // namespace weir
