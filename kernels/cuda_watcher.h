// The thread of a CUDA stream that calls notifications when their marks have come. Private to
// kernels/.
#ifndef WEIR_KERNELS_CUDA_WATCHER_H_
#define WEIR_KERNELS_CUDA_WATCHER_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/cuda_events.h"
#include "kernels/wait_gate.h"

namespace weir {

class CudaWatcher {
 public:
  // The events outlive it. Start, and no Notify unless it went well.
  explicit CudaWatcher(CudaEvents* events) : events_(events), ring_(kCapacity) {}
  ~CudaWatcher();  // after the last notification
  absl::Status Start();

  // Calls `notify(argument)` when mark `sequence` has come, in order. Blocks while kCapacity
  // notifications are outstanding. The stream's host thread.
  void Notify(uint64_t sequence, void (*notify)(void*), void* argument);

 private:
  static constexpr uint64_t kCapacity = 4096;
  struct Entry {
    uint64_t sequence;
    void (*notify)(void*);
    void* argument;
  };

  static void* ThreadMain(void* watcher);
  void Watch();

  CudaEvents* const events_;
  std::vector<Entry> ring_;  // entry number n lies at n % kCapacity
  pthread_t thread_;
  bool is_started_ = false;
  std::atomic<bool> stopping_{false};
  alignas(64) std::atomic<uint64_t> published_{0};
  alignas(64) std::atomic<uint64_t> notified_{0};
  WaitGate work_gate_;
  WaitGate room_gate_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_WATCHER_H_
