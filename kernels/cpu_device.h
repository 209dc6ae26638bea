// The CPU as an asynchronous device: kernels run in order on the device's own team of worker
// threads; the host thread only enqueues.
//
// One team, one ring: the kernels of all streams of a device run one after the other in the order
// in which they were enqueued, each on every worker. So each stream is in order, streams are
// ordered more strictly than they asked for, and a notification of one stream may wait for kernels
// that another enqueued before. A stream is used by one host thread at a time (IsComplete by any);
// different streams by different threads. Workers must not enqueue, wait or allocate.
//
// An idle worker spins for some 50 microseconds and then sleeps. With more workers than cores
// nobody spins; CpuDeviceOptions::other_threads counts workers of other devices too.
//
// WaitFor occupies the team: until the other device's event has come, no stream of this device
// runs.
#ifndef WEIR_KERNELS_CPU_DEVICE_H_
#define WEIR_KERNELS_CPU_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/entry_times.h"
#include "kernels/work_ranges.h"

namespace weir {

struct CpuDeviceOptions {
  uint32_t threads = 1;  // workers; at least 1
  // Dispatch target for kernels by Highway's name ("AVX2", "AVX3", "AVX3_DL"), or empty for the
  // best this CPU has. One that the CPU lacks is refused. The choice is the process's
  // (kernels/isa.h): the latest device made decides for all, so make devices before kernels run.
  std::string isa = {};
  uint32_t queue_capacity =
      4096;  // kernels enqueued and not yet run; enqueuing more blocks the host
  // Busy threads of the process beside these workers, such as those of an emulated accelerator.
  uint32_t other_threads = 0;
  // Where the kernels' times are added up; outlives the device, and is no other team's. Null: no
  // clock is read.
  EntryTimes* times = nullptr;
};

// FailedPrecondition when the CPU lacks AVX2, FMA or F16C; InvalidArgument for a bad option;
// ResourceExhausted when a thread or the scratch memory cannot be had.
absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const CpuDeviceOptions& options);

// What kernels see of a CPU stream.
class CpuStream : public Stream {
 public:
  static constexpr size_t kMaxKernelBytes = 192;

  DeviceKind kind() const final { return DeviceKind::kCpu; }
  virtual uint32_t threads() const = 0;
  // Scratch memory of one worker, for a kernel's temporary tiles. kScratchBytes long, 64-byte
  // aligned, allocated with the device.
  static constexpr uint64_t kScratchBytes = 512 * kKiB;
  virtual uint8_t* scratch(uint32_t worker) = 0;
  // For kernels with phases: returns when every worker of the running kernel has called it as
  // often. Each worker of the team must call it; what any wrote before, all may read after.
  virtual void Barrier() = 0;
  // For kernels whose items any worker may do: of the kernel that runs.
  virtual WorkRanges& ranges() = 0;
  // What is enqueued here from now on is timed under this label (CpuDeviceOptions::times), but for
  // copies, notifications and WaitFor. Without times it means nothing.
  virtual void SetLabel(uint32_t label) = 0;

  // Enqueues `kernel(worker, workers, stream)`: run by every worker of the team, next kernel only
  // after all returned. `kernel` is copied into a bounded ring (trivially copyable, at most
  // kMaxKernelBytes): nothing is allocated.
  template <typename Kernel>
  void Launch(const Kernel& kernel) {
    static_assert(std::is_trivially_copyable_v<Kernel> && sizeof(Kernel) <= kMaxKernelBytes);
    Enqueue([](const void* k, uint32_t worker, uint32_t workers,
               CpuStream& stream) { (*static_cast<const Kernel*>(k))(worker, workers, stream); },
            &kernel, sizeof(Kernel));
  }

 protected:
  using KernelFn = void (*)(const void* kernel, uint32_t worker, uint32_t workers,
                            CpuStream& stream);
  virtual void Enqueue(KernelFn fn, const void* kernel, size_t kernel_bytes) = 0;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_DEVICE_H_
