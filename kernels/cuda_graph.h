// A CUDA graph: what a stream was given while it was captured. Private to kernels/.
#ifndef WEIR_KERNELS_CUDA_GRAPH_H_
#define WEIR_KERNELS_CUDA_GRAPH_H_

#include <memory>

#include "absl/functional/function_ref.h"
#include "kernels/cuda_state.h"
#include "kernels/device.h"

namespace weir {

class CudaGraph final : public Graph {
 public:
  // Captures what `enqueue` gives `stream`. The state, whose GPU is the thread's current one,
  // outlives the graph. Null after a failure, which the state then has.
  static std::unique_ptr<CudaGraph> Record(CudaState* state, cudaStream_t stream,
                                           absl::FunctionRef<void()> enqueue);
  ~CudaGraph() override;

  // Enqueues one run. The GPU is the thread's current one.
  void Run(cudaStream_t stream) const;

 private:
  CudaGraph(CudaState* state, cudaGraphExec_t graph) : state_(state), graph_(graph) {}

  CudaState* const state_;
  const cudaGraphExec_t graph_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_GRAPH_H_
