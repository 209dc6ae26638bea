// Runs ops on any device, so that one test serves them all:
//
//   using FooTest = OpTest;
//   WEIR_ON_EVERY_DEVICE(FooTest);
//   TEST_P(FooTest, Works) {
//     const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
//     float* out = runner->Upload(old);
//     Foo(runner->stream(), {runner->Upload(input), out, ...});
//     std::vector<float> got = runner->Download(out, old.size());
//   }
#ifndef WEIR_TESTS_KERNELS_OP_RUNNER_HELPER_H_
#define WEIR_TESTS_KERNELS_OP_RUNNER_HELPER_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/ops.h"

namespace weir {

class OpRunner {
 public:
  explicit OpRunner(std::unique_ptr<Device> device);

  Stream& stream() { return *stream_; }
  Device& device() { return *device_; }

  // Memory of the device with `values` in it, kept until the runner goes: exactly as long as they
  // are, beginning `misalign_bytes` after an address that 256 divides.
  template <typename T>
  T* Upload(const std::vector<T>& values, uint64_t misalign_bytes = 0) {
    return reinterpret_cast<T*>(
        UploadBytes(values.data(), values.size() * sizeof(T), misalign_bytes));
  }
  uint8_t* UploadBytes(const void* bytes, uint64_t count, uint64_t misalign_bytes = 0);
  uint8_t* Allocate(uint64_t bytes);  // 256-byte aligned, zeros

  // What lies there when all enqueued work has run.
  template <typename T>
  std::vector<T> Download(const T* from, uint64_t count) {
    std::vector<T> values(count);
    DownloadBytes(values.data(), from, count * sizeof(T));
    return values;
  }
  void DownloadBytes(void* to, const void* from, uint64_t bytes);

 private:
  std::unique_ptr<Device> device_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::unique_ptr<Stream> stream_;
};

// The devices that every machine has: "Cpu" and, but for the thread sanitizer's build, "HostGrid"
// (CUDA's kernels as fibers). A third, "Cuda", is there where a GPU is.
std::vector<std::string> OpDevices();
bool HaveOpDevice(const std::string& device);

// Of a device that is there. `threads` and `isa` are the CPU's.
std::unique_ptr<OpRunner> MakeOpRunner(const std::string& device, uint32_t threads = 2,
                                       const std::string& isa = "");

// A suite of tests that run on the device named by their parameter.
class OpTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!HaveOpDevice(GetParam())) GTEST_SKIP() << "there is no CUDA device here";
  }
};

inline std::string OpDeviceName(const testing::TestParamInfo<std::string>& info) {
  return info.param;
}
// `layout` as the device takes it: in its order, and with pages of a size that allows for that.
inline KvLayout LayoutOn(const std::string& device, KvLayout layout) {
  if (device == "Cuda" || device == "HostGrid") return layout;
  layout.order = KvOrder::kByHead;
  layout.page_tokens = (layout.page_tokens + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
  return layout;
}

#define WEIR_ON_EVERY_DEVICE(suite)                                                       \
  INSTANTIATE_TEST_SUITE_P(Devices, suite, testing::ValuesIn(OpDevices()), OpDeviceName); \
  INSTANTIATE_TEST_SUITE_P(Gpu, suite, testing::Values("Cuda"), OpDeviceName)

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_OP_RUNNER_HELPER_H_
