#include "kernels/cuda_graph.h"

namespace weir {

std::unique_ptr<CudaGraph> CudaGraph::Record(CudaState* state, cudaStream_t stream,
                                             absl::FunctionRef<void()> enqueue) {
  CudaFailure& failure = state->failure;
  // Relaxed: watchers and other streams' threads go on as they are.
  if (!failure.Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed),
                     "cudaStreamBeginCapture")) {
    return nullptr;
  }
  enqueue();
  cudaGraph_t recorded = nullptr;
  // Ends the capture in any case, so that the stream can be destroyed.
  const bool ended = failure.Check(cudaStreamEndCapture(stream, &recorded), "cudaStreamEndCapture");
  cudaGraphExec_t graph = nullptr;
  const bool made = ended && failure.Check(cudaGraphInstantiateWithFlags(&graph, recorded, 0),
                                           "cudaGraphInstantiateWithFlags");
  if (recorded != nullptr) (void)cudaGraphDestroy(recorded);  // it was copied
  if (!made) return nullptr;
  return std::unique_ptr<CudaGraph>(new CudaGraph(state, graph));
}

CudaGraph::~CudaGraph() {
  state_->MakeCurrent();
  (void)cudaGraphExecDestroy(graph_);  // fails only after other failures
}

void CudaGraph::Run(cudaStream_t stream) const {
  state_->failure.Check(cudaGraphLaunch(graph_, stream), "cudaGraphLaunch");
}

}  // namespace weir
