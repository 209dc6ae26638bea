// The probe kernels of the device contract (device_helper.h), for the GPU.
#include <atomic>
#include <cstdint>

#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/cuda_stream.h"
#include "kernels/device.h"

namespace weir {
namespace {

struct StepArgs {
  uint64_t* cell;
  uint64_t addend;
};
WEIR_KERNEL(32, 1) void StepKernel(StepArgs args) {
  if (cuda::ThreadIndex() == 0) *args.cell = *args.cell * 3 + args.addend;
}

struct HoldArgs {
  const volatile uint32_t* gate;
};
WEIR_KERNEL(32, 1) void HoldKernel(HoldArgs args) {
  while (cuda::ThreadIndex() == 0 && *args.gate == 0) {
  }
}

struct TrapArgs {};
WEIR_KERNEL(32, 1) void TrapKernel(TrapArgs) { __trap(); }

CudaStream& Cuda(Stream& stream) { return static_cast<CudaStream&>(stream); }

}  // namespace

void StepOnCuda(Stream& stream, uint64_t* cell, uint64_t addend) {
  cuda::Launch(Cuda(stream), {}, StepKernel, {cell, addend});
}

// Pinned memory has the same address on the GPU.
void HoldOnCuda(Stream& stream, const std::atomic<uint32_t>* gate) {
  cuda::Launch(Cuda(stream), {}, HoldKernel, {reinterpret_cast<const volatile uint32_t*>(gate)});
}

void TrapOnCuda(Stream& stream) { cuda::Launch(Cuda(stream), {}, TrapKernel, {}); }

}  // namespace weir
