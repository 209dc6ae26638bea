#include "tests/cuda/fake_runtime.h"

#include <cudaTypedefs.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "io/base.h"

// NOLINTBEGIN(readability-identifier-naming): CUDA's names

namespace {

using weir::fake_cuda::Kernel;

constexpr size_t kQueue = 8192;

// Something to do for a stream.
struct Op {
  enum Kind { kCopy, kSet, kLaunch, kGraph, kMark, kWaitEvent, kWaitValue };
  Kind kind = kCopy;
  void* to = nullptr;
  const void* from = nullptr;
  size_t bytes = 0;
  int value = 0;
  const Kernel* kernel = nullptr;
  const CUgraphExec_st* graph = nullptr;
  uint8_t argument[64] = {};
  CUevent_st* event = nullptr;
  uint64_t count = 0;  // which record of the event
  const std::atomic<uint32_t>* word = nullptr;
};

struct World {
  std::mutex mutex;
  std::condition_variable changed;  // of anything below
  int driver_version = weir::fake_cuda::kRuntimeVersion;
  int device_count = 2;
  bool kernels_fit = true;
  int wake_up_ms = 0;
  std::string fail_call;
  cudaError_t fail_error = cudaSuccess;
  cudaError_t sticky = cudaSuccess;
  std::map<void*, std::pair<size_t, int>> allocations;  // bytes and device
  std::map<char*, size_t> pinned;                       // bytes by begin
  uint64_t used_bytes = 0;
  uint64_t live_objects = 0;
  uint64_t early_launches = 0;
  uint64_t graph_runs = 0;
};

World& world() {
  static World* const kWorld = new World;
  return *kWorld;
}

thread_local int current_device = 0;

using Lock = std::unique_lock<std::mutex>;

// Every call begins so: with the lock, and false when it is to return `*error`.
bool Enter(const char* call, cudaError_t* error) {
  World& w = world();
  *error = w.sticky;
  if (w.fail_call == call) {
    *error = w.fail_error;
    w.fail_call.clear();
  }
  return *error == cudaSuccess;
}

void CheckDevice(int device) {
  if (device == current_device) return;
  fprintf(stderr, "fake CUDA: device %d is current, the object is of %d\n", current_device, device);
  abort();
}

// In part pinned, or in two ranges, is neither.
bool IsPinned(const void* begin, size_t bytes) {
  const char* const data = static_cast<const char*>(begin);
  for (const auto& [start, length] : world().pinned) {
    if (data >= start && data + bytes <= start + length) return true;
    WEIR_CHECK(data >= start + length || data + bytes <= start);
  }
  return false;
}

void CheckOnDevice(const void* begin, size_t bytes) {
  const char* const data = static_cast<const char*>(begin);
  for (const auto& [start, allocation] : world().allocations) {
    const char* const first = static_cast<const char*>(start);
    if (data >= first && data + bytes <= first + allocation.first) return;
  }
  fprintf(stderr, "fake CUDA: %p is not the device's\n", begin);
  abort();
}

}  // namespace

struct CUevent_st {
  int device = 0;
  uint64_t recorded = 0;
  uint64_t done = 0;
  bool is_complete() const { return done >= recorded; }
};

struct CUgraph_st {
  std::vector<Op> launches;
};

struct CUgraphExec_st {
  int device = 0;
  std::vector<Op> launches;
  mutable uint32_t runs = 0;  // given and not over
};

struct CUstream_st {
  int device = 0;
  CUgraph_st* captured = nullptr;  // what goes there instead of running
  std::vector<Op> ring = std::vector<Op>(kQueue);
  uint64_t given = 0;
  uint64_t run = 0;
  bool stopping = false;
  bool after_kernel = false;  // given last, marks aside
  std::thread thread;

  bool is_idle() const { return run == given; }
  void Give(const Op& op, Lock* lock) {
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
  void Work();
  void Run(const Op& op);
};

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

// ---- what tests set

namespace weir::fake_cuda {

void Reset() {
  World& w = world();
  const Lock lock(w.mutex);
  WEIR_CHECK(w.live_objects == 0);
  w.driver_version = kRuntimeVersion;
  w.device_count = 2;
  w.kernels_fit = true;
  w.wake_up_ms = 0;
  w.fail_call.clear();
  w.sticky = cudaSuccess;
}
void SetDriverVersion(int version) { world().driver_version = version; }
void SetDeviceCount(int count) { world().device_count = count; }
void SetKernelsFit(bool fit) { world().kernels_fit = fit; }
void SetWakeUpMs(int milliseconds) {
  const Lock lock(world().mutex);
  world().wake_up_ms = milliseconds;
}
void FailNext(const char* call, cudaError_t error) {
  const Lock lock(world().mutex);
  world().fail_call = call;
  world().fail_error = error;
}
uint64_t used_bytes() {
  const Lock lock(world().mutex);
  return world().used_bytes;
}
uint64_t early_launches() { return world().early_launches; }
uint64_t graph_runs() { return world().graph_runs; }
uint64_t live_objects() {
  const Lock lock(world().mutex);
  return world().live_objects;
}
void Launch(CudaStream& stream, const Kernel& kernel, const void* argument) {
  stream.Launch({&kernel, argument, nullptr, static_cast<uint32_t>(kernel.argument_bytes)},
                {.threads = 32, .early = true});
}
void LaunchHold(CudaStream& stream, const std::atomic<uint32_t>* gate) {
  static constexpr Kernel kHold = {
      [](const void* argument) {
        const auto* closed = *static_cast<const std::atomic<uint32_t>* const*>(argument);
        while (closed->load() == 0) std::this_thread::yield();
      },
      sizeof(void*)};  // the argument is where the gate is
  Launch(stream, kHold, &gate);
}
void FailSticky() {
  const Lock lock(world().mutex);
  world().sticky = cudaErrorIllegalAddress;
  world().changed.notify_all();
}

}  // namespace weir::fake_cuda

// ---- CUDA: the device

#define FAKE_ENTER(call) \
  World& w = world();    \
  Lock lock(w.mutex);    \
  cudaError_t error;     \
  if (!Enter(call, &error)) return error

const char* cudaGetErrorString(cudaError_t) { return "a fake error"; }
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    default:
      return "another error";
  }
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) {
  *version = world().driver_version;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = weir::fake_cuda::kRuntimeVersion;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  FAKE_ENTER("cudaGetDeviceCount");
  if (w.driver_version < weir::fake_cuda::kRuntimeVersion) return cudaErrorInsufficientDriver;
  *count = w.device_count;
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  FAKE_ENTER("cudaSetDevice");
  WEIR_CHECK(device >= 0 && device < w.device_count);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  FAKE_ENTER("cudaGetDeviceProperties");
  *properties = {"Fake GPU", 9, 0, 132};
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* bus_id, int length, int) {
  snprintf(bus_id, static_cast<size_t>(length), "0000:1b:00.0");
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  FAKE_ENTER("cudaMemGetInfo");
  *total_bytes = weir::fake_cuda::kTotalBytes;
  *free_bytes = *total_bytes - w.used_bytes;
  return cudaSuccess;
}

static CUresult WaitValue(cudaStream_t stream, CUdeviceptr address, uint32_t value, unsigned) {
  Lock lock(world().mutex);
  if (world().sticky != cudaSuccess) return static_cast<CUresult>(world().sticky);
  Op op;
  op.kind = Op::kWaitValue;
  op.word = reinterpret_cast<const std::atomic<uint32_t>*>(address);
  op.count = value;
  stream->Give(op, &lock);
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  WEIR_CHECK(std::string(symbol) == "cuStreamWaitValue32");
  *function = reinterpret_cast<void*>(&WaitValue);
  *found = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

// ---- kernels

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  FAKE_ENTER("cudaFuncGetAttributes");
  *attributes = {.ptxVersion = 90};
  return w.kernels_fit ? cudaSuccess : cudaErrorNoKernelImageForDevice;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel,
                                void** arguments) {
  FAKE_ENTER("cudaLaunchKernelExC");
  WEIR_CHECK(config->gridDim.x * config->gridDim.y > 0 && config->blockDim.x % 32 == 0);
  WEIR_CHECK(config->numAttrs == 0 || config->stream->after_kernel);
  w.early_launches += config->numAttrs;
  Op op = {.kind = Op::kLaunch, .kernel = static_cast<const Kernel*>(kernel)};
  WEIR_CHECK(op.kernel->argument_bytes <= sizeof(op.argument));
  if (op.kernel->argument_bytes > 0) memcpy(op.argument, arguments[0], op.kernel->argument_bytes);
  config->stream->Give(op, &lock);
  return cudaSuccess;
}

// ---- memory

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  FAKE_ENTER("cudaMalloc");
  if (bytes > weir::fake_cuda::kTotalBytes - w.used_bytes) return cudaErrorMemoryAllocation;
  const size_t size = weir::AlignUp(bytes, 256);
  *memory = aligned_alloc(256, size);
  memset(*memory, 0xcd, size);
  w.allocations[*memory] = {bytes, current_device};
  w.used_bytes += bytes;
  ++w.live_objects;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  Lock lock(world().mutex);
  const auto found = world().allocations.find(memory);
  WEIR_CHECK(found != world().allocations.end());
  world().used_bytes -= found->second.first;
  world().allocations.erase(found);
  --world().live_objects;
  free(memory);
  return world().sticky;
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  FAKE_ENTER("cudaHostAlloc");
  *memory = aligned_alloc(4096, weir::AlignUp(bytes, 4096));
  w.pinned[static_cast<char*>(*memory)] = bytes;
  ++w.live_objects;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  cudaHostUnregister(memory);
  free(memory);
  return cudaSuccess;
}
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  *device = host;
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* memory, size_t bytes, unsigned) {
  FAKE_ENTER("cudaHostRegister");
  WEIR_CHECK(bytes > 0);
  char* const begin = static_cast<char*>(memory);
  for (const auto& [start, length] : w.pinned) {
    if (begin < start + length && start < begin + bytes) {
      return cudaErrorHostMemoryAlreadyRegistered;
    }
  }
  w.pinned[begin] = bytes;
  ++w.live_objects;
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* memory) {
  Lock lock(world().mutex);
  WEIR_CHECK(world().pinned.erase(static_cast<char*>(memory)) == 1);
  --world().live_objects;
  return world().sticky;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  FAKE_ENTER("cudaMemcpyAsync");
  const void* const host = kind == cudaMemcpyHostToDevice ? from : to;
  CheckOnDevice(kind == cudaMemcpyHostToDevice ? to : from, bytes);
  Op op;
  op.kind = Op::kCopy;
  op.to = to;
  op.from = from;
  op.bytes = bytes;
  stream->Give(op, &lock);
  if (!IsPinned(host, bytes)) w.changed.wait(lock, [&] { return stream->is_idle(); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  FAKE_ENTER("cudaMemsetAsync");
  CheckOnDevice(memory, bytes);
  Op op;
  op.kind = Op::kSet;
  op.to = memory;
  op.value = value;
  op.bytes = bytes;
  stream->Give(op, &lock);
  return cudaSuccess;
}

// ---- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  FAKE_ENTER("cudaStreamCreateWithFlags");
  WEIR_CHECK(flags == cudaStreamNonBlocking);
  *stream = new CUstream_st;
  (*stream)->device = current_device;
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
  (*event)->device = current_device;
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
  *graph = new CUgraphExec_st{.device = current_device, .launches = recorded->launches};
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
