// How a CUDA stream waits for work of other devices: for words in pinned host memory, which their
// notifications raise. Private to kernels/.
#ifndef WEIR_KERNELS_CUDA_MAILBOX_H_
#define WEIR_KERNELS_CUDA_MAILBOX_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "kernels/cuda_state.h"
#include "kernels/device.h"

namespace weir {

// Of one stream; used by its host thread.
class CudaMailbox {
 public:
  // The state outlives it.
  explicit CudaMailbox(CudaState* state) : state_(state) {}
  // After all that waited has run: then every word was raised, though perhaps by threads that have
  // not left the mailbox yet.
  ~CudaMailbox();
  absl::Status Init();

  // What `stream` is given from now on begins when all that was enqueued on `other` so far has run.
  // Blocks while kCapacity waits are outstanding.
  void Wait(cudaStream_t stream, Stream& other);

 private:
  static constexpr uint32_t kCapacity = 256;
  // What a notification is given: the word it raises, and to what.
  struct Letter {
    CudaMailbox* mailbox = nullptr;
    std::atomic<uint32_t>* word = nullptr;
    uint32_t value = 0;
  };

  static void Raise(void* letter);

  CudaState* const state_;
  std::atomic<uint32_t>* words_ = nullptr;  // [kCapacity], pinned: the GPU reads them
  CUdeviceptr device_words_ = 0;            // the same as the GPU sees them
  std::unique_ptr<Letter[]> letters_;       // wait number n uses word and letter n % kCapacity
  uint64_t issued_ = 0;
  std::atomic<uint64_t> raised_{0};
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_MAILBOX_H_
