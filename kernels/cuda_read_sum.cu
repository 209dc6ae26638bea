// Reads memory as fast as it delivers and does nothing else worth a name: what other kernels are
// measured against. Enough blocks that each multiprocessor is full, 16 bytes a load, four loads of
// a thread in flight.
#include <algorithm>

#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kBlocks = 8;  // of a multiprocessor
constexpr uint32_t kLoads = 4;   // in flight

WEIR_DEVICE uint32_t Total(const Words4& words) { return words.x + words.y + words.z + words.w; }

WEIR_KERNEL(kThreads, kBlocks) void ReadSumKernel(ReadSumArgs args) {
  const auto* const words = reinterpret_cast<const Words4*>(args.data);
  const uint64_t count = args.bytes / sizeof(Words4);
  const uint64_t step = uint64_t{BlockCountX()} * kThreads;
  uint64_t i = uint64_t{BlockX()} * kThreads + ThreadIndex();
  uint32_t sum = 0;
  for (; i + (kLoads - 1) * step < count; i += kLoads * step) {
    Words4 loaded[kLoads];
    WEIR_UNROLL
    for (uint32_t k = 0; k < kLoads; ++k) loaded[k] = LoadOnce(words + i + k * step);
    WEIR_UNROLL
    for (uint32_t k = 0; k < kLoads; ++k) sum += Total(loaded[k]);
  }
  for (; i < count; i += step) sum += Total(LoadOnce(words + i));
  for (uint32_t mask = kWarpThreads / 2; mask > 0; mask /= 2) sum += ShuffleXor(sum, mask);
  if (LaneIndex() == 0) AtomicAdd(args.sum, sum);
}

}  // namespace

void ReadSumCuda(CudaStream& stream, const ReadSumArgs& args) {
  WEIR_CHECK(reinterpret_cast<uint64_t>(args.data) % sizeof(Words4) == 0);
  WEIR_CHECK(args.bytes % sizeof(Words4) == 0);
  LaunchShape shape;
  const uint64_t useful = CeilDiv(args.bytes / sizeof(Words4), kThreads);
  shape.blocks_x =
      static_cast<uint32_t>(std::min<uint64_t>(stream.multiprocessors() * kBlocks, useful));
  shape.threads = kThreads;
  Launch(stream, shape, ReadSumKernel, args);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
