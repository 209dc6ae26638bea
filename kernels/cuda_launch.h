// The one way to launch a kernel. A kernel is a function of one struct:
//
//   WEIR_KERNEL(256, 4) void AddKernel(AddArgs args);      (kernels/cuda_intrinsics.h)
//   Launch(stream, {.blocks_x = 8, .threads = 256}, AddKernel, args);
#ifndef WEIR_KERNELS_CUDA_LAUNCH_H_
#define WEIR_KERNELS_CUDA_LAUNCH_H_

#include <type_traits>

#include "kernels/cuda_namespace.h"
#include "kernels/cuda_stream.h"

namespace weir::WEIR_CUDA_NAMESPACE {

// No blocks is no work: nothing is launched.
template <typename Args>
void Launch(CudaStream& stream, const LaunchShape& shape, void (*kernel)(Args),
            const std::type_identity_t<Args>& args) {
  static_assert(std::is_trivially_copyable_v<Args>);
  if (shape.blocks_x == 0 || shape.blocks_y == 0) return;
  KernelCall call = {reinterpret_cast<const void*>(kernel), &args, nullptr, sizeof(Args)};
#ifdef WEIR_HOST_GRID
  call.run_thread = [](const void* function, const void* argument) {
    reinterpret_cast<void (*)(Args)>(const_cast<void*>(function))(
        *static_cast<const Args*>(argument));
  };
#endif
  stream.Launch(call, shape);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_CUDA_LAUNCH_H_
