// kernels/cuda_intrinsics.h for the host grid, whose threads are fibers. Included by it. Loads
// check the alignment that the device demands.
#ifndef WEIR_KERNELS_CUDA_INTRINSICS_HOST_H_
#define WEIR_KERNELS_CUDA_INTRINSICS_HOST_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/host_grid.h"

namespace weir::host_grid {

inline uint32_t ThreadIndex() { return Position().thread; }
inline uint32_t ThreadCount() { return Position().threads; }
inline uint32_t LaneIndex() { return Position().thread % kWarpThreads; }
inline uint32_t WarpIndex() { return Position().thread / kWarpThreads; }
inline uint32_t BlockX() { return Position().block_x; }
inline uint32_t BlockY() { return Position().block_y; }
inline uint32_t BlockCountX() { return Position().blocks_x; }
inline uint32_t BlockCountY() { return Position().blocks_y; }

inline void WaitForPrevious() { NoteWaitForPrevious(); }
inline void LetNextBegin() {}

inline uint8_t* DynamicShared() { return DynamicSharedMemory(); }
inline void SyncBlock() { WaitForBlock(); }
inline void SyncWarp() { Exchange(Collective::kSync, nullptr, 0); }

template <typename T>
T ShuffleFrom(T value, uint32_t lane) {
  static_assert(sizeof(T) == 4);
  const uint8_t* all = Exchange(Collective::kShuffle, &value, sizeof(T));
  memcpy(&value, all + lane % kWarpThreads * kExchangeStride, sizeof(T));
  return value;
}
template <typename T>
T ShuffleXor(T value, uint32_t lane_mask) {
  return ShuffleFrom(value, LaneIndex() ^ lane_mask);
}
inline bool AnyInWarp(bool value) {
  const uint8_t* all = Exchange(Collective::kVote, &value, 1);
  bool any = false;
  for (uint32_t lane = 0; lane < kWarpThreads; ++lane) any |= all[lane * kExchangeStride] != 0;
  return any;
}

inline void CheckAligned(const void* address, uint64_t alignment) {
  WEIR_CHECK(reinterpret_cast<uintptr_t>(address) % alignment == 0);
}
template <typename T>
T Load(const T* from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  CheckAligned(from, sizeof(T));
  return *from;
}
template <typename T>
T LoadCached(const T* from) {
  return Load(from);
}
template <typename T>
T LoadOnce(const T* from) {
  return LoadCached(from);
}

inline void CopyAsync16(void* shared, const void* global, uint32_t bytes) {
  CheckAligned(shared, 16);
  CheckAligned(global, 16);
  WEIR_CHECK(bytes <= 16);
  CopyLater(static_cast<uint8_t*>(shared), static_cast<const uint8_t*>(global), bytes, 16 - bytes);
}
inline void CommitCopies() { CommitCopyGroup(); }
template <uint32_t kGroupsLeft>
void WaitForCopies() {
  WaitForCopyGroups(kGroupsLeft);
}

inline uint32_t AtomicAdd(uint32_t* to, uint32_t value) {
  const uint32_t before = *to;
  *to = before + value;
  return before;
}
inline void ThreadFence() {}

inline int32_t Dp4a(uint32_t a, uint32_t b, int32_t sum) {
  for (uint32_t i = 0; i < 32; i += 8) {
    sum += int32_t{static_cast<int8_t>(a >> i)} * static_cast<int8_t>(b >> i);
  }
  return sum;
}
inline uint32_t FunnelShiftRight(uint32_t low, uint32_t high, uint32_t bits) {
  return static_cast<uint32_t>((low | (uint64_t{high} << 32)) >> (bits % 32));
}
inline uint32_t BytePermute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = a | (uint64_t{b} << 32);
  uint32_t result = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t from = (selector >> (4 * i)) & 7;
    result |= static_cast<uint32_t>((bytes >> (8 * from)) & 0xFF) << (8 * i);
  }
  return result;
}

inline float BitsToFloat(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
inline uint32_t FloatToBits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float HalfToFloat(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t magnitude = half & 0x7FFFu;
  if (magnitude >= 0x7C00) return BitsToFloat(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
  // Exponents differ by 112: exact for normal and denormal numbers alike.
  return BitsToFloat(sign | FloatToBits(BitsToFloat(magnitude << 13) * 0x1p112f));
}
inline uint16_t FloatToHalf(float value) {
  const uint32_t bits = FloatToBits(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return 0x7FFF;                                 // NaN
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);  // 65520 and above
  if (magnitude < 0x38800000) {  // below 2^-14: a multiple of 2^-24
    const float scaled = BitsToFloat(magnitude) * 0x1p24f;
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(scaled)));
  }
  const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}
inline uint32_t FloatsToHalves(float low, float high) {
  return FloatToHalf(low) | uint32_t{FloatToHalf(high)} << 16;
}
inline float BFloatToFloat(uint16_t bfloat) { return BitsToFloat(uint32_t{bfloat} << 16); }
inline int32_t RoundToInt(float value) {
  if (std::isnan(value)) return 0;
  if (value >= 0x1p31f) return INT32_MAX;
  if (value < -0x1p31f) return INT32_MIN;
  return static_cast<int32_t>(std::nearbyint(value));
}
inline float Fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float Exp(float value) { return std::exp(value); }
inline float Exp2(float value) { return std::exp2(value); }
inline float Tanh(float value) { return std::tanh(value); }
inline float SquareRoot(float value) { return std::sqrt(value); }
inline void SinCos(float angle, float* sine, float* cosine) {
  *sine = std::sin(angle);
  *cosine = std::cos(angle);
}

// The two halves of a register, by index.
inline float HalfOf(uint32_t word, uint32_t index) {
  return HalfToFloat(static_cast<uint16_t>(word >> (16 * index)));
}
struct MatrixFragment {
  uint32_t a[4];
  uint32_t b[2];
};
inline void MatrixProduct(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const MatrixFragment mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const uint8_t* all = Exchange(Collective::kMatrixProduct, &mine, sizeof(mine));
  const auto fragment = [all](uint32_t lane) {
    MatrixFragment result;
    memcpy(&result, all + lane * kExchangeStride, sizeof(result));
    return result;
  };
  const uint32_t g = LaneIndex() / 4, t = LaneIndex() % 4;
  for (uint32_t k4 = 0; k4 < 4; ++k4) {  // columns 2 * k4, 2 * k4 + 1 and 8 more than each
    const MatrixFragment row = fragment(4 * g + k4);
    const MatrixFragment column[2] = {fragment(4 * (2 * t) + k4), fragment(4 * (2 * t + 1) + k4)};
    for (uint32_t i = 0; i < 4; ++i) {
      for (uint32_t half = 0; half < 2; ++half) {
        for (uint32_t high = 0; high < 2; ++high) {
          d[i] += HalfOf(row.a[i / 2 + 2 * high], half) * HalfOf(column[i % 2].b[high], half);
        }
      }
    }
  }
}

// Element of matrix `matrix`, whose row `row` lane 8 * matrix + row gave.
inline uint32_t MatrixElement(const uint8_t* all, uint32_t matrix, uint32_t row, uint32_t column) {
  uint16_t half;
  memcpy(&half, all + (8 * matrix + row) * kExchangeStride + 2 * column, sizeof(half));
  return half;
}
inline void LoadMatrices(uint32_t (&out)[4], const void* shared_row) {
  CheckAligned(shared_row, 16);
  const uint8_t* all = Exchange(Collective::kMatrixLoad, shared_row, 16);
  const uint32_t g = LaneIndex() / 4, t = LaneIndex() % 4;
  for (uint32_t j = 0; j < 4; ++j) {
    out[j] = MatrixElement(all, j, g, 2 * t) | (MatrixElement(all, j, g, 2 * t + 1) << 16);
  }
}
inline void LoadMatricesTransposed(uint32_t (&out)[4], const void* shared_row) {
  CheckAligned(shared_row, 16);
  const uint8_t* all = Exchange(Collective::kMatrixLoad, shared_row, 16);
  const uint32_t g = LaneIndex() / 4, t = LaneIndex() % 4;
  for (uint32_t j = 0; j < 4; ++j) {
    out[j] = MatrixElement(all, j, 2 * t, g) | (MatrixElement(all, j, 2 * t + 1, g) << 16);
  }
}

}  // namespace weir::host_grid

#endif  // WEIR_KERNELS_CUDA_INTRINSICS_HOST_H_
