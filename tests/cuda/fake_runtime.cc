#include "tests/cuda/fake_runtime.h"

#include <cudaTypedefs.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "io/base.h"
#include "tests/cuda/fake_world.h"

// NOLINTBEGIN(readability-identifier-naming): CUDA's names

namespace weir::fake_cuda {

World& world() {
  static World* const kWorld = new World;
  return *kWorld;
}

bool Enter(const char* call, cudaError_t* error) {
  World& w = world();
  *error = w.sticky;
  if (w.fail_call == call) {
    *error = w.fail_error;
    w.fail_call.clear();
  }
  return *error == cudaSuccess;
}

namespace {
thread_local int current_device = 0;
}
int CurrentDevice() { return current_device; }
void SetCurrentDevice(int device) { current_device = device; }
void CheckDevice(int device) {
  if (device == current_device) return;
  fprintf(stderr, "fake CUDA: device %d is current, the object is of %d\n", current_device, device);
  abort();
}

}  // namespace weir::fake_cuda

using weir::fake_cuda::CurrentDevice;
using weir::fake_cuda::Enter;
using weir::fake_cuda::Kernel;
using weir::fake_cuda::Lock;
using weir::fake_cuda::Op;
using weir::fake_cuda::SetCurrentDevice;
using weir::fake_cuda::World;
using weir::fake_cuda::world;

namespace {

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
  *device = CurrentDevice();
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  FAKE_ENTER("cudaSetDevice");
  WEIR_CHECK(device >= 0 && device < w.device_count);
  SetCurrentDevice(device);
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
  w.allocations[*memory] = {bytes, CurrentDevice()};
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

// NOLINTEND(readability-identifier-naming)
