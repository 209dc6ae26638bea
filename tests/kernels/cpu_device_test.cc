// What the CPU device adds to the contract of all devices (kernels/cpu_device.h).
#include "kernels/cpu_device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/isa.h"
#include "tests/kernels/device_helper.h"

namespace weir {
namespace {

class CpuDeviceTest : public testing::TestWithParam<uint32_t> {};

std::unique_ptr<Device> MakeCpu(uint32_t threads) {
  CpuDeviceOptions options;
  options.threads = threads;
  auto device = MakeCpuDevice(options);
  EXPECT_TRUE(device.ok()) << device.status();
  return *std::move(device);
}

TEST_P(CpuDeviceTest, EveryWorkerRunsEveryKernelWithItsOwnScratch) {
  const auto device = MakeCpu(GetParam());
  const auto stream = device->NewStream();
  CpuStream& cpu = static_cast<CpuStream&>(*stream);
  ASSERT_EQ(cpu.threads(), GetParam());
  std::vector<uint32_t> runs(GetParam(), 0);  // each worker counts in its own cell
  uint32_t* const cells = runs.data();
  for (int i = 0; i < 300; ++i) {
    cpu.Launch([=](uint32_t worker, uint32_t workers, CpuStream& self) {
      cells[worker] += workers;
      memset(self.scratch(worker), static_cast<int>(worker), CpuStream::kScratchBytes / 64);
    });
  }
  cpu.Wait(cpu.Record());
  for (uint32_t w = 0; w < GetParam(); ++w) {
    EXPECT_EQ(runs[w], 300 * GetParam());
    EXPECT_EQ(reinterpret_cast<uint64_t>(cpu.scratch(w)) % 64, 0u);
    EXPECT_EQ(cpu.scratch(w)[CpuStream::kScratchBytes / 64 - 1], w);
  }
}

// Not atomic on purpose: a missing barrier is a wrong sum, and a race for the thread sanitizer.
TEST_P(CpuDeviceTest, KernelsAndPhasesAreSeparatedByBarriers) {
  const auto device = MakeCpu(GetParam());
  const auto stream = device->NewStream();
  CpuStream& cpu = static_cast<CpuStream&>(*stream);
  std::vector<uint64_t> cells(GetParam(), 1);
  uint64_t* const c = cells.data();
  uint64_t expected = 1;
  for (int i = 0; i < 200; ++i) {
    cpu.Launch([=](uint32_t worker, uint32_t workers, CpuStream& self) {
      for (int phase = 0; phase < 3; ++phase) {
        const uint64_t neighbour = c[(worker + 1) % workers];
        self.Barrier();
        c[worker] = neighbour * 5 + 1;
        self.Barrier();
      }
    });
    for (int phase = 0; phase < 3; ++phase) expected = expected * 5 + 1;
  }
  cpu.Wait(cpu.Record());
  for (const uint64_t value : cells) EXPECT_EQ(value, expected);
}

INSTANTIATE_TEST_SUITE_P(Threads, CpuDeviceTest, testing::Values(1, 2, 3, 8));

TEST(CpuDeviceOptionsTest, NamesTellThreadsAndIsa) {
  const std::string best(SupportedIsas().front());
  EXPECT_EQ(MakeCpu(2)->name(), "cpu (2 threads, " + best + ")");
  EXPECT_EQ(MakeCpu(1)->name(), "cpu (1 thread, " + best + ")");
  CpuDeviceOptions options;
  options.isa = "AVX2";
  EXPECT_EQ((*MakeCpuDevice(options))->name(), "cpu (1 thread, AVX2)");
  EXPECT_EQ(MakeCpu(1)->name(), "cpu (1 thread, " + best + ")");
}

// Every enqueue must wait for the kernel before.
TEST(CpuDeviceOptionsTest, QueueOfOneEntry) {
  CpuDeviceOptions options;
  options.threads = 2;
  options.queue_capacity = 1;
  auto device = MakeCpuDevice(options);
  ASSERT_TRUE(device.ok()) << device.status();
  const auto stream = (*device)->NewStream();
  uint64_t cell = 0, expected = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    StepOnCpu(*stream, &cell, i);
    expected = expected * 3 + i;
  }
  stream->Wait(stream->Record());
  EXPECT_EQ(cell, expected);
}

TEST(CpuDeviceOptionsTest, BadOptionsAreRefused) {
  CpuDeviceOptions options;
  options.threads = 0;
  EXPECT_EQ(MakeCpuDevice(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.threads = 1 << 20;
  EXPECT_EQ(MakeCpuDevice(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.threads = 1;
  options.queue_capacity = 0;
  EXPECT_EQ(MakeCpuDevice(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.queue_capacity = 1;
  options.isa = "SSE9";
  EXPECT_EQ(MakeCpuDevice(options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace weir
