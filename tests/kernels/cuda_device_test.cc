// What the CUDA device adds to the contract of all devices (kernels/cuda_device.h). Without a GPU:
// that it says why there is none.
#include "kernels/cuda_device.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/cuda_stream.h"
#include "kernels/device.h"
#include "tests/kernels/device_helper.h"

namespace weir {
namespace {

TEST(CudaDeviceTest, WithoutAGpuItSaysWhyAndWhatToDo) {
  const auto devices = ListCudaDevices();
  if (devices.ok()) GTEST_SKIP() << "there is a GPU: " << devices->front().name;
  EXPECT_TRUE(absl::IsUnavailable(devices.status()) || absl::IsUnimplemented(devices.status()) ||
              absl::IsFailedPrecondition(devices.status()))
      << devices.status();
  EXPECT_NE(devices.status().message().find("--device cpu"), std::string::npos) << devices.status();
  EXPECT_EQ(MakeCudaDevice({}).status(), devices.status());
}

class GpuCudaDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto devices = ListCudaDevices();
    if (!devices.ok()) GTEST_SKIP() << devices.status();
    info_ = devices->front();
  }
  static std::unique_ptr<Device> Make() {
    auto device = MakeCudaDevice({.memory_bytes = kDeviceTestBytes});
    EXPECT_TRUE(device.ok()) << device.status();
    return *std::move(device);
  }
  CudaDeviceInfo info_;
};

TEST_F(GpuCudaDeviceTest, TellsWhatItIs) {
  EXPECT_FALSE(info_.name.empty());
  EXPECT_GE(info_.compute_major, 8u);
  EXPECT_GT(info_.multiprocessors, 0u);
  EXPECT_GT(info_.free_bytes, kDeviceTestBytes);
  EXPECT_LE(info_.free_bytes, info_.total_bytes);
  EXPECT_GE(info_.driver_version, info_.runtime_version / 1000 * 1000);
  const std::string name = Make()->name();
  EXPECT_EQ(name.find("cuda:0 (" + info_.name + ", sm_"), 0u) << name;
}

TEST_F(GpuCudaDeviceTest, BadOptionsAreRefused) {
  EXPECT_EQ(MakeCudaDevice({.ordinal = 1000}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeCudaDevice({.memory_bytes = kDeviceTestBytes, .scratch_bytes = 1}).status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto too_much = MakeCudaDevice({.memory_bytes = info_.total_bytes + 1});
  EXPECT_EQ(too_much.status().code(), absl::StatusCode::kResourceExhausted) << too_much.status();
  EXPECT_NE(too_much.status().message().find("--hbm"), std::string::npos) << too_much.status();
}

TEST_F(GpuCudaDeviceTest, AStreamThatDoesNotFitTheBudgetSaysSo) {
  const auto device = MakeCudaDevice({.memory_bytes = 16 * kMiB});
  ASSERT_TRUE(device.ok()) << device.status();
  const auto stream = (*device)->NewStream();
  EXPECT_EQ(stream->status().code(), absl::StatusCode::kResourceExhausted) << stream->status();
  bool told = false;
  stream->NotifyWhenComplete([](void* t) { *static_cast<bool*>(t) = true; }, &told);
  EXPECT_TRUE(told);
  stream->Wait(stream->Record());
}

TEST_F(GpuCudaDeviceTest, StreamsHaveScratchMemory) {
  const auto device = Make();
  const auto stream = device->NewStream();
  CudaStream& cuda = static_cast<CudaStream&>(*stream);
  EXPECT_EQ(reinterpret_cast<uint64_t>(cuda.scratch()) % 256, 0u);
  EXPECT_EQ(cuda.scratch_bytes(), CudaDeviceOptions().scratch_bytes);
  EXPECT_EQ(cuda.multiprocessors(), info_.multiprocessors);
  std::vector<uint8_t> there(cuda.scratch_bytes(), 7);
  std::vector<uint8_t> back(cuda.scratch_bytes());
  stream->CopyIn(cuda.scratch(), there.data(), there.size());
  stream->CopyOut(back.data(), cuda.scratch(), back.size());
  stream->Wait(stream->Record());
  EXPECT_EQ(there, back);
}

// Bits of the float16 eighths / 8, |eighths| <= 8.
uint16_t HalfOfEighths(int eighths) {
  if (eighths == 0) return 0;
  int exponent = 0;
  const double fraction = std::frexp(std::abs(eighths) / 8.0, &exponent);  // [0.5, 1)
  const auto mantissa = static_cast<uint16_t>((fraction * 2 - 1) * 1024);
  const auto bits = static_cast<uint16_t>((exponent - 1 + 15) << 10 | mantissa);
  return eighths < 0 ? bits | 0x8000 : bits;
}

// Products of eighths, of which float32 sums thousands without rounding: in any order the result is
// exact.
TEST_F(GpuCudaDeviceTest, GemmMultipliesRowsByRows) {
  const uint32_t m = 37, n = 61, k = 200, a_stride = 208, b_stride = 256, c_stride = 64;
  const auto eighths = [](uint32_t row, uint32_t column) {
    return static_cast<int>((row * 131 + column * 71 + row * column) % 17) - 8;
  };
  std::vector<uint16_t> a(m * a_stride, 0x7e00), b(n * b_stride, 0x7e00);  // NaN in between
  for (uint32_t c = 0; c < k; ++c) {
    for (uint32_t r = 0; r < m; ++r) a[r * a_stride + c] = HalfOfEighths(eighths(r, c));
    for (uint32_t r = 0; r < n; ++r) b[r * b_stride + c] = HalfOfEighths(eighths(r + 5, c));
  }
  std::vector<float> out(m * c_stride, -1.0f);
  const auto device = Make();
  const auto stream = device->NewStream();
  const auto upload = [&](const void* bytes, uint64_t count) {
    auto buffer = device->Allocate(count, 256, Touch::kNow);
    WEIR_CHECK(buffer.ok());
    stream->CopyIn((*buffer)->data(), static_cast<const uint8_t*>(bytes), count);
    return *std::move(buffer);
  };
  const auto a_device = upload(a.data(), a.size() * 2);
  const auto b_device = upload(b.data(), b.size() * 2);
  const auto c_device = upload(out.data(), out.size() * 4);
  static_cast<CudaStream&>(*stream).Gemm({.a = reinterpret_cast<const uint16_t*>(a_device->data()),
                                          .a_stride = a_stride,
                                          .b = reinterpret_cast<const uint16_t*>(b_device->data()),
                                          .b_stride = b_stride,
                                          .c = reinterpret_cast<float*>(c_device->data()),
                                          .c_stride = c_stride,
                                          .m = m,
                                          .n = n,
                                          .k = k});
  stream->CopyOut(reinterpret_cast<uint8_t*>(out.data()), c_device->data(), out.size() * 4);
  stream->Wait(stream->Record());
  ASSERT_TRUE(stream->status().ok()) << stream->status();
  for (uint32_t r = 0; r < m; ++r) {
    for (uint32_t c = 0; c < c_stride; ++c) {
      int sum = 0;
      for (uint32_t i = 0; i < k; ++i) sum += eighths(r, i) * eighths(c + 5, i);
      ASSERT_EQ(out[r * c_stride + c], c < n ? static_cast<float>(sum) / 64 : -1.0f)
          << r << " " << c;
    }
  }
}

TEST_F(GpuCudaDeviceTest, BuffersOfSmallAlignmentDoNotOverrunTheBudget) {
  const auto device = MakeCudaDevice({.memory_bytes = 4 * kMiB});
  ASSERT_TRUE(device.ok()) << device.status();
  const auto most = (*device)->Allocate(4 * kMiB, 256, Touch::kNow);
  ASSERT_TRUE(most.ok()) << most.status();
  EXPECT_EQ((*device)->memory().free_bytes, 0u);
  EXPECT_FALSE((*device)->Allocate(1, 1, Touch::kNow).ok());
}

#ifdef WEIR_HAVE_CUDA

// Ends the process: with 0 when a failed kernel is reported and nobody hangs.
void RunIntoATrap() {
  auto device = MakeCudaDevice({.memory_bytes = kDeviceTestBytes});
  auto cpu = MakeCpuDevice({});
  if (!device.ok() || !cpu.ok()) _Exit(1);
  const auto stream = (*device)->NewStream();
  const auto copies = (*device)->NewCopyStream();
  const auto host_stream = (*cpu)->NewStream();
  TrapOnCuda(*stream);
  std::atomic<int> told{0};
  const auto tell = [](void* t) { static_cast<std::atomic<int>*>(t)->fetch_add(1); };
  stream->NotifyWhenComplete(tell, &told);
  host_stream->WaitFor(*stream, stream->Record());
  copies->WaitFor(*host_stream, host_stream->Record());
  copies->NotifyWhenComplete(tell, &told);
  copies->Wait(copies->Record());
  host_stream->Wait(host_stream->Record());
  stream->Wait(stream->Record());
  while (told < 2) {
  }
  if (stream->status().ok() || copies->status().ok()) _Exit(2);
  fprintf(stderr, "reported: %s\n", stream->status().ToString().c_str());
  _Exit(0);
}

// In a process of its own, since what fails so takes the process's whole context with it.
TEST_F(GpuCudaDeviceTest, AFailedKernelIsReportedAndNobodyHangs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(RunIntoATrap(), testing::ExitedWithCode(0), "reported: .*cuda");
}

#endif  // WEIR_HAVE_CUDA

}  // namespace
}  // namespace weir
