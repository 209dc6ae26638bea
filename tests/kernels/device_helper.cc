#include "tests/kernels/device_helper.h"

#include <new>
#include <thread>
#include <utility>

#include "kernels/cpu_device.h"
#include "kernels/cuda_device.h"
#include "kernels/cuda_stream.h"
#include "kernels/emulated_device.h"
#include "kernels/host_memory.h"

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

void StepOnCpu(Stream& stream, uint64_t* cell, uint64_t addend) {
  static_cast<CpuStream&>(stream).Launch([=](uint32_t worker, uint32_t workers, CpuStream&) {
    // A different worker each time: the order must hold between workers too.
    if (worker == addend % workers) *cell = *cell * 3 + addend;
  });
}

void HoldOnCpu(Stream& stream, const std::atomic<uint32_t>* gate) {
  static_cast<CpuStream&>(stream).Launch([=](uint32_t worker, uint32_t, CpuStream&) {
    while (worker == 0 && gate->load() == 0) std::this_thread::yield();
  });
}

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

std::string DeviceTestName(const testing::TestParamInfo<DeviceUnderTest>& device) {
  return device.param.name;
}

uint64_t ExpectedSteps(uint64_t steps) {
  uint64_t value = 0;
  for (uint64_t i = 0; i < steps; ++i) value = value * 3 + i;
  return value;
}

void DeviceTest::SetUp() {
  auto device = GetParam().make();
  if (!device.ok() && GetParam().is_optional) GTEST_SKIP() << device.status();
  ASSERT_TRUE(device.ok()) << device.status();
  device_ = *std::move(device);
  auto host = MapHostMemory(kHostBytes, 4096);
  ASSERT_TRUE(host.ok()) << host.status();
  host_ = *std::move(host);
  auto pinned = device_->Pin(host_->data(), kHostBytes);
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  pinned_ = *std::move(pinned);
  auto cells = device_->Allocate(4096, 64, Touch::kNow);
  ASSERT_TRUE(cells.ok()) << cells.status();
  cells_ = *std::move(cells);
  gate_ = new (host_->data() + 2048) std::atomic<uint32_t>(0);
  stream_ = device_->NewStream();
  ASSERT_TRUE(stream_->status().ok()) << stream_->status();
}

uint64_t DeviceTest::Read(int i) {
  stream_->CopyOut(reinterpret_cast<uint8_t*>(host_cell(0)), reinterpret_cast<uint8_t*>(cell(i)),
                   sizeof(uint64_t));
  stream_->Wait(stream_->Record());
  EXPECT_TRUE(stream_->status().ok()) << stream_->status();
  return *host_cell(0);
}

}  // namespace weir
