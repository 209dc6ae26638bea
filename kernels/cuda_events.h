// The marks of a CUDA stream: sequence numbers on a bounded ring of cudaEvents, which are recycled
// in order. Private to kernels/.
#ifndef WEIR_KERNELS_CUDA_EVENTS_H_
#define WEIR_KERNELS_CUDA_EVENTS_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "kernels/cuda_state.h"

namespace weir {

// Record and EventOf: the stream's host thread. The rest: any.
class CudaEvents {
 public:
  // The state outlives it.
  explicit CudaEvents(CudaState* state) : state_(state) {}
  ~CudaEvents();
  absl::Status Init(cudaStream_t stream);

  // Marks what the stream has been given so far; numbers from 1. Blocks while the ring is full of
  // marks that have not come.
  uint64_t Record();
  uint64_t recorded() const { return recorded_.load(); }
  // Without asking the GPU: false may mean that nobody has looked yet.
  bool IsKnownComplete(uint64_t sequence) const {
    return completed_.load() >= sequence || !state_->failure.ok();
  }
  bool IsComplete(uint64_t sequence);
  // Looks for some microseconds, then sleeps.
  void Wait(uint64_t sequence);
  // Of a mark that is not known to be complete.
  cudaEvent_t EventOf(uint64_t sequence) { return SlotOf(sequence).event; }

 private:
  static constexpr uint64_t kCapacity = 1024;
  struct Slot {
    cudaEvent_t event = nullptr;
    // Threads that wait for the event, which must not be recorded again meanwhile: they would wait
    // for the new mark, and what it stands for may wait for them.
    std::atomic<uint32_t> waiters{0};
  };

  Slot& SlotOf(uint64_t sequence) { return slots_[sequence % kCapacity]; }
  void SetCompleted(uint64_t sequence);

  CudaState* const state_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<Slot[]> slots_;
  std::atomic<uint64_t> recorded_{0};
  std::atomic<uint64_t> completed_{0};  // known to be
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_EVENTS_H_
