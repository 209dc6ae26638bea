// kernels/cuda_device.h of a build without CUDA.
#include "absl/status/status.h"
#include "kernels/cuda_device.h"

namespace weir {
namespace {

absl::Status NotBuilt() {
  return absl::UnimplementedError(
      "this weir was built without CUDA, since no CUDA toolkit was found. Use --device cpu or "
      "--device emulated, or build it again with nvcc on PATH.");
}

}  // namespace

absl::StatusOr<std::vector<CudaDeviceInfo>> ListCudaDevices() { return NotBuilt(); }

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const CudaDeviceOptions&) {
  return NotBuilt();
}

}  // namespace weir
