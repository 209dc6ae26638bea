// kernels/cuda_intrinsics.h as the device's instructions. Included by it, for nvcc.
#ifndef WEIR_KERNELS_CUDA_INTRINSICS_DEVICE_H_
#define WEIR_KERNELS_CUDA_INTRINSICS_DEVICE_H_

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda_intrinsics.h"

namespace weir::cuda {

inline constexpr uint32_t kAllLanes = 0xFFFFFFFF;

WEIR_DEVICE uint32_t ThreadIndex() { return threadIdx.x; }
WEIR_DEVICE uint32_t ThreadCount() { return blockDim.x; }
WEIR_DEVICE uint32_t LaneIndex() { return threadIdx.x % kWarpThreads; }
WEIR_DEVICE uint32_t WarpIndex() { return threadIdx.x / kWarpThreads; }
WEIR_DEVICE uint32_t BlockX() { return blockIdx.x; }
WEIR_DEVICE uint32_t BlockY() { return blockIdx.y; }
WEIR_DEVICE uint32_t BlockCountX() { return gridDim.x; }
WEIR_DEVICE uint32_t BlockCountY() { return gridDim.y; }

WEIR_DEVICE void WaitForPrevious() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}
WEIR_DEVICE void LetNextBegin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

WEIR_DEVICE uint8_t* DynamicShared() {
  extern __shared__ Words4 weir_dynamic_shared[];
  return reinterpret_cast<uint8_t*>(weir_dynamic_shared);
}
WEIR_DEVICE void SyncBlock() { __syncthreads(); }
WEIR_DEVICE void SyncWarp() { __syncwarp(); }

template <typename T>
WEIR_DEVICE T ShuffleXor(T value, uint32_t lane_mask) {
  static_assert(sizeof(T) == 4);
  return __shfl_xor_sync(kAllLanes, value, static_cast<int>(lane_mask));
}
template <typename T>
WEIR_DEVICE T ShuffleFrom(T value, uint32_t lane) {
  static_assert(sizeof(T) == 4);
  return __shfl_sync(kAllLanes, value, static_cast<int>(lane));
}
WEIR_DEVICE bool AnyInWarp(bool value) { return __any_sync(kAllLanes, value) != 0; }

// The built-in type of T's size, for the loads that have a cache policy.
template <uint32_t kBytes>
struct BuiltIn;
template <>
struct BuiltIn<4> {
  using Type = unsigned int;
};
template <>
struct BuiltIn<8> {
  using Type = uint2;
};
template <>
struct BuiltIn<16> {
  using Type = uint4;
};
template <typename T>
WEIR_DEVICE T Load(const T* from) {
  using Word = typename BuiltIn<sizeof(T)>::Type;
  const Word word = *reinterpret_cast<const Word*>(from);
  return *reinterpret_cast<const T*>(&word);
}
template <typename T>
WEIR_DEVICE T LoadCached(const T* from) {
  using Word = typename BuiltIn<sizeof(T)>::Type;
  const Word word = __ldg(reinterpret_cast<const Word*>(from));
  return *reinterpret_cast<const T*>(&word);
}
template <typename T>
WEIR_DEVICE T LoadOnce(const T* from) {
  using Word = typename BuiltIn<sizeof(T)>::Type;
  const Word word = __ldcs(reinterpret_cast<const Word*>(from));
  return *reinterpret_cast<const T*>(&word);
}

WEIR_DEVICE void CopyAsync16(void* shared, const void* global, uint32_t bytes) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(global),
               "r"(bytes)
               : "memory");
}
WEIR_DEVICE void CommitCopies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <uint32_t kGroupsLeft>
WEIR_DEVICE void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroupsLeft) : "memory");
}

WEIR_DEVICE uint32_t AtomicAdd(uint32_t* to, uint32_t value) { return atomicAdd(to, value); }
WEIR_DEVICE void ThreadFence() { __threadfence(); }

WEIR_DEVICE int32_t Dp4a(uint32_t a, uint32_t b, int32_t sum) {
  return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
}
WEIR_DEVICE uint32_t FunnelShiftRight(uint32_t low, uint32_t high, uint32_t bits) {
  return __funnelshift_r(low, high, bits);
}
WEIR_DEVICE uint32_t BytePermute(uint32_t a, uint32_t b, uint32_t selector) {
  return __byte_perm(a, b, selector);
}

WEIR_DEVICE float BitsToFloat(uint32_t bits) { return __uint_as_float(bits); }
WEIR_DEVICE uint32_t FloatToBits(float value) { return __float_as_uint(value); }
WEIR_DEVICE float HalfToFloat(uint16_t half) { return __half2float(__ushort_as_half(half)); }
WEIR_DEVICE uint16_t FloatToHalf(float value) { return __half_as_ushort(__float2half_rn(value)); }
WEIR_DEVICE uint32_t FloatsToHalves(float low, float high) {
  const __half2 halves = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&halves);
}
WEIR_DEVICE float BFloatToFloat(uint16_t bfloat) { return BitsToFloat(uint32_t{bfloat} << 16); }
WEIR_DEVICE int32_t RoundToInt(float value) { return __float2int_rn(value); }
WEIR_DEVICE float Fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
WEIR_DEVICE float Exp(float value) { return expf(value); }
WEIR_DEVICE float Exp2(float value) { return exp2f(value); }
WEIR_DEVICE float Tanh(float value) { return tanhf(value); }
WEIR_DEVICE float SquareRoot(float value) { return __fsqrt_rn(value); }
WEIR_DEVICE void SinCos(float angle, float* sine, float* cosine) { sincosf(angle, sine, cosine); }

WEIR_DEVICE void MatrixProduct(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
WEIR_DEVICE void LoadMatrices(uint32_t (&out)[4], const void* shared_row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}
WEIR_DEVICE void LoadMatricesTransposed(uint32_t (&out)[4], const void* shared_row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

}  // namespace weir::cuda

#endif  // WEIR_KERNELS_CUDA_INTRINSICS_DEVICE_H_
