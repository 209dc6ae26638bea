// A stream of a CUDA device, for kernels and copies or for copies alone. Private to kernels/.
#ifndef WEIR_KERNELS_CUDA_DEVICE_STREAM_H_
#define WEIR_KERNELS_CUDA_DEVICE_STREAM_H_

#include <cublas_v2.h>

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda_events.h"
#include "kernels/cuda_mailbox.h"
#include "kernels/cuda_state.h"
#include "kernels/cuda_stream.h"
#include "kernels/cuda_watcher.h"
#include "kernels/device.h"

namespace weir {

class CudaDeviceStream final : public CudaStream {
 public:
  // The state outlives the stream. `memory`, on the GPU, is for a stream of kernels: kCudaBlasBytes
  // for cuBLAS and the rest for ops; null for a stream of copies; an error is passed on as the
  // stream's status.
  CudaDeviceStream(CudaState* state, absl::StatusOr<std::unique_ptr<Buffer>> memory);
  ~CudaDeviceStream() override;

  absl::Status status() const override;
  Event Record() override;
  bool IsComplete(Event event) const override;
  void Wait(Event event) override;
  void NotifyWhenComplete(void (*notify)(void*), void* argument) override;
  void WaitFor(Stream& other, Event event) override;
  void CopyIn(uint8_t* device, const uint8_t* host, uint64_t bytes) override;
  void CopyOut(uint8_t* host, const uint8_t* device, uint64_t bytes) override;
  bool has_graphs() const override { return memory_ != nullptr; }
  std::unique_ptr<Graph> RecordGraph(absl::FunctionRef<void()> enqueue) override;
  void RunGraph(const Graph& graph) override;

  const CudaOps& ops() const override;
  uint8_t* scratch() override;
  uint64_t scratch_bytes() const override;
  uint32_t multiprocessors() const override { return state_->multiprocessors; }
  void Launch(const KernelCall& call, const LaunchShape& shape) override;
  void Gemm(const GemmArgs& args) override;

 private:
  absl::Status Init();
  // False when nothing can be enqueued any more. Else the GPU is the thread's current one, and
  // something is about to be enqueued that no mark covers yet.
  bool BeginEnqueue();
  void Copy(void* to, const void* from, uint64_t bytes, cudaMemcpyKind kind);

  CudaState* const state_;
  std::unique_ptr<Buffer> memory_;
  absl::Status made_;  // whether the stream could be made
  cudaStream_t stream_ = nullptr;
  cublasHandle_t blas_ = nullptr;
  bool is_marked_ = true;      // the latest mark covers all that was enqueued
  bool after_kernel_ = false;  // what was enqueued last is a kernel
  bool is_recording_ = false;  // what is enqueued goes into a graph
  // In the order in which one needs the other.
  std::unique_ptr<CudaEvents> events_;
  std::unique_ptr<CudaMailbox> mailbox_;
  std::unique_ptr<CudaWatcher> watcher_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DEVICE_STREAM_H_
