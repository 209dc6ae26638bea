// What kernels compiled for the host (kernels/cuda_intrinsics.h) ask of what runs them, the fibers
// of tests/kernels/host_grid/. Called by a running kernel's threads only.
#ifndef WEIR_KERNELS_HOST_GRID_H_
#define WEIR_KERNELS_HOST_GRID_H_

#include <cstdint>

namespace weir::host_grid {

struct ThreadPosition {
  uint32_t thread;  // in the block
  uint32_t threads;
  uint32_t block_x;
  uint32_t block_y;
  uint32_t blocks_x;
  uint32_t blocks_y;
};
const ThreadPosition& Position();

// Of an early launch (kernels/cuda_stream.h): a thread that ends without fails the run.
void NoteWaitForPrevious();

// The block's dynamic shared memory.
uint8_t* DynamicSharedMemory();

// What all 32 threads of a warp do together. Threads that meet in different ones have diverged.
enum class Collective : uint8_t { kSync, kShuffle, kVote, kMatrixProduct, kMatrixLoad };

// Returns when every thread of the block has called it. A thread that ends without fails the run.
void WaitForBlock();

// Returns when every thread of the warp has called it, of the same kind and with as many bytes:
// what each of them gave, `kExchangeStride` apart. Valid until this thread's next collective.
inline constexpr uint32_t kExchangeStride = 32;  // most bytes that a thread gives
const uint8_t* Exchange(Collective collective, const void* mine, uint32_t bytes);

// Asynchronous copies to shared memory: they happen when the thread waits for them and not before,
// so that a kernel that forgets to is found out.
void CopyLater(uint8_t* shared, const uint8_t* global, uint32_t bytes, uint32_t zero_bytes);
void CommitCopyGroup();
void WaitForCopyGroups(uint32_t groups_left);

}  // namespace weir::host_grid

#endif  // WEIR_KERNELS_HOST_GRID_H_
