// Streams, events and graphs of the fake CUDA runtime.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "io/base.h"
#include "tests/cuda/fake_world.h"

// NOLINTBEGIN(readability-identifier-naming): CUDA's names

using weir::fake_cuda::CheckDevice;
using weir::fake_cuda::CurrentDevice;
using weir::fake_cuda::Enter;
using weir::fake_cuda::kQueue;
using weir::fake_cuda::Lock;
using weir::fake_cuda::Op;
using weir::fake_cuda::World;
using weir::fake_cuda::world;

void CUstream_st::Give(const Op& op, Lock* lock) {
  CheckDevice(device);
  if (op.kind != Op::kMark) after_kernel = op.kind == Op::kLaunch;
  if (captured != nullptr) {
    WEIR_CHECK(op.kind == Op::kLaunch);  // nothing else is recorded
    captured->launches.push_back(op);
    return;
  }
  world().changed.wait(*lock, [&] { return given - run < kQueue; });
  ring[given++ % kQueue] = op;
  world().changed.notify_all();
}

void CUstream_st::Work() {
  World& w = world();
  Lock lock(w.mutex);
  for (;;) {
    w.changed.wait(lock, [&] { return stopping || run < given; });
    if (run == given) return;
    const Op op = ring[run % kQueue];
    if (op.kind == Op::kWaitEvent) {
      w.changed.wait(lock, [&] { return w.sticky != cudaSuccess || op.event->done >= op.count; });
    }
    if (w.sticky == cudaSuccess && op.kind != Op::kMark && op.kind != Op::kWaitEvent) {
      lock.unlock();
      Run(op);
      lock.lock();
    }
    if (op.kind == Op::kMark) op.event->done = std::max(op.event->done, op.count);
    if (op.kind == Op::kGraph) --op.graph->runs;
    ++run;
    w.changed.notify_all();
  }
}

void CUstream_st::Run(const Op& op) {
  switch (op.kind) {
    case Op::kCopy:
      memcpy(op.to, op.from, op.bytes);
      return;
    case Op::kSet:
      memset(op.to, op.value, op.bytes);
      return;
    case Op::kLaunch:
      op.kernel->run(op.argument);
      return;
    case Op::kGraph:
      for (const Op& launch : op.graph->launches) launch.kernel->run(launch.argument);
      return;
    default:  // kWaitValue; a cyclic comparison
      while (static_cast<int32_t>(op.word->load() - static_cast<uint32_t>(op.count)) < 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
  }
}

// ---- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  FAKE_ENTER("cudaStreamCreateWithFlags");
  WEIR_CHECK(flags == cudaStreamNonBlocking);
  *stream = new CUstream_st;
  (*stream)->device = CurrentDevice();
  (*stream)->thread = std::thread(&CUstream_st::Work, *stream);
  ++w.live_objects;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    Lock lock(world().mutex);
    WEIR_CHECK(stream->is_idle());  // CUDA would go on and free it later
    stream->stopping = true;
    --world().live_objects;
    world().changed.notify_all();
  }
  stream->thread.join();
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Lock lock(world().mutex);
  CheckDevice(stream->device);
  world().changed.wait(lock, [&] { return stream->is_idle(); });
  return world().sticky;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  FAKE_ENTER("cudaStreamWaitEvent");
  Op op;
  op.kind = Op::kWaitEvent;
  op.event = event;
  op.count = event->recorded;
  stream->Give(op, &lock);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  FAKE_ENTER("cudaEventCreateWithFlags");
  *event = new CUevent_st;
  (*event)->device = CurrentDevice();
  ++w.live_objects;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Lock lock(world().mutex);
  --world().live_objects;
  delete event;
  return world().sticky;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  FAKE_ENTER("cudaEventRecord");
  CheckDevice(event->device);
  Op op;
  op.kind = Op::kMark;
  op.event = event;
  op.count = ++event->recorded;
  stream->Give(op, &lock);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  FAKE_ENTER("cudaEventQuery");
  CheckDevice(event->device);
  return event->is_complete() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  FAKE_ENTER("cudaEventSynchronize");
  CheckDevice(event->device);
  const auto is_over = [&] { return w.sticky != cudaSuccess || event->is_complete(); };
  w.changed.wait(lock, is_over);
  if (w.wake_up_ms > 0) {
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::milliseconds(w.wake_up_ms));
    lock.lock();
    w.changed.wait(lock, is_over);
  }
  return w.sticky;
}

// ---- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  FAKE_ENTER("cudaStreamBeginCapture");
  // The other modes forbid calls that other threads make meanwhile.
  WEIR_CHECK(mode == cudaStreamCaptureModeRelaxed && stream->captured == nullptr);
  CheckDevice(stream->device);
  stream->captured = new CUgraph_st;
  stream->after_kernel = false;
  ++w.live_objects;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  World& w = world();
  Lock lock(w.mutex);
  WEIR_CHECK(stream->captured != nullptr);
  *graph = stream->captured;
  stream->captured = nullptr;  // whatever happens
  stream->after_kernel = false;
  cudaError_t error;
  if (Enter("cudaStreamEndCapture", &error)) return cudaSuccess;
  delete *graph;
  *graph = nullptr;
  --w.live_objects;
  return error;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* graph, cudaGraph_t recorded,
                                          unsigned long long) {
  FAKE_ENTER("cudaGraphInstantiateWithFlags");
  *graph = new CUgraphExec_st{.device = CurrentDevice(), .launches = recorded->launches};
  ++w.live_objects;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  FAKE_ENTER("cudaGraphLaunch");
  CheckDevice(graph->device);
  Op op = {.kind = Op::kGraph};
  op.graph = graph;
  ++graph->runs;
  ++w.graph_runs;
  stream->Give(op, &lock);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Lock lock(world().mutex);
  --world().live_objects;
  delete graph;
  return world().sticky;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  Lock lock(world().mutex);
  CheckDevice(graph->device);
  WEIR_CHECK(graph->runs == 0);
  --world().live_objects;
  delete graph;
  return world().sticky;
}

// NOLINTEND(readability-identifier-naming)
