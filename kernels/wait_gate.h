// Waiting for a condition on atomics: spin briefly, then park in the kernel. The condition's own
// atomics stay with the caller; the gate only knows who sleeps.
#ifndef WEIR_KERNELS_WAIT_GATE_H_
#define WEIR_KERNELS_WAIT_GATE_H_

#include <immintrin.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace weir {

// Any number of waiters and wakers. The rule that makes it free of lost wake-ups: every atomic that
// a condition reads is read and written with memory_order_seq_cst, and WakeAll is called after the
// write. Then either the waker sees the waiter counted, or the waiter's last look sees the write.
class WaitGate {
 public:
  WaitGate() = default;
  WaitGate(const WaitGate&) = delete;
  WaitGate& operator=(const WaitGate&) = delete;

  // Blocks until `condition()`; it is called many times and must be cheap. Spins for about
  // `spin_ns` before the thread gives its core away. It sleeps then: a thread that yields instead
  // keeps its place behind every busy one, and beside other programs the work stands still
  // (docs/performance.md).
  template <typename Condition>
  void Wait(const Condition& condition, int64_t spin_ns) {
    if (condition() || Spin(condition, spin_ns)) return;
    waiters_.fetch_add(1);
    for (;;) {
      const uint32_t epoch = epoch_.load();
      if (condition()) break;
      Park(epoch);
    }
    waiters_.fetch_sub(1);
  }

  // Costs one load when nobody sleeps.
  void WakeAll() {
    if (waiters_.load() == 0) return;
    epoch_.fetch_add(1);
    WakeParked();
  }

 private:
  template <typename Condition>
  static bool Spin(const Condition& condition, int64_t spin_ns) {
    if (spin_ns <= 0) return false;
    const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(spin_ns);
    do {
      // A pause is 40 to 140 cycles: reading the clock once in 16 keeps it off the fast path.
      for (int i = 0; i < 16; ++i) {
        _mm_pause();
        if (condition()) return true;
      }
    } while (std::chrono::steady_clock::now() < end);
    return false;
  }

  // Sleeps while epoch_ == epoch; may return early.
  void Park(uint32_t epoch);
  void WakeParked();

  std::atomic<uint32_t> epoch_{0};  // the futex word
  std::atomic<uint32_t> waiters_{0};
};

}  // namespace weir

#endif  // WEIR_KERNELS_WAIT_GATE_H_
