#include "tests/kernels/op_runner_helper.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/cuda_device.h"
#ifdef WEIR_HAVE_HOST_GRID
#include "tests/kernels/host_grid/device.h"
#endif

namespace weir {

std::vector<std::string> OpDevices() {
#ifdef WEIR_HAVE_HOST_GRID
  return {"Cpu", "HostGrid"};
#else
  return {"Cpu"};
#endif
}

bool HaveOpDevice(const std::string& device) {
  static const bool kHaveCuda = ListCudaDevices().ok();
  if (device == "Cuda") return kHaveCuda;
  const std::vector<std::string> devices = OpDevices();
  return std::find(devices.begin(), devices.end(), device) != devices.end();
}

OpRunner::OpRunner(std::unique_ptr<Device> device)
    : device_(std::move(device)), stream_(device_->NewStream()) {}

uint8_t* OpRunner::Allocate(uint64_t bytes) {
  auto buffer = device_->Allocate(bytes, 256, Touch::kNow);
  WEIR_CHECK(buffer.ok());
  buffers_.push_back(*std::move(buffer));
  return buffers_.back()->data();
}

uint8_t* OpRunner::UploadBytes(const void* bytes, uint64_t count, uint64_t misalign_bytes) {
  uint8_t* const device = Allocate(count + misalign_bytes) + misalign_bytes;
  stream_->CopyIn(device, static_cast<const uint8_t*>(bytes), count);
  stream_->Wait(stream_->Record());  // `bytes` may go
  return device;
}

void OpRunner::DownloadBytes(void* to, const void* from, uint64_t bytes) {
  stream_->CopyOut(static_cast<uint8_t*>(to), static_cast<const uint8_t*>(from), bytes);
  stream_->Wait(stream_->Record());
}

std::unique_ptr<OpRunner> MakeOpRunner(const std::string& device, uint32_t threads,
                                       const std::string& isa) {
  if (device == "Cpu") {
    CpuDeviceOptions options;
    options.threads = threads;
    options.isa = isa;
    auto cpu = MakeCpuDevice(options);
    WEIR_CHECK(cpu.ok());
    return std::make_unique<OpRunner>(*std::move(cpu));
  }
#ifdef WEIR_HAVE_HOST_GRID
  if (device == "HostGrid") return std::make_unique<OpRunner>(host_grid::MakeHostGridDevice({}));
#endif
  if (device == "Cuda") {
    CudaDeviceOptions options;
    options.memory_bytes = 2 * kGiB;
    auto cuda = MakeCudaDevice(options);
    if (!cuda.ok()) fprintf(stderr, "%s\n", cuda.status().ToString().c_str());
    WEIR_CHECK(cuda.ok());
    return std::make_unique<OpRunner>(*std::move(cuda));
  }
  WEIR_CHECK(false && "no such device");
  return nullptr;
}

}  // namespace weir
