// What the parts of the fake CUDA runtime (fake_runtime.h) share: its state, and what stands behind
// CUDA's handles.
#ifndef WEIR_TESTS_CUDA_FAKE_WORLD_H_
#define WEIR_TESTS_CUDA_FAKE_WORLD_H_

#include <cuda_runtime_api.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/cuda/fake_runtime.h"

// NOLINTBEGIN(readability-identifier-naming): CUDA's names

namespace weir::fake_cuda {

inline constexpr size_t kQueue = 8192;

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

World& world();
using Lock = std::unique_lock<std::mutex>;

// Every call begins so: with the lock, and false when it is to return `*error`.
bool Enter(const char* call, cudaError_t* error);
#define FAKE_ENTER(call) \
  World& w = world();    \
  Lock lock(w.mutex);    \
  cudaError_t error;     \
  if (!Enter(call, &error)) return error

// The calling thread's.
int CurrentDevice();
void SetCurrentDevice(int device);
// Ends the program unless it is the thread's.
void CheckDevice(int device);

}  // namespace weir::fake_cuda

struct CUevent_st {
  int device = 0;
  uint64_t recorded = 0;
  uint64_t done = 0;
  bool is_complete() const { return done >= recorded; }
};

struct CUgraph_st {
  std::vector<weir::fake_cuda::Op> launches;
};

struct CUgraphExec_st {
  int device = 0;
  std::vector<weir::fake_cuda::Op> launches;
  mutable uint32_t runs = 0;  // given and not over
};

struct CUstream_st {
  int device = 0;
  CUgraph_st* captured = nullptr;  // what goes there instead of running
  std::vector<weir::fake_cuda::Op> ring = std::vector<weir::fake_cuda::Op>(weir::fake_cuda::kQueue);
  uint64_t given = 0;
  uint64_t run = 0;
  bool stopping = false;
  bool after_kernel = false;  // given last, marks aside
  std::thread thread;

  bool is_idle() const { return run == given; }
  void Give(const weir::fake_cuda::Op& op, weir::fake_cuda::Lock* lock);
  void Work();
  void Run(const weir::fake_cuda::Op& op);
};

// NOLINTEND(readability-identifier-naming)

#endif  // WEIR_TESTS_CUDA_FAKE_WORLD_H_
