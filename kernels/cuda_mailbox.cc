#include "kernels/cuda_mailbox.h"

#include <sched.h>

#include <new>

#include "io/base.h"
#include "io/clock.h"
#include "kernels/device_thread.h"

namespace weir {
namespace {

constexpr int64_t kPollNs = 50'000;

}  // namespace

CudaMailbox::~CudaMailbox() {
  while (raised_.load() != issued_) sched_yield();
  if (words_ != nullptr) (void)cudaFreeHost(words_);  // fails only where the device has failed
}

absl::Status CudaMailbox::Init() {
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t) &&
                    std::atomic<uint32_t>::is_always_lock_free,
                "the GPU reads the atomics themselves");
  void* memory = nullptr;
  cudaError_t error = cudaHostAlloc(&memory, kCapacity * sizeof(uint32_t),
                                    cudaHostAllocPortable | cudaHostAllocMapped);
  if (error != cudaSuccess) return CudaErrorStatus(error, "cudaHostAlloc");
  words_ = static_cast<std::atomic<uint32_t>*>(memory);
  letters_ = std::make_unique<Letter[]>(kCapacity);
  for (uint32_t i = 0; i < kCapacity; ++i) {
    letters_[i] = {this, new (words_ + i) std::atomic<uint32_t>(0), 0};
  }
  void* device = nullptr;
  error = cudaHostGetDevicePointer(&device, memory, 0);
  if (error != cudaSuccess) return CudaErrorStatus(error, "cudaHostGetDevicePointer");
  device_words_ = reinterpret_cast<CUdeviceptr>(device);
  return absl::OkStatus();
}

void CudaMailbox::Wait(cudaStream_t stream, Stream& other) {
  const uint64_t slot = issued_ % kCapacity;
  Letter& letter = letters_[slot];
  // Raised by the notification before: after that it does not look at its letter any more. That the
  // stream may not have seen the word yet does no harm, since words only grow.
  while (letter.word->load() != letter.value) SleepUntil(RealClock().NowNs() + kPollNs);
  ++letter.value;
  const CUresult result = state_->wait_value(stream, device_words_ + slot * sizeof(uint32_t),
                                             letter.value, CU_STREAM_WAIT_VALUE_GEQ);
  // The driver's error numbers are the runtime's.
  if (!state_->failure.Check(static_cast<cudaError_t>(result), "cuStreamWaitValue32")) {
    letter.word->store(letter.value);
    return;
  }
  ++issued_;
  other.NotifyWhenComplete(&CudaMailbox::Raise, &letter);
}

void CudaMailbox::Raise(void* letter) {
  const Letter own = *static_cast<const Letter*>(letter);
  own.word->store(own.value);
  own.mailbox->raised_.fetch_add(1);
}

}  // namespace weir
