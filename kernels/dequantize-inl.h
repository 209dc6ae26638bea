// DequantizeBlocks for the instruction set being compiled: the body of kernels/dequantize.h, also
// used by matrix products with float activations.
#if defined(WEIR_KERNELS_DEQUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_DEQUANTIZE_INL_H_
#undef WEIR_KERNELS_DEQUANTIZE_INL_H_
#else
#define WEIR_KERNELS_DEQUANTIZE_INL_H_
#endif

#include <algorithm>

#include "kernels/targets.h"
#include "kernels/unpack-inl.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

// out = scale * (u - zero) + offset over `groups` groups, in that order of roundings.
template <uint32_t kGroup, bool kHasOffset>
void GroupsToFloat(const uint8_t* values, const float* scales, const float* offsets, uint32_t zero,
                   uint32_t groups, float* out) {
  const F32x8 d;
  const auto vzero = hn::Set(I32x8(), static_cast<int32_t>(zero));
  for (uint32_t g = 0; g < groups; ++g) {
    const auto scale = hn::Set(d, scales[g]);
    for (uint32_t i = g * kGroup; i < (g + 1) * kGroup; i += 8) {
      const auto u = hn::PromoteTo(I32x8(), hn::LoadU(D8x8(), values + i));
      auto w = hn::Mul(scale, hn::ConvertTo(d, hn::Sub(u, vzero)));
      // Adding a zero offset would turn -0 into +0.
      if constexpr (kHasOffset) w = hn::Add(w, hn::Set(d, offsets[g]));
      hn::StoreU(w, d, out + i);
    }
  }
}

inline void HalvesToFloat(const uint8_t* row, uint32_t elements, float* out) {
  uint32_t i = 0;
  for (; i + 8 <= elements; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
  }
  for (; i < elements; ++i) out[i] = HalfToFloat(row + 2 * i);
}

inline void BFloatsToFloat(const uint8_t* row, uint32_t elements, float* out) {
  uint32_t i = 0;
  for (; i + 8 <= elements; i += 8) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * i));
    const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), wide);
  }
  for (; i < elements; ++i) {
    uint32_t bits = (uint32_t{row[2 * i]} << 16) | (uint32_t{row[2 * i + 1]} << 24);
    memcpy(out + i, &bits, sizeof(bits));
  }
}

constexpr uint32_t kDequantizeChunk = 1024;  // elements; a multiple of every block

// `elements` is a whole number of blocks.
inline void DequantizeBlocks(DType dtype, const uint8_t* row, uint32_t elements, float* out) {
  if (dtype == DType::kF32) {
    memcpy(out, row, uint64_t{4} * elements);
    return;
  }
  if (dtype == DType::kF16) return HalvesToFloat(row, elements, out);
  if (dtype == DType::kBF16) return BFloatsToFloat(row, elements, out);
  alignas(64) uint8_t values[kDequantizeChunk];
  alignas(64) float scales[kDequantizeChunk / 16];
  alignas(64) float offsets[kDequantizeChunk / 16];
  const DTypeInfo& info = GetDTypeInfo(dtype);
  const GroupForm form = GroupFormOf(dtype);
  const UnpackFn unpack = GetUnpack(dtype);
  const uint32_t zero = form.zero_shift ? 1u << form.zero_shift : 0;
  for (uint32_t i = 0; i < elements; i += kDequantizeChunk) {
    const uint32_t count = std::min(kDequantizeChunk, elements - i);
    const uint64_t first_block = i / info.block_elements;
    unpack(row + first_block * info.block_bytes, count / info.block_elements, values, scales,
           offsets);
    const uint32_t groups = count / form.group_elements;
    const auto to_float =
        form.group_elements == 16
            ? (form.has_offset ? &GroupsToFloat<16, true> : &GroupsToFloat<16, false>)
            : (form.has_offset ? &GroupsToFloat<32, true> : &GroupsToFloat<32, false>);
    to_float(values, scales, offsets, zero, groups, out + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
