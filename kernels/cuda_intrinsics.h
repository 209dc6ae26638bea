// Every device intrinsic that kernels use, by name. Compiled by nvcc these are the instructions;
// compiled for the host grid (WEIR_HOST_GRID) they do the same between fibers, one fiber a thread.
// Blocks are one-dimensional and whole warps; "all" means every thread of the block or warp.
//
//   WEIR_KERNEL(threads, blocks) void Name(Args args)   a kernel: at most `threads` a block, and as
//                                                       few registers as `blocks` a multiprocessor
//                                                       need
//   WEIR_DEVICE                                         a function that kernels call
//   WEIR_SHARED float tile[32]                          shared memory of the block, in a function;
//                                                       holds garbage at first
#ifndef WEIR_KERNELS_CUDA_INTRINSICS_H_
#define WEIR_KERNELS_CUDA_INTRINSICS_H_

#include <cstdint>

#include "kernels/cuda_namespace.h"

#ifdef WEIR_HOST_GRID
#define WEIR_KERNEL(threads, blocks)
#define WEIR_DEVICE inline
#define WEIR_SHARED static
#define WEIR_UNROLL
#define WEIR_NO_UNROLL
#else
#define WEIR_KERNEL(threads, blocks) __global__ __launch_bounds__(threads, blocks)
#define WEIR_DEVICE __device__ __forceinline__
#define WEIR_SHARED __shared__
#define WEIR_UNROLL _Pragma("unroll")
#define WEIR_NO_UNROLL _Pragma("unroll 1")
#endif

namespace weir::WEIR_CUDA_NAMESPACE {

inline constexpr uint32_t kWarpThreads = 32;

// 16 and 8 bytes that one instruction moves.
struct alignas(16) Words4 {
  uint32_t x, y, z, w;
};
struct alignas(8) Words2 {
  uint32_t x, y;
};
struct alignas(16) Floats4 {
  float x, y, z, w;
};

// ---- where a thread is
WEIR_DEVICE uint32_t ThreadIndex();  // in the block
WEIR_DEVICE uint32_t ThreadCount();  // of the block
WEIR_DEVICE uint32_t LaneIndex();    // in the warp
WEIR_DEVICE uint32_t WarpIndex();    // in the block
WEIR_DEVICE uint32_t BlockX();
WEIR_DEVICE uint32_t BlockY();
WEIR_DEVICE uint32_t BlockCountX();
WEIR_DEVICE uint32_t BlockCountY();

// ---- before and after, in the stream (LaunchShape::early)
// Until all that was enqueued before this kernel is done and seen. Of what it wrote, nothing may be
// read by LoadCached.
WEIR_DEVICE void WaitForPrevious();
// The next kernel may begin, if it is an early one, as soon as all blocks have called this or
// ended.
WEIR_DEVICE void LetNextBegin();

// ---- shared memory and barriers
WEIR_DEVICE uint8_t* DynamicShared();  // LaunchShape::shared_bytes of the block, 16-byte aligned
WEIR_DEVICE void SyncBlock();          // all of the block: what any wrote before, all read after
WEIR_DEVICE void SyncWarp();           // the same for the warp

// ---- between the lanes of a warp; called by all
template <typename T>  // of 4 bytes
WEIR_DEVICE T ShuffleXor(T value, uint32_t lane_mask);
template <typename T>
WEIR_DEVICE T ShuffleFrom(T value, uint32_t lane);
WEIR_DEVICE bool AnyInWarp(bool value);

// ---- memory
// One instruction for a T of 4, 8 or 16 bytes, aligned to its size.
template <typename T>
WEIR_DEVICE T Load(const T* from);
// The same of data that nothing writes from the kernel's beginning on.
template <typename T>
WEIR_DEVICE T LoadCached(const T* from);
// Of data read once.
template <typename T>
WEIR_DEVICE T LoadOnce(const T* from);

// Copies 16 bytes from global to shared memory, both 16-byte aligned, without waiting; of those
// only the first `bytes` are read, the rest becomes zero. Groups of copies complete in order.
WEIR_DEVICE void CopyAsync16(void* shared, const void* global, uint32_t bytes);
WEIR_DEVICE void CommitCopies();  // closes a group of this thread's copies
// Until at most kGroupsLeft groups of this thread are incomplete. Others see them after a barrier.
template <uint32_t kGroupsLeft>
WEIR_DEVICE void WaitForCopies();

// Adds and returns the value before; ThreadFence orders this thread's writes for other blocks.
WEIR_DEVICE uint32_t AtomicAdd(uint32_t* to, uint32_t value);
WEIR_DEVICE void ThreadFence();

// ---- integers
// sum + the four products of signed bytes.
WEIR_DEVICE int32_t Dp4a(uint32_t a, uint32_t b, int32_t sum);
// The lower word of the 64 bits high:low shifted right by `bits` mod 32.
WEIR_DEVICE uint32_t FunnelShiftRight(uint32_t low, uint32_t high, uint32_t bits);
// Byte i of the result is the byte of b:a that nibble i of `selector` numbers (0 to 7).
WEIR_DEVICE uint32_t BytePermute(uint32_t a, uint32_t b, uint32_t selector);

// ---- numbers
WEIR_DEVICE float BitsToFloat(uint32_t bits);
WEIR_DEVICE uint32_t FloatToBits(float value);
WEIR_DEVICE float HalfToFloat(uint16_t half);
WEIR_DEVICE uint16_t FloatToHalf(float value);  // nearest, ties to even; too large: infinity
// Two at once: `low` in the lower half of the word.
WEIR_DEVICE uint32_t FloatsToHalves(float low, float high);
WEIR_DEVICE float BFloatToFloat(uint16_t bfloat);
WEIR_DEVICE int32_t RoundToInt(float value);  // nearest, ties to even; NaN: 0
WEIR_DEVICE float Fma(float a, float b, float c);
WEIR_DEVICE float Exp(float value);   // 2 ulp
WEIR_DEVICE float Exp2(float value);  // 2 ulp; exact for 0 and for infinities
WEIR_DEVICE float Tanh(float value);  // 2 ulp
WEIR_DEVICE float SquareRoot(float value);
WEIR_DEVICE void SinCos(float angle, float* sine, float* cosine);  // radians of any size; 2 ulp

// ---- matrix products of a warp; called by all
// d += a * b, m16n8k16 with float16 factors and float32 sums. With g = lane / 4 and t = lane % 4,
// two elements a register, lower half first:
//   a[0], a[1]: rows g, g + 8 of columns 2t, 2t + 1;  a[2], a[3]: the same of columns 2t + 8, + 9
//   b[0]: k = 2t, 2t + 1 of column g;  b[1]: k = 2t + 8, 2t + 9
//   d[0], d[1]: row g of columns 2t, 2t + 1;  d[2], d[3]: row g + 8
WEIR_DEVICE void MatrixProduct(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
// Four matrices of 8 x 8 halves from shared memory. Lane i gives the address of row i % 8 (16
// bytes, aligned) of matrix i / 8. out[j]: row g, columns 2t and 2t + 1 of matrix j; transposed: of
// its transpose.
WEIR_DEVICE void LoadMatrices(uint32_t (&out)[4], const void* shared_row);
WEIR_DEVICE void LoadMatricesTransposed(uint32_t (&out)[4], const void* shared_row);

// ---- made of the above
WEIR_DEVICE float WarpSum(float value) {  // by halving, the same in every lane
  for (uint32_t mask = kWarpThreads / 2; mask > 0; mask /= 2) value += ShuffleXor(value, mask);
  return value;
}
WEIR_DEVICE float WarpMax(float value) {  // a NaN is passed over
  for (uint32_t mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const float other = ShuffleXor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

}  // namespace weir::WEIR_CUDA_NAMESPACE

#ifdef WEIR_HOST_GRID
#include "kernels/cuda_intrinsics_host.h"
#else
#include "kernels/cuda_intrinsics_device.h"
#endif

#endif  // WEIR_KERNELS_CUDA_INTRINSICS_H_
