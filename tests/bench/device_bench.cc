// Copies from pinned memory to a device, queued back to back on a copy stream, by the size of a
// copy: what share of an emulated link's rate they reach (with the cores free, and with a compute
// thread busy on each), and the rate of the GPU's link where there is a GPU.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <thread>

#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/cuda_device.h"
#include "kernels/device.h"
#include "kernels/emulated_device.h"
#include "kernels/host_memory.h"

namespace weir {
namespace {

constexpr uint64_t kBytes = 256 * kMiB;  // of either side

// One iteration copies kBytes in pieces. `begin` is called when all memory is there.
void CopyIn(benchmark::State& state, Device& device, uint64_t piece_bytes, double bytes_per_s,
            const std::function<void()>& begin) {
  auto there = device.Allocate(kBytes, 4096, Touch::kNow);
  auto here = MapHostMemory(kBytes, 4096);
  WEIR_CHECK(there.ok() && here.ok());
  TouchZeroPages((*here)->data(), kBytes);
  const auto pinned = device.Pin((*here)->data(), kBytes);
  WEIR_CHECK(pinned.ok());
  const auto stream = device.NewCopyStream();
  begin();
  for (auto iteration : state) {
    for (uint64_t at = 0; at < kBytes; at += piece_bytes) {
      stream->CopyIn((*there)->data() + at, (*here)->data() + at, piece_bytes);
    }
    stream->Wait(stream->Record());
  }
  WEIR_CHECK(stream->status().ok());
  const double bytes = static_cast<double>(kBytes) * static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  if (bytes_per_s > 0) {
    state.counters["share"] = benchmark::Counter(bytes / bytes_per_s, benchmark::Counter::kIsRate);
  }
}

void BM_EmulatedCopyIn(benchmark::State& state) {
  const bool is_busy = state.range(2) != 0;
  EmulatedDeviceOptions options;
  options.threads = std::thread::hardware_concurrency();
  options.h2d_bytes_per_s = static_cast<double>(state.range(0)) * 1e9;
  options.latency_ns = 10'000;
  options.memory_bytes = kBytes;
  auto device = MakeEmulatedDevice(options);
  WEIR_CHECK(device.ok());
  std::atomic<bool> stop{false};
  const std::atomic<bool>* const stopping = &stop;
  const auto kernels = (*device)->NewStream();
  const auto keep_busy = [&] {
    if (!is_busy) return;
    static_cast<CpuStream&>(*kernels).Launch([stopping](uint32_t, uint32_t, CpuStream&) {
      while (!stopping->load(std::memory_order_relaxed)) {
      }
    });
  };
  CopyIn(state, **device, static_cast<uint64_t>(state.range(1)) * kKiB, options.h2d_bytes_per_s,
         keep_busy);
  stop = true;
  kernels->Wait(kernels->Record());
}
BENCHMARK(BM_EmulatedCopyIn)
    ->ArgNames({"GB/s", "KiB", "busy"})
    ->ArgsProduct({{1, 2, 4}, {64, 1024, 4096}, {0, 1}})
    ->UseRealTime();

void BM_CudaCopyIn(benchmark::State& state) {
  auto device = MakeCudaDevice({.memory_bytes = kBytes});
  if (!device.ok()) {
    state.SkipWithError(std::string(device.status().message()).c_str());
    return;
  }
  CopyIn(state, **device, static_cast<uint64_t>(state.range(0)) * kKiB, 0, [] {});
}
BENCHMARK(BM_CudaCopyIn)->ArgName("KiB")->RangeMultiplier(4)->Range(64, 65536)->UseRealTime();

}  // namespace
}  // namespace weir

BENCHMARK_MAIN();
