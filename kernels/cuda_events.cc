#include "kernels/cuda_events.h"

#include <sched.h>

#include "io/base.h"
#include "io/clock.h"

namespace weir {
namespace {

// About what being woken by the driver costs.
constexpr int64_t kLookNs = 30'000;

}  // namespace

CudaEvents::~CudaEvents() {
  for (uint64_t i = 0; slots_ != nullptr && i < kCapacity; ++i) {
    // Fails only where the device has failed before.
    if (slots_[i].event != nullptr) (void)cudaEventDestroy(slots_[i].event);
  }
}

absl::Status CudaEvents::Init(cudaStream_t stream) {
  stream_ = stream;
  slots_ = std::make_unique<Slot[]>(kCapacity);
  for (uint64_t i = 0; i < kCapacity; ++i) {
    const cudaError_t error =
        cudaEventCreateWithFlags(&slots_[i].event, cudaEventDisableTiming | cudaEventBlockingSync);
    if (error != cudaSuccess) return CudaErrorStatus(error, "cudaEventCreateWithFlags");
  }
  return absl::OkStatus();
}

uint64_t CudaEvents::Record() {
  const uint64_t sequence = recorded_.load() + 1;
  Slot& slot = SlotOf(sequence);
  if (sequence > kCapacity) {
    Wait(sequence - kCapacity);
    // That mark is known to be complete now, so nobody begins to wait for it any more.
    while (slot.waiters.load() != 0) sched_yield();
  }
  state_->failure.Check(cudaEventRecord(slot.event, stream_), "cudaEventRecord");
  recorded_.store(sequence);
  return sequence;
}

bool CudaEvents::IsComplete(uint64_t sequence) {
  if (IsKnownComplete(sequence)) return true;
  state_->MakeCurrent();
  const cudaError_t error = cudaEventQuery(SlotOf(sequence).event);
  if (error == cudaErrorNotReady) {
    // Unless it was recorded again meanwhile, which says that the mark asked for has come.
    return IsKnownComplete(sequence);
  }
  if (state_->failure.Check(error, "a kernel or copy of the GPU")) SetCompleted(sequence);
  return true;
}

void CudaEvents::Wait(uint64_t sequence) {
  const RealClock clock;
  const int64_t end_ns = clock.NowNs() + kLookNs;
  do {
    if (IsComplete(sequence)) return;
  } while (clock.NowNs() < end_ns);
  Slot& slot = SlotOf(sequence);
  slot.waiters.fetch_add(1);
  // Either this sees the mark as complete, or Record sees the waiter: all is seq_cst.
  const bool waits = completed_.load() < sequence;
  const cudaError_t error = waits ? cudaEventSynchronize(slot.event) : cudaSuccess;
  slot.waiters.fetch_sub(1);
  if (state_->failure.Check(error, "a kernel or copy of the GPU")) SetCompleted(sequence);
}

void CudaEvents::SetCompleted(uint64_t sequence) {
  uint64_t before = completed_.load();
  while (before < sequence && !completed_.compare_exchange_weak(before, sequence)) {
  }
}

}  // namespace weir
