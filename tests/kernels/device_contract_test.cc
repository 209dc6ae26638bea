// What every Device promises (kernels/device.h), and what the CPU device adds
// (kernels/cpu_device.h).
//
// The contract's tests see a device through a DeviceUnderTest: it makes one, and enqueues its two
// kinds of probe kernel. Another device joins by adding one to the list at the end.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu_device.h"
#include "kernels/device.h"
#include "kernels/isa.h"

namespace weir {
namespace {

struct DeviceUnderTest {
  const char* name;
  std::function<absl::StatusOr<std::unique_ptr<Device>>()> make;
  // Enqueues `*cell = *cell * 3 + addend` on a cell in a Buffer: its result tells the order.
  void (*enqueue_step)(Stream& stream, uint64_t* cell, uint64_t addend);
  // Enqueues a kernel that runs until `*gate` (host memory) is true.
  void (*enqueue_hold)(Stream& stream, const std::atomic<bool>* gate);
};

void StepOnCpu(Stream& stream, uint64_t* cell, uint64_t addend) {
  static_cast<CpuStream&>(stream).Launch([=](uint32_t worker, uint32_t workers, CpuStream&) {
    // A different worker each time: the order must hold between workers too.
    if (worker == addend % workers) *cell = *cell * 3 + addend;
  });
}

void HoldOnCpu(Stream& stream, const std::atomic<bool>* gate) {
  static_cast<CpuStream&>(stream).Launch([=](uint32_t worker, uint32_t, CpuStream&) {
    while (worker == 0 && !gate->load()) std::this_thread::yield();
  });
}

DeviceUnderTest CpuUnderTest(const char* name, uint32_t threads, uint32_t queue_capacity) {
  return {name,
          [=] {
            CpuDeviceOptions options;
            options.threads = threads;
            options.queue_capacity = queue_capacity;
            return MakeCpuDevice(options);
          },
          StepOnCpu, HoldOnCpu};
}

class DeviceContractTest : public testing::TestWithParam<DeviceUnderTest> {
 protected:
  void SetUp() override {
    auto device = GetParam().make();
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    stream_ = device_->NewStream();
    auto cells = device_->Allocate(4096, 64, Touch::kNow);
    ASSERT_TRUE(cells.ok()) << cells.status();
    cells_ = *std::move(cells);
  }
  uint64_t* cell(int i) { return reinterpret_cast<uint64_t*>(cells_->data()) + i; }
  void Step(uint64_t addend, int i = 0) { GetParam().enqueue_step(*stream_, cell(i), addend); }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Buffer> cells_;
  std::unique_ptr<Stream> stream_;  // destroyed first
};

TEST_P(DeviceContractTest, BeginningIsComplete) {
  EXPECT_TRUE(stream_->IsComplete(Event{}));
  stream_->Wait(Event{});
  EXPECT_TRUE(stream_->IsComplete(stream_->Record()));
}

TEST_P(DeviceContractTest, ManyKernelsRunInOrder) {
  uint64_t expected = 0;
  const uint64_t kernels = 5000;  // several times round every ring
  for (uint64_t i = 0; i < kernels; ++i) {
    Step(i);
    expected = expected * 3 + i;
  }
  stream_->Wait(stream_->Record());
  EXPECT_EQ(*cell(0), expected);
}

TEST_P(DeviceContractTest, EventsTellHowFarAStreamIs) {
  std::atomic<bool> gate{false};
  Step(7);
  const Event before = stream_->Record();
  GetParam().enqueue_hold(*stream_, &gate);
  const Event held = stream_->Record();
  stream_->Wait(before);
  EXPECT_EQ(*cell(0), 7u);
  EXPECT_TRUE(stream_->IsComplete(before));
  EXPECT_FALSE(stream_->IsComplete(held));  // and so the call above did not wait for it
  gate = true;
  stream_->Wait(held);
  EXPECT_TRUE(stream_->IsComplete(held));
}

TEST_P(DeviceContractTest, NotificationsComeInOrderAndAfterTheWork) {
  struct Notes {
    const uint64_t* cell;
    std::vector<uint64_t> seen;
    std::atomic<int> count{0};
  } notes;
  notes.cell = cell(0);
  std::atomic<bool> gate{false};
  GetParam().enqueue_hold(*stream_, &gate);
  const auto notify = [](void* argument) {
    Notes* n = static_cast<Notes*>(argument);
    n->seen.push_back(*n->cell);
    n->count.fetch_add(1);
  };
  for (uint64_t i = 1; i <= 2; ++i) {
    Step(i);
    stream_->NotifyWhenComplete(notify, &notes);
  }
  EXPECT_EQ(notes.count, 0);
  gate = true;
  while (notes.count < 2) std::this_thread::yield();
  EXPECT_EQ(notes.seen, (std::vector<uint64_t>{1, 5}));
}

TEST_P(DeviceContractTest, NotificationWithNothingBeforeIt) {
  std::atomic<bool> told{false};
  stream_->NotifyWhenComplete([](void* t) { static_cast<std::atomic<bool>*>(t)->store(true); },
                              &told);
  while (!told) std::this_thread::yield();
}

TEST_P(DeviceContractTest, TwoStreamsFromTwoThreads) {
  const auto other = device_->NewStream();
  const uint64_t kernels = 2000;
  const auto fill = [&](Stream* stream, uint64_t* target) {
    for (uint64_t i = 0; i < kernels; ++i) GetParam().enqueue_step(*stream, target, i);
    stream->Wait(stream->Record());
  };
  std::thread thread([&] { fill(other.get(), cell(64)); });
  fill(stream_.get(), cell(0));
  thread.join();
  uint64_t expected = 0;
  for (uint64_t i = 0; i < kernels; ++i) expected = expected * 3 + i;
  EXPECT_EQ(*cell(0), expected);
  EXPECT_EQ(*cell(64), expected);
}

TEST_P(DeviceContractTest, DestroyedStreamHasRunEverything) {
  for (uint64_t i = 0; i < 100; ++i) Step(1);
  stream_.reset();
  uint64_t expected = 0;
  for (int i = 0; i < 100; ++i) expected = expected * 3 + 1;
  EXPECT_EQ(*cell(0), expected);
}

// Long enough apart for the workers to go to sleep in between.
TEST_P(DeviceContractTest, WakesFromSleep) {
  for (uint64_t i = 1; i <= 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    Step(i);
    stream_->Wait(stream_->Record());
    ASSERT_EQ(*cell(0) % 3, i % 3);
  }
}

TEST_P(DeviceContractTest, BuffersAreAlignedZeroedAndOfTheirSize) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, uint64_t{4097}, 5 * kMiB + 3, 33 * kMiB}) {
    for (const uint64_t alignment : {uint64_t{1}, uint64_t{64}, uint64_t{4096}, 4 * kMiB}) {
      const Touch touch = alignment == 64 ? Touch::kAtFirstUse : Touch::kNow;
      auto buffer = device_->Allocate(bytes, alignment, touch);
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      EXPECT_EQ((*buffer)->size_bytes(), bytes);
      EXPECT_EQ(reinterpret_cast<uint64_t>((*buffer)->data()) % alignment, 0u);
      uint8_t* const data = (*buffer)->data();
      EXPECT_TRUE(std::all_of(data, data + bytes, [](uint8_t b) { return b == 0; }));
      memset(data, 0xff, bytes);  // the next one must not show it
    }
  }
}

TEST_P(DeviceContractTest, AbsurdSizesAreRefusedWithNumbers) {
  for (const uint64_t bytes : {uint64_t{1} << 50, UINT64_MAX, UINT64_MAX - 4095}) {
    const auto buffer = device_->Allocate(bytes, 4096, Touch::kNow);
    ASSERT_FALSE(buffer.ok());
    EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_NE(buffer.status().message().find(std::to_string(bytes)), std::string::npos)
        << buffer.status();
    EXPECT_NE(buffer.status().message().find("free"), std::string::npos) << buffer.status();
  }
}

// The tests hold up to five entries behind a gate, so a queue has at least that many; workers
// fewer, as many, and more than this machine's cores.
INSTANTIATE_TEST_SUITE_P(
    Devices, DeviceContractTest,
    testing::Values(CpuUnderTest("Cpu1", 1, 4096), CpuUnderTest("Cpu2", 2, 4096),
                    CpuUnderTest("Cpu2SmallQueue", 2, 8), CpuUnderTest("Cpu3", 3, 64),
                    CpuUnderTest("Cpu8", 8, 4096)),
    [](const testing::TestParamInfo<DeviceUnderTest>& device) { return device.param.name; });

// ---- the CPU device alone
// ------------------------------------------------------------------------

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
