// The device contract's tests (tests/kernels/device_*_test.cc) in this program are about the CUDA
// device on the fake runtime. It is the second GPU there, so that a call that forgets to make it
// current is noticed.
#include "kernels/cuda_device.h"
#include "kernels/cuda_stream.h"
#include "tests/cuda/fake_runtime.h"
#include "tests/kernels/device_helper.h"

namespace weir {
namespace {

struct StepArgs {
  uint64_t* cell;
  uint64_t addend;
};
constexpr fake_cuda::Kernel kStep = {[](const void* argument) {
                                       const auto& args = *static_cast<const StepArgs*>(argument);
                                       *args.cell = *args.cell * 3 + args.addend;
                                     },
                                     sizeof(StepArgs)};

void StepOnFake(Stream& stream, uint64_t* cell, uint64_t addend) {
  const StepArgs args = {cell, addend};
  fake_cuda::Launch(static_cast<CudaStream&>(stream), kStep, &args);
}

void HoldOnFake(Stream& stream, const std::atomic<uint32_t>* gate) {
  fake_cuda::LaunchHold(static_cast<CudaStream&>(stream), gate);
}

}  // namespace

std::vector<DeviceUnderTest> HostDevicesUnderTest() {
  return {{.name = "FakeCuda",
           .make =
               [] {
                 return MakeCudaDevice({.ordinal = 1,
                                        .memory_bytes = kDeviceTestBytes,
                                        .scratch_bytes = CudaStream::kLeastScratchBytes});
               },
           .enqueue_step = StepOnFake,
           .enqueue_hold = HoldOnFake}};
}

std::vector<DeviceUnderTest> GpuDevicesUnderTest() { return {}; }

}  // namespace weir
