// A CUDA runtime without a GPU, for the host's side of the CUDA device (kernels/cuda_*.cc): streams
// are threads that work off their queues, device memory is ordinary memory, kernels are functions
// of the host. It is as unkind as CUDA may be: copies of memory that is not pinned block the
// caller, new memory holds garbage, waiting for an event that is recorded again waits for the new
// mark too. What CUDA leaves undefined or reports as an error of the caller ends the program.
//
// There are two devices, so that a call that forgets to make its own current is noticed.
#ifndef WEIR_TESTS_CUDA_FAKE_RUNTIME_H_
#define WEIR_TESTS_CUDA_FAKE_RUNTIME_H_

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>

#include "kernels/cuda_stream.h"

namespace weir::fake_cuda {

inline constexpr uint64_t kTotalBytes = uint64_t{1} << 30;  // of each device
inline constexpr int kRuntimeVersion = 13000;

// How the machine is. Reset puts all back; no device or stream may be left.
void Reset();
void SetDriverVersion(int version);  // 0: no driver; below kRuntimeVersion: too old
void SetDeviceCount(int count);
void SetKernelsFit(bool fit);                        // whether the program's kernels run on the GPU
void FailNext(const char* call, cudaError_t error);  // of the calls that name themselves in Enter
// How long a thread that waited for an event takes to look at it again.
void SetWakeUpMs(int milliseconds);
uint64_t used_bytes();      // of all devices
uint64_t early_launches();  // of all kernels, since the program began
uint64_t graph_runs();      // since the program began
uint64_t live_objects();    // streams, events, pinned ranges, allocations, graphs

// A kernel: `run` is called once with a copy of the argument.
struct Kernel {
  void (*run)(const void* argument);
  uint64_t argument_bytes;  // at most 64
};
// Enqueues it as kernels/cuda_launch.h does, as one that may begin early. The kernel outlives its
// run.
void Launch(CudaStream& stream, const Kernel& kernel, const void* argument);
// Enqueues one that runs until `*gate` is not 0.
void LaunchHold(CudaStream& stream, const std::atomic<uint32_t>* gate);
// What a kernel calls to fail: everything enqueued and every call fails from then on.
void FailSticky();

}  // namespace weir::fake_cuda

#endif  // WEIR_TESTS_CUDA_FAKE_RUNTIME_H_
