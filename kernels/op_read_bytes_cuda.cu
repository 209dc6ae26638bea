// ReadBytes: the rate at which a kernel that does nothing else reads memory. 132 x 8 blocks or 1024
// threads a multiprocessor reach the ceiling of an H100, fewer threads do not.
#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kBlocks = 8;    // of a multiprocessor, where so many find room
constexpr uint32_t kUnrolled = 4;  // loads of a thread that are under way together

// Six blocks are the 1536 threads that a multiprocessor of compute capability 8.6 or 8.9 has.
WEIR_KERNEL(kThreads, 6) void ReadKernel(ReadBytesArgs args) {
  const auto* const words = reinterpret_cast<const Words4*>(args.data);
  const uint64_t count = args.bytes / sizeof(Words4);
  const uint64_t stride = uint64_t{BlockCountX()} * kThreads;
  uint32_t sum = 0;
  uint64_t i = uint64_t{BlockX()} * kThreads + ThreadIndex();
  for (; i + (kUnrolled - 1) * stride < count; i += kUnrolled * stride) {
    Words4 loaded[kUnrolled];
    WEIR_UNROLL
    for (uint32_t j = 0; j < kUnrolled; ++j) loaded[j] = LoadOnce(words + i + j * stride);
    WEIR_UNROLL
    for (uint32_t j = 0; j < kUnrolled; ++j) {
      sum += loaded[j].x + loaded[j].y + loaded[j].z + loaded[j].w;
    }
  }
  for (; i < count; i += stride) {
    const Words4 loaded = LoadOnce(words + i);
    sum += loaded.x + loaded.y + loaded.z + loaded.w;
  }
  for (uint32_t mask = kWarpThreads / 2; mask > 0; mask /= 2) sum += ShuffleXor(sum, mask);
  if (LaneIndex() == 0) AtomicAdd(args.sum, sum);
}

}  // namespace

void ReadBytesCuda(CudaStream& stream, const ReadBytesArgs& args) {
  WEIR_CHECK(args.bytes % 16 == 0 && reinterpret_cast<uintptr_t>(args.data) % 16 == 0);
  LaunchShape shape;
  shape.blocks_x = stream.multiprocessors() * kBlocks;
  shape.threads = kThreads;
  Launch(stream, shape, ReadKernel, args);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
