// The host's side of the CUDA device on the fake runtime: what it says where there is no GPU it can
// use, budgets, failures, and that it leaves nothing behind. The contract of all devices is tested
// in the same program (fake_devices.cc).
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/cuda_device.h"
#include "kernels/cuda_stream.h"
#include "kernels/device.h"
#include "kernels/host_memory.h"
#include "tests/cuda/fake_runtime.h"

namespace weir {
namespace {

using fake_cuda::kTotalBytes;

class CudaHostTest : public testing::Test {
 protected:
  void SetUp() override { fake_cuda::Reset(); }
  void TearDown() override { fake_cuda::Reset(); }  // also checks that nothing is left

  static std::unique_ptr<Device> Make(uint64_t memory_bytes = 256 * kMiB) {
    auto device = MakeCudaDevice({.ordinal = 1, .memory_bytes = memory_bytes});
    WEIR_CHECK(device.ok());
    return *std::move(device);
  }
  static void ExpectSays(const absl::Status& status, absl::StatusCode code, const char* text) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_NE(status.message().find(text), std::string::npos) << status;
  }
};

TEST_F(CudaHostTest, ListsWhatThereIs) {
  const auto devices = ListCudaDevices();
  ASSERT_TRUE(devices.ok()) << devices.status();
  ASSERT_EQ(devices->size(), 2u);
  const CudaDeviceInfo& info = devices->back();
  EXPECT_EQ(info.ordinal, 1u);
  EXPECT_EQ(info.name, "Fake GPU");
  EXPECT_EQ(info.pci_bus, "0000:1b:00.0");
  EXPECT_EQ(info.total_bytes, kTotalBytes);
  EXPECT_EQ(info.free_bytes, kTotalBytes);
  EXPECT_EQ(info.compute_major, 9u);
  EXPECT_EQ(info.multiprocessors, 132u);
  EXPECT_EQ(info.runtime_version, 13000u);
  EXPECT_EQ(Make()->name(), "cuda:1 (Fake GPU, sm_90, 1.0 GiB)");
}

TEST_F(CudaHostTest, SaysWhyThereIsNone) {
  fake_cuda::SetDriverVersion(0);
  ExpectSays(ListCudaDevices().status(), absl::StatusCode::kUnavailable, "no NVIDIA driver");
  ExpectSays(MakeCudaDevice({}).status(), absl::StatusCode::kUnavailable, "--device cpu");
  fake_cuda::SetDriverVersion(12040);
  ExpectSays(MakeCudaDevice({}).status(), absl::StatusCode::kFailedPrecondition,
             "supports CUDA 12.4, this weir needs 13.0");
  fake_cuda::Reset();
  fake_cuda::SetDeviceCount(0);
  ExpectSays(MakeCudaDevice({}).status(), absl::StatusCode::kUnavailable, "shows no GPU");
  fake_cuda::SetDeviceCount(1);
  ExpectSays(MakeCudaDevice({.ordinal = 1}).status(), absl::StatusCode::kInvalidArgument,
             "there is no cuda:1: this machine has 1 GPU");
  fake_cuda::SetKernelsFit(false);
  ExpectSays(MakeCudaDevice({}).status(), absl::StatusCode::kFailedPrecondition,
             "WEIR_CUDA_ARCHITECTURES=90");
  fake_cuda::Reset();
  fake_cuda::FailNext("cudaSetDevice", cudaErrorDevicesUnavailable);
  ExpectSays(MakeCudaDevice({}).status(), absl::StatusCode::kFailedPrecondition, "cuda:0");
}

TEST_F(CudaHostTest, BudgetsAreCheckedAgainstWhatIsFree) {
  EXPECT_EQ(Make(0)->memory().total_bytes, kTotalBytes - kCudaMarginBytes);
  EXPECT_EQ(Make(kTotalBytes)->memory().total_bytes, kTotalBytes);
  ExpectSays(MakeCudaDevice({.memory_bytes = kTotalBytes + 1}).status(),
             absl::StatusCode::kResourceExhausted, "Pass --hbm 512MiB or less");
  const auto hog = Make();
  const auto most = hog->Allocate(200 * kMiB, 256, Touch::kNow);
  ASSERT_TRUE(most.ok()) << most.status();
  EXPECT_EQ(Make(0)->memory().total_bytes, kTotalBytes - kCudaMarginBytes - 200 * kMiB);
  ExpectSays(MakeCudaDevice({.memory_bytes = 900 * kMiB}).status(),
             absl::StatusCode::kResourceExhausted, "900.0 MiB");
  ExpectSays(MakeCudaDevice({.scratch_bytes = 1}).status(), absl::StatusCode::kInvalidArgument,
             "scratch_bytes");
}

TEST_F(CudaHostTest, MemoryThatOthersTookIsRefusedWithNumbers) {
  const auto first = Make(600 * kMiB);
  const auto second = Make(600 * kMiB);
  const auto taken = first->Allocate(600 * kMiB, 256, Touch::kNow);
  ASSERT_TRUE(taken.ok()) << taken.status();
  const auto refused = second->Allocate(500 * kMiB, 256, Touch::kNow);
  ExpectSays(refused.status(), absl::StatusCode::kResourceExhausted, "500.0 MiB");
  ExpectSays(refused.status(), absl::StatusCode::kResourceExhausted, "Pass --hbm 424MiB or less");
  EXPECT_EQ(second->memory().free_bytes, 600 * kMiB);
  EXPECT_TRUE(second->Allocate(400 * kMiB, 256, Touch::kNow).ok());
}

TEST_F(CudaHostTest, MemoryInUseNeverExceedsTheBudget) {
  const auto device = Make(64 * kMiB);
  std::vector<std::unique_ptr<Buffer>> buffers;
  for (const uint64_t alignment : {1, 64, 4096, 1 << 20}) {
    for (uint64_t bytes = 1; bytes < 4 * kMiB; bytes = bytes * 5 + 3) {
      auto buffer = device->Allocate(bytes, alignment, Touch::kNow);
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      buffers.push_back(*std::move(buffer));
      EXPECT_EQ(fake_cuda::used_bytes(),
                device->memory().total_bytes - device->memory().free_bytes);
    }
  }
  while (true) {
    auto buffer = device->Allocate(kMiB, 64, Touch::kNow);
    EXPECT_LE(fake_cuda::used_bytes(), 64 * kMiB);
    if (!buffer.ok()) break;
    buffers.push_back(*std::move(buffer));
  }
}

TEST_F(CudaHostTest, ComputeStreamsTakeTheirScratchFromTheBudget) {
  const auto device = Make();
  const uint64_t stream_bytes = CudaDeviceOptions().scratch_bytes + kCudaBlasBytes;
  const auto stream = device->NewStream();
  const auto copies = device->NewCopyStream();
  EXPECT_EQ(device->memory().free_bytes, 256 * kMiB - stream_bytes);
  CudaStream& cuda = static_cast<CudaStream&>(*stream);
  EXPECT_EQ(cuda.scratch_bytes(), CudaDeviceOptions().scratch_bytes);
  EXPECT_EQ(reinterpret_cast<uint64_t>(cuda.scratch()) % 256, 0u);
}

// Streams that could not be made, for want of memory or because a call failed, say so and hold
// nobody up.
TEST_F(CudaHostTest, AStreamThatCouldNotBeMadeSaysSo) {
  const auto device = Make(16 * kMiB);
  std::vector<std::unique_ptr<Stream>> streams;
  streams.push_back(device->NewStream());
  EXPECT_EQ(streams[0]->status().code(), absl::StatusCode::kResourceExhausted);
  for (const char* call :
       {"cudaStreamCreateWithFlags", "cudaEventCreateWithFlags", "cudaHostAlloc"}) {
    fake_cuda::FailNext(call, cudaErrorInvalidValue);
    streams.push_back(device->NewCopyStream());
    ExpectSays(streams.back()->status(), absl::StatusCode::kInternal, call);
  }
  auto cpu = MakeCpuDevice({});
  ASSERT_TRUE(cpu.ok());
  const auto host_stream = (*cpu)->NewStream();
  for (const auto& stream : streams) {
    bool told = false;
    stream->CopyIn(nullptr, nullptr, 64);
    stream->WaitFor(*host_stream, host_stream->Record());
    stream->NotifyWhenComplete([](void* t) { *static_cast<bool*>(t) = true; }, &told);
    EXPECT_TRUE(told);
    host_stream->WaitFor(*stream, stream->Record());
    stream->Wait(stream->Record());
    EXPECT_TRUE(stream->IsComplete(stream->Record()));
  }
  const auto good = device->NewCopyStream();
  EXPECT_TRUE(good->status().ok()) << good->status();
}

constexpr fake_cuda::Kernel kNothing = {[](const void*) {}, 0};
constexpr fake_cuda::Kernel kFail = {[](const void*) { fake_cuda::FailSticky(); }, 0};

TEST_F(CudaHostTest, AFailedKernelIsReportedAndNobodyHangs) {
  const auto device = Make();
  auto cpu = MakeCpuDevice({});
  ASSERT_TRUE(cpu.ok());
  const auto stream = device->NewStream();
  const auto copies = device->NewCopyStream();
  const auto host_stream = (*cpu)->NewStream();
  std::atomic<int> told{0};
  const auto tell = [](void* t) { static_cast<std::atomic<int>*>(t)->fetch_add(1); };
  fake_cuda::Launch(static_cast<CudaStream&>(*stream), kFail, nullptr);
  stream->NotifyWhenComplete(tell, &told);
  host_stream->WaitFor(*stream, stream->Record());
  copies->WaitFor(*host_stream, host_stream->Record());
  copies->NotifyWhenComplete(tell, &told);
  copies->Wait(copies->Record());
  host_stream->Wait(host_stream->Record());
  stream->Wait(stream->Record());
  while (told < 2) std::this_thread::yield();
  ExpectSays(stream->status(), absl::StatusCode::kInternal, "cudaErrorIllegalAddress");
  EXPECT_EQ(copies->status(), stream->status());
  // What comes later is dropped, and complete.
  stream->CopyIn(nullptr, nullptr, 1);
  EXPECT_TRUE(stream->IsComplete(stream->Record()));
}

// The first error is the one that tells why.
TEST_F(CudaHostTest, TheFirstFailureIsKept) {
  const auto device = Make();
  const auto stream = device->NewStream();
  const auto memory = device->Allocate(64, 64, Touch::kNow);
  ASSERT_TRUE(memory.ok());
  uint8_t host[64] = {};
  fake_cuda::FailNext("cudaMemcpyAsync", cudaErrorInvalidValue);
  stream->CopyIn((*memory)->data(), host, 64);
  ExpectSays(stream->status(), absl::StatusCode::kInternal, "cudaMemcpyAsync");
  fake_cuda::FailNext("cudaSetDevice", cudaErrorNoDevice);
  stream->CopyIn((*memory)->data(), host, 64);
  ExpectSays(stream->status(), absl::StatusCode::kInternal, "cudaMemcpyAsync");
}

TEST_F(CudaHostTest, PinningThatFailsIsAStatus) {
  const auto device = Make();
  const auto memory = MapHostMemory(kMiB, 4096);
  ASSERT_TRUE(memory.ok());
  fake_cuda::FailNext("cudaHostRegister", cudaErrorMemoryAllocation);
  ExpectSays(device->Pin((*memory)->data(), kMiB).status(), absl::StatusCode::kResourceExhausted,
             "--dram");
  // Pinned by another device: known to CUDA alone.
  const auto other = Make();
  const auto pinned = other->Pin((*memory)->data(), kMiB);
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  EXPECT_EQ(device->Pin((*memory)->data(), kMiB).status().code(), absl::StatusCode::kAlreadyExists);
}

// More waits for another device than the mailbox has words, and more marks than the ring has
// events, none of which comes before the gate opens.
TEST_F(CudaHostTest, FullRingsBlockTheHostAndNothingElse) {
  const auto device = Make();
  auto cpu = MakeCpuDevice({});
  ASSERT_TRUE(cpu.ok());
  const auto stream = device->NewCopyStream();
  const auto host_stream = (*cpu)->NewStream();
  std::atomic<uint32_t> gate{0};
  const std::atomic<uint32_t>* const closed = &gate;
  std::atomic<int> told{0};
  static_cast<CpuStream&>(*host_stream).Launch([closed](uint32_t, uint32_t, CpuStream&) {
    while (closed->load() == 0) std::this_thread::yield();
  });
  std::thread opener([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    gate = 1;
  });
  const auto tell = [](void* t) { static_cast<std::atomic<int>*>(t)->fetch_add(1); };
  for (int i = 0; i < 3000; ++i) {
    static_cast<CpuStream&>(*host_stream).Launch([](uint32_t, uint32_t, CpuStream&) {});
    stream->WaitFor(*host_stream, host_stream->Record());
    stream->NotifyWhenComplete(tell, &told);
  }
  opener.join();
  stream->Wait(stream->Record());
  EXPECT_TRUE(host_stream->IsComplete(host_stream->Record()));
  while (told < 3000) std::this_thread::yield();
}

// A kernel begins before the end of another kernel and of nothing else: a copy or what another
// stream did may be what it reads ahead.
TEST_F(CudaHostTest, KernelsBeginEarlyAfterKernelsOnly) {
  const auto device = Make();
  const auto stream = device->NewStream();
  const auto other = device->NewStream();
  CudaStream& cuda = static_cast<CudaStream&>(*stream);
  const auto buffer = *device->Allocate(64, 64, Touch::kNow);
  const auto launches = [&](int count) {
    const uint64_t before = fake_cuda::early_launches();
    for (int i = 0; i < count; ++i) {
      fake_cuda::Launch(cuda, kNothing, nullptr);
      stream->Record();
    }
    return fake_cuda::early_launches() - before;
  };
  EXPECT_EQ(launches(3), 2u);
  EXPECT_EQ(launches(2), 2u);
  uint8_t bytes[64] = {};
  stream->CopyIn(buffer->data(), bytes, sizeof(bytes));
  EXPECT_EQ(launches(3), 2u);
  std::atomic<uint32_t> gate{0};
  fake_cuda::LaunchHold(static_cast<CudaStream&>(*other), &gate);
  stream->WaitFor(*other, other->Record());
  EXPECT_EQ(launches(1), 0u);
  gate = 1;
  stream->Wait(stream->Record());
}

// Marks are known to be complete before their events are recorded again, though nobody asked.
TEST_F(CudaHostTest, OldMarksAreCompleteWhileNewOnesAreHeld) {
  std::atomic<uint32_t> gate{0};  // outlives the stream, whose kernel looks at it
  const auto device = Make();
  const auto stream = device->NewStream();
  CudaStream& cuda = static_cast<CudaStream&>(*stream);
  std::vector<Event> events;
  const auto mark = [&] {
    fake_cuda::Launch(cuda, kNothing, nullptr);
    events.push_back(stream->Record());
  };
  for (int i = 0; i < 700; ++i) mark();
  fake_cuda::LaunchHold(cuda, &gate);
  for (int i = 0; i < 700; ++i) mark();
  // The ring holds 1024: the events of these were recorded again.
  for (size_t i = 0; i < 1400 - 1024; ++i) EXPECT_TRUE(stream->IsComplete(events[i])) << i;
  EXPECT_FALSE(stream->IsComplete(events[700]));
  gate = 1;
}

// A thread that waits for a mark does not find itself waiting for a later one: what that stands for
// might wait for the thread.
TEST_F(CudaHostTest, NobodyWaitsForALaterMarkThanAsked) {
  std::atomic<uint32_t> first{0}, second{0};  // outlive the stream
  const auto device = Make();
  const auto stream = device->NewStream();
  CudaStream& cuda = static_cast<CudaStream&>(*stream);
  fake_cuda::SetWakeUpMs(200);
  std::atomic<bool> done{false};
  fake_cuda::LaunchHold(cuda, &first);
  const Event event = stream->Record();
  std::thread waiter([&] {
    stream->Wait(event);
    done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // it sleeps by now
  first = 1;
  for (int i = 1; i < 1024; ++i) {
    fake_cuda::Launch(cuda, kNothing, nullptr);
    stream->Record();
  }
  fake_cuda::LaunchHold(cuda, &second);
  stream->Record();  // on the event of the first
  for (int i = 0; i < 1000 && !done; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(done);
  second = 1;
  waiter.join();
}

// Whatever of recording fails: no graph, the device says why, and the stream can be destroyed.
TEST_F(CudaHostTest, AGraphThatCannotBeMadeIsTheDevicesFailure) {
  for (const char* call : {"cudaStreamBeginCapture", "cudaStreamEndCapture",
                           "cudaGraphInstantiateWithFlags", "cudaLaunchKernelExC"}) {
    SCOPED_TRACE(call);
    const auto device = Make();
    const auto stream = device->NewStream();
    auto& cuda = static_cast<CudaStream&>(*stream);
    fake_cuda::Launch(cuda, kNothing, nullptr);
    stream->Wait(stream->Record());
    fake_cuda::FailNext(call, cudaErrorMemoryAllocation);
    const auto graph = stream->RecordGraph([&] { fake_cuda::Launch(cuda, kNothing, nullptr); });
    if (graph != nullptr) stream->RunGraph(*graph);  // as nothing
    ExpectSays(stream->status(), absl::StatusCode::kResourceExhausted, call);
    EXPECT_EQ(stream->RecordGraph([] {}), nullptr);
  }
}

// Threads that wait for old marks while the ring is recorded again and again.
TEST_F(CudaHostTest, ManyThreadsWaitWhileMarksAreRecycled) {
  const auto device = Make();
  const auto stream = device->NewStream();
  const auto memory = device->Allocate(64, 64, Touch::kNow);
  ASSERT_TRUE(memory.ok());
  std::atomic<uint64_t> latest{0};
  std::atomic<bool> stop{false};
  constexpr int kWaiters = 3;
  std::vector<std::thread> waiters;
  waiters.reserve(kWaiters);
  for (int i = 0; i < kWaiters; ++i) {
    waiters.emplace_back([&] {
      while (!stop) {
        const Event event{latest.load()};
        stream->Wait(event);
        EXPECT_TRUE(stream->IsComplete(event));
      }
    });
  }
  for (int i = 0; i < 6000; ++i) {
    fake_cuda::Launch(static_cast<CudaStream&>(*stream), kNothing, nullptr);
    latest = stream->Record().sequence;
  }
  stop = true;
  for (std::thread& waiter : waiters) waiter.join();
}

}  // namespace
}  // namespace weir
