// Encoding of Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32, eight at once. Included once for each
// instruction set; part of kernels/quantize_blocks.cc.
#if defined(WEIR_KERNELS_QUANTIZE_SMALL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_QUANTIZE_SMALL_INL_H_
#undef WEIR_KERNELS_QUANTIZE_SMALL_INL_H_
#else
#define WEIR_KERNELS_QUANTIZE_SMALL_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "kernels/quant_blocks.h"
#include "kernels/quantize_search-inl.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

template <OffsetKind kKind, int kLeastCode, int kGreatestCode>
struct SmallForm {
  static constexpr uint32_t kElements = kSmallBlock;
  static constexpr OffsetKind kOffset = kKind;
  static constexpr float kLow = kLeastCode, kHigh = kGreatestCode;
  static constexpr bool kScalesAreHalves = true;
  static constexpr uint32_t kRounds = 3;
};

// The first of the steps puts the ends of the range on the ends of the codes.
struct FormQ4_0 : SmallForm<OffsetKind::kNone, -8, 7> {
  static constexpr float kSteps[] = {-8, -7.5f, -8.6f, -7, -9.3f, 7, 7.7f, 8.5f};
};
struct FormQ5_0 : SmallForm<OffsetKind::kNone, -16, 15> {
  static constexpr float kSteps[] = {-16, -15.5f, -16.6f, -15, -17.3f, 15, 15.6f, 16.5f};
};
struct FormQ8_0 : SmallForm<OffsetKind::kNone, -127, 127> {
  static constexpr float kSteps[] = {127, 126.5f};
};
struct FormQ4_1 : SmallForm<OffsetKind::kAny, 0, 15> {
  static constexpr float kSteps[] = {15, 14, 16, 17, 18.5f};
};
struct FormQ5_1 : SmallForm<OffsetKind::kAny, 0, 31> {
  static constexpr float kSteps[] = {31, 30, 32, 33, 34.5f};
};

// Low nibbles of elements 0..15, high ones of 16..31.
inline void PackNibbles(const int32_t* codes, uint8_t qs[16]) {
  for (uint32_t i = 0; i < 16; ++i) {
    qs[i] = static_cast<uint8_t>((codes[i] & 0x0F) | ((codes[16 + i] & 0x0F) << 4));
  }
}
inline void PackFifthBits(const int32_t* codes, uint8_t qh[4]) {
  uint32_t bits = 0;
  for (uint32_t i = 0; i < 32; ++i) bits |= static_cast<uint32_t>((codes[i] >> 4) & 1) << i;
  memcpy(qh, &bits, sizeof(bits));
}

// `codes` count from the format's least one.
inline void PackBlock(const int32_t* codes, float scale, float, BlockQ4_0* block) {
  StoreHalf(scale, block->d);
  PackNibbles(codes, block->qs);
}
inline void PackBlock(const int32_t* codes, float scale, float offset, BlockQ4_1* block) {
  StoreHalf(scale, block->d);
  StoreHalf(offset, block->m);
  PackNibbles(codes, block->qs);
}
inline void PackBlock(const int32_t* codes, float scale, float, BlockQ5_0* block) {
  StoreHalf(scale, block->d);
  PackFifthBits(codes, block->qh);
  PackNibbles(codes, block->qs);
}
inline void PackBlock(const int32_t* codes, float scale, float offset, BlockQ5_1* block) {
  StoreHalf(scale, block->d);
  StoreHalf(offset, block->m);
  PackFifthBits(codes, block->qh);
  PackNibbles(codes, block->qs);
}
inline void PackBlock(const int32_t* codes, float scale, float, BlockQ8_0* block) {
  StoreHalf(scale, block->d);
  for (uint32_t i = 0; i < 32; ++i) block->qs[i] = static_cast<int8_t>(codes[i] - 127);
}

template <typename Form, typename Block>
void QuantizeSmall(const float* values, uint64_t elements, uint8_t* row) {
  alignas(32) float x[kSmallBlock * kLanes];
  alignas(32) float scales[kLanes], offsets[kLanes];
  int32_t codes[kSmallBlock * kLanes];
  const uint64_t blocks = elements / kSmallBlock;
  for (uint64_t first = 0; first < blocks; first += kLanes) {
    const auto count = static_cast<uint32_t>(std::min<uint64_t>(kLanes, blocks - first));
    const float* from = values + first * kSmallBlock;
    float padded[kSmallBlock * kLanes] = {};
    if (count < kLanes) {
      memcpy(padded, from, count * kSmallBlock * sizeof(float));
      from = padded;
    }
    Transpose<kSmallBlock>(from, x);
    VF error;
    const ScaleAndOffset at = SearchScales<Form>(x, &error);
    EncodeGroups<Form>(x, at, codes);
    hn::Store(at.scale, F32x8(), scales);
    hn::Store(at.offset, F32x8(), offsets);
    for (uint32_t i = 0; i < count; ++i) {
      Block block;
      PackBlock(codes + i * kSmallBlock, scales[i], offsets[i], &block);
      memcpy(row + (first + i) * sizeof(Block), &block, sizeof(Block));
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
