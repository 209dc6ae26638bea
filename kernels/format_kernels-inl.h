// The multiplying functions of one block format, in one table, so that a product looks them up
// once. The tables are made in format_kernels_{small,k,codes}_cpu.cc, one file for each family:
// together they are most of what there is to compile in this folder.
#if defined(WEIR_KERNELS_FORMAT_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_FORMAT_KERNELS_INL_H_
#undef WEIR_KERNELS_FORMAT_KERNELS_INL_H_
#else
#define WEIR_KERNELS_FORMAT_KERNELS_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/dot_words-inl.h"
#include "kernels/group_form.h"
#include "kernels/matmul_tile-inl.h"
#include "kernels/targets.h"
#include "kernels/wide_tile-inl.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

using MultiplyFn = void (*)(const TileView&, const TokensView&, float*);
using WidenFn = void (*)(const uint8_t* values, uint32_t columns, const int32_t* integer_scales,
                         int16_t* to);
using MultiplyWideFn = void (*)(const WideTile*, const WideTokens&, uint32_t columns,
                                float* const* sums);
constexpr uint32_t kMaxTileTokens = HWY_TARGET == HWY_AVX3_DL ? 8 : 4;
constexpr uint32_t kMaxWideTokens = 4;
constexpr uint32_t kMaxWideTiles = HWY_TARGET == HWY_AVX2 ? 1 : 2;  // sums in registers
constexpr uint32_t kMaxRowTokens = 4;

// By numbers of tokens: 1, 2, 4, 8. Null is what is never called.
struct FormatKernels {
  DotRowsFn dot_rows[3];                           // for few tokens
  MultiplyFn multiply[4];                          // tiles of bytes, for many tokens of 8 bits
  WidenFn widen;                                   // tiles of words, for many tokens of 16 bits
  MultiplyWideFn multiply_wide[kMaxWideTiles][3];  // of one tile and of two
};

// One family's functions for activations of `planes` bytes (1 or 2); null for formats of the
// others. Pointers stay valid for good.
const FormatKernels* KernelsOfSmallBlocks(DType dtype, uint32_t planes);  // Q4_0 to Q8_0
const FormatKernels* KernelsOfKBlocks(DType dtype, uint32_t planes);      // Q2_K to Q6_K
const FormatKernels* KernelsOfCodeBlocks(DType dtype, uint32_t planes);   // IQ4_NL, IQ4_XS, MXFP4

template <DType kDType, int kPlanes>
constexpr FormatKernels MakeKernels(DotRowsFn dot_1, DotRowsFn dot_2, DotRowsFn dot_4) {
  constexpr GroupForm f = GroupFormOf(kDType);
  constexpr uint32_t kGroup = f.group_elements, kMax = f.max_value;
  FormatKernels kernels = {};
  kernels.dot_rows[0] = dot_1;
  kernels.dot_rows[1] = dot_2;
  kernels.dot_rows[2] = dot_4;
  if constexpr (kPlanes == 1) {
    kernels.multiply[0] = &MultiplyTile<kGroup, f.zero_shift, f.has_offset, kMax, 1>;
    kernels.multiply[1] = &MultiplyTile<kGroup, f.zero_shift, f.has_offset, kMax, 2>;
    kernels.multiply[2] = &MultiplyTile<kGroup, f.zero_shift, f.has_offset, kMax, 4>;
    kernels.multiply[3] = &MultiplyTile<kGroup, f.zero_shift, f.has_offset, kMax, kMaxTileTokens>;
  }
  if constexpr (kPlanes == 2) {
    constexpr uint32_t kScale = HasIntegerScales(kDType) ? 32 : kGroup;
    kernels.widen = &WidenTile<kGroup, f.zero_shift>;
    kernels.multiply_wide[0][0] = &MultiplyWide<kGroup, kScale, f.has_offset, 1, 1>;
    kernels.multiply_wide[0][1] = &MultiplyWide<kGroup, kScale, f.has_offset, 1, 2>;
    kernels.multiply_wide[0][2] = &MultiplyWide<kGroup, kScale, f.has_offset, 1, 4>;
    if constexpr (kMaxWideTiles == 2) {
      kernels.multiply_wide[1][0] = &MultiplyWide<kGroup, kScale, f.has_offset, 2, 1>;
      kernels.multiply_wide[1][1] = &MultiplyWide<kGroup, kScale, f.has_offset, 2, 2>;
      kernels.multiply_wide[1][2] = &MultiplyWide<kGroup, kScale, f.has_offset, 2, 4>;
    }
  }
  return kernels;
}

// A case of a switch over formats that returns the table of Dot`name`.
#define WEIR_FORMAT_KERNELS_CASE(name)                                                         \
  case DType::k##name: {                                                                       \
    static constexpr FormatKernels kKernels[2] = {                                             \
        MakeKernels<DType::k##name, 1>(&Dot##name<1, 1>, &Dot##name<1, 2>, &Dot##name<1, 4>),  \
        MakeKernels<DType::k##name, 2>(&Dot##name<2, 1>, &Dot##name<2, 2>, &Dot##name<2, 4>)}; \
    return &kKernels[planes - 1];                                                              \
  }

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
