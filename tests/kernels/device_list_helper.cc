// The devices that the contract's tests run on in this program. tests/cuda/ has another list.
#include "kernels/cpu_device.h"
#include "kernels/cuda_device.h"
#include "kernels/cuda_stream.h"
#include "kernels/emulated_device.h"
#include "tests/kernels/device_helper.h"

namespace weir {
namespace {

DeviceUnderTest CpuUnderTest(const char* name, uint32_t threads, uint32_t queue_capacity) {
  return {.name = name,
          .make =
              [=] {
                CpuDeviceOptions options;
                options.threads = threads;
                options.queue_capacity = queue_capacity;
                return MakeCpuDevice(options);
              },
          .enqueue_step = StepOnCpu,
          .enqueue_hold = HoldOnCpu};
}

DeviceUnderTest EmulatedUnderTest(const char* name, uint32_t threads, double bytes_per_s,
                                  int64_t latency_ns, uint32_t queue_capacity) {
  return {.name = name,
          .make =
              [=] {
                EmulatedDeviceOptions options;
                options.threads = threads;
                options.h2d_bytes_per_s = bytes_per_s;
                options.latency_ns = latency_ns;
                options.memory_bytes = kDeviceTestBytes;
                options.queue_capacity = queue_capacity;
                return MakeEmulatedDevice(options);
              },
          .enqueue_step = StepOnCpu,
          .enqueue_hold = HoldOnCpu};
}

// With the probe kernels run once: the driver loads a kernel when it is first launched and may wait
// for all that runs then, so also for what a test holds.
absl::StatusOr<std::unique_ptr<Device>> MakeReadyCudaDevice() {
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Device> device,
                        MakeCudaDevice({.memory_bytes = kDeviceTestBytes,
                                        .scratch_bytes = CudaStream::kLeastScratchBytes}));
#ifdef WEIR_HAVE_CUDA
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> cell, device->Allocate(8, 64, Touch::kNow));
  const std::unique_ptr<Stream> stream = device->NewStream();
  StepOnCuda(*stream, reinterpret_cast<uint64_t*>(cell->data()), 1);  // not 0: opens the gate
  HoldOnCuda(*stream, reinterpret_cast<const std::atomic<uint32_t>*>(cell->data()));
  stream->Wait(stream->Record());
  WEIR_RETURN_IF_ERROR(stream->status());
#endif
  return device;
}

}  // namespace

// The tests hold up to eight entries behind a gate, so a queue has at least that many; workers
// fewer, as many, and more than this machine's cores.
std::vector<DeviceUnderTest> HostDevicesUnderTest() {
  return {CpuUnderTest("Cpu1", 1, 4096),
          CpuUnderTest("Cpu2", 2, 4096),
          CpuUnderTest("Cpu2SmallQueue", 2, 16),
          CpuUnderTest("Cpu3", 3, 64),
          CpuUnderTest("Cpu8", 8, 4096),
          EmulatedUnderTest("EmulatedFast", 2, 100e9, 0, 4096),
          EmulatedUnderTest("EmulatedSmallQueue", 1, 20e9, 5'000, 16),
          EmulatedUnderTest("EmulatedSlow", 2, 1e9, 100'000, 64)};
}

std::vector<DeviceUnderTest> GpuDevicesUnderTest() {
  DeviceUnderTest cuda;
  cuda.name = "Cuda";
  cuda.is_optional = true;
  cuda.make = MakeReadyCudaDevice;
#ifdef WEIR_HAVE_CUDA
  cuda.enqueue_step = StepOnCuda;
  cuda.enqueue_hold = HoldOnCuda;
#endif
  return {cuda};
}

}  // namespace weir
