#include "tests/kernels/device_helper.h"

#include <new>
#include <thread>
#include <utility>

#include "kernels/cpu_device.h"
#include "kernels/host_memory.h"

namespace weir {

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
