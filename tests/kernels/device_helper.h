// Devices under test: how the tests of the device contract make one and enqueue their two kinds of
// probe kernel. The tests are TEST_Ps of DeviceTest's children; a device joins by being in a list
// that they are instantiated with.
#ifndef WEIR_TESTS_KERNELS_DEVICE_HELPER_H_
#define WEIR_TESTS_KERNELS_DEVICE_HELPER_H_

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "io/base.h"
#include "kernels/device.h"

namespace weir {

struct DeviceUnderTest {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Device>>()> make;
  // Enqueues `*cell = *cell * 3 + addend` on a cell in a Buffer: its result tells the order.
  void (*enqueue_step)(Stream& stream, uint64_t* cell, uint64_t addend) = nullptr;
  // Enqueues a kernel that runs until `*gate` (pinned host memory) is not 0.
  void (*enqueue_hold)(Stream& stream, const std::atomic<uint32_t>* gate) = nullptr;
  // Tests skip where it cannot be made, instead of failing.
  bool is_optional = false;
};

// Of CPU streams, which the emulated device's compute streams are too.
void StepOnCpu(Stream& stream, uint64_t* cell, uint64_t addend);
void HoldOnCpu(Stream& stream, const std::atomic<uint32_t>* gate);

// Of CUDA streams, where weir is built with CUDA (device_kernels.cu).
void StepOnCuda(Stream& stream, uint64_t* cell, uint64_t addend);
void HoldOnCuda(Stream& stream, const std::atomic<uint32_t>* gate);
void TrapOnCuda(Stream& stream);  // fails as a wild pointer does, and takes the context with it

// Bytes of memory that the accelerators under test have.
inline constexpr uint64_t kDeviceTestBytes = 256 * kMiB;

// All that need no hardware: several CPU devices and emulated accelerators.
std::vector<DeviceUnderTest> HostDevicesUnderTest();
// The GPU, for suites whose name says Gpu: a CUDA device, which is optional.
std::vector<DeviceUnderTest> GpuDevicesUnderTest();
#define WEIR_ON_EVERY_DEVICE_UNDER_TEST(suite)                                        \
  INSTANTIATE_TEST_SUITE_P(Devices, suite, testing::ValuesIn(HostDevicesUnderTest()), \
                           DeviceTestName);                                           \
  INSTANTIATE_TEST_SUITE_P(Gpu, suite, testing::ValuesIn(GpuDevicesUnderTest()), DeviceTestName)

std::string DeviceTestName(const testing::TestParamInfo<DeviceUnderTest>& device);

// What `steps` steps with addends 0, 1, 2, ... make of 0.
uint64_t ExpectedSteps(uint64_t steps);

class DeviceTest : public testing::TestWithParam<DeviceUnderTest> {
 protected:
  static constexpr uint64_t kHostBytes = 40 * kMiB;

  void SetUp() override;
  uint64_t* cell(int i) { return reinterpret_cast<uint64_t*>(cells_->data()) + i; }
  // The first page of the pinned memory: results, and the gate.
  uint64_t* host_cell(int i) { return reinterpret_cast<uint64_t*>(host_->data()) + i; }
  std::atomic<uint32_t>* gate() { return gate_; }
  // The pinned memory behind it.
  uint8_t* host() { return host_->data() + 4096; }
  void Step(uint64_t addend, int i = 0) { GetParam().enqueue_step(*stream_, cell(i), addend); }
  // The cell's value when all that was enqueued has run.
  uint64_t Read(int i = 0);

  std::unique_ptr<Device> device_;
  std::unique_ptr<Buffer> host_;
  std::unique_ptr<PinnedRange> pinned_;
  std::unique_ptr<Buffer> cells_;   // a page of the device's, zeros
  std::unique_ptr<Stream> stream_;  // destroyed first
  std::atomic<uint32_t>* gate_ = nullptr;
};

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_DEVICE_HELPER_H_
