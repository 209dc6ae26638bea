// How devices lay out quantised activations: x = scale * q over groups of 32 columns, with
// the sums of q that zero points and offsets of weights multiply. In 8 bits q is in [-127, 127]; in
// 16 bits q = 255 * high + low with both in [-127, 127]: two planes of int8, so that the byte
// products of the instruction sets serve both widths. Private to the matrix products; others treat
// it as bytes (kernels/ops.h).
#ifndef WEIR_KERNELS_QUANTIZED_ACTIVATIONS_H_
#define WEIR_KERNELS_QUANTIZED_ACTIVATIONS_H_

#include <cstdint>

#include "io/base.h"
#include "kernels/ops.h"

namespace weir {

inline constexpr int32_t kPlaneBase = 255;
inline constexpr int32_t kMaxQ8 = 127;
inline constexpr int32_t kMaxQ16 = kPlaneBase * 127 + 127;

// 1 (8 bits) or 2 (16 bits).
constexpr uint32_t PlanesOf(ActivationFormat format) {
  return format == ActivationFormat::kQ16 ? 2 : 1;
}

// On the CPU products of so many tokens or more decode weights to memory first, and take 16-bit
// activations as words (kernels/wide_tile-inl.h): records hold q as it is. Where the planes would
// be, in lines of 32 columns: int16 [columns / 32][16 even columns, 16 odd ones].
inline constexpr uint32_t kManyTokens = 16;
constexpr bool HoldsWords(ActivationFormat format, uint32_t tokens) {
  return format == ActivationFormat::kQ16 && tokens >= kManyTokens;
}

// Byte offsets inside one token's record. `columns` is a multiple of 32.
class QuantizedLayout {
 public:
  constexpr QuantizedLayout(uint64_t columns, uint32_t planes)
      : columns_(columns), planes_(planes) {}

  constexpr uint64_t words() const { return 0; }
  constexpr uint64_t values() const { return 0; }  // int8 [columns]: q, or high
  constexpr uint64_t low_values() const { return AlignUp(columns_, 64); }  // with 2 planes
  constexpr uint64_t scales() const {                                      // float [columns / 32]
    return planes_ * AlignUp(columns_, 64);
  }
  // float [columns / group]: scale * (sum of q over the group)
  constexpr uint64_t scaled_sums(uint32_t group) const {
    return scales() + Words() + (group == 16 ? Words() : 0);
  }
  // int32 [columns / group]: -(sum of q over the group)
  constexpr uint64_t negative_sums(uint32_t group) const {
    return scales() + 4 * Words() + (group == 16 ? Words() : 0);
  }
  constexpr uint64_t token_bytes() const { return AlignUp(scales() + 7 * Words(), 64); }

 private:
  constexpr uint64_t Words() const { return columns_ / 32 * 4; }  // of one array over groups of 32
  uint64_t columns_;
  uint32_t planes_;
};

// The CUDA device's layout of a token: a record for each line of 128 columns, so that all that a
// thread needs lies at fixed distances. Always two planes (with 8 bits, high is zero). The records'
// size puts four lines, which eight lanes read at a time, into different banks of L1 for the
// formats whose lanes take 64 columns in order (kernels/cuda_unpack.h); for others two may meet in
// one.
struct CudaQuantizedLine {
  static constexpr uint32_t kColumns = 128;
  int8_t high[kColumns];
  int8_t low[kColumns];
  struct Group {  // 32 columns
    float scale;
    float sum;      // of q, exact
    float half[2];  // of the first 16 and of the others
  };
  Group groups[kColumns / 32];
  uint8_t padding[16];
};
static_assert(sizeof(CudaQuantizedLine) == 336);

constexpr uint64_t CudaQuantizedBytes(uint64_t columns) {  // of a token
  return CeilDiv(columns, CudaQuantizedLine::kColumns) * sizeof(CudaQuantizedLine);
}

}  // namespace weir

#endif  // WEIR_KERNELS_QUANTIZED_ACTIVATIONS_H_
