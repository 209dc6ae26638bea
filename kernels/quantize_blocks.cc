#include "kernels/quantize_blocks.h"

#include <array>
#include <cmath>
#include <limits>

#include "io/base.h"
#include "kernels/dtype.h"

#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/quantize_blocks.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/quantize_k-inl.h"
#include "kernels/quantize_small-inl.h"
#include "kernels/targets.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

#if WEIR_IS_KERNEL_TARGET

inline void FloatsToHalves(const float* values, uint64_t elements, uint8_t* row) {
  uint64_t i = 0;
  for (; i + 8 <= elements; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row + 2 * i), halves);
  }
  for (; i < elements; ++i) StoreHalf(values[i], row + 2 * i);
}

inline void FloatsToBFloats(const float* values, uint64_t elements, uint8_t* row) {
  for (uint64_t i = 0; i < elements; ++i) {
    uint32_t bits;
    memcpy(&bits, values + i, sizeof(bits));
    const auto rounded = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    memcpy(row + 2 * i, &rounded, sizeof(rounded));
  }
}

void Quantize(DType dtype, const float* values, uint64_t elements, uint8_t* row) {
  switch (dtype) {
    case DType::kF32:
      memcpy(row, values, elements * sizeof(float));
      return;
    case DType::kF16:
      return FloatsToHalves(values, elements, row);
    case DType::kBF16:
      return FloatsToBFloats(values, elements, row);
    case DType::kQ4_0:
      return QuantizeSmall<FormQ4_0, BlockQ4_0>(values, elements, row);
    case DType::kQ4_1:
      return QuantizeSmall<FormQ4_1, BlockQ4_1>(values, elements, row);
    case DType::kQ5_0:
      return QuantizeSmall<FormQ5_0, BlockQ5_0>(values, elements, row);
    case DType::kQ5_1:
      return QuantizeSmall<FormQ5_1, BlockQ5_1>(values, elements, row);
    case DType::kQ8_0:
      return QuantizeSmall<FormQ8_0, BlockQ8_0>(values, elements, row);
    case DType::kQ4_K:
      return QuantizeWithMinimum<FormQ4_K, BlockQ4_K>(values, elements, row);
    case DType::kQ5_K:
      return QuantizeWithMinimum<FormQ5_K, BlockQ5_K>(values, elements, row);
    case DType::kQ6_K:
      return QuantizeQ6_K(values, elements, row);
    default:
      WEIR_CHECK(false && "a format that cannot be written");
  }
}

// Whether each of the values is at most `most` in magnitude, which NaN is not.
bool AllWithin(const float* values, uint64_t elements, float most) {
  uint64_t i = 0;
  auto within = hn::Eq(Splat(0), Splat(0));
  for (; i + kLanes <= elements; i += kLanes) {
    within = hn::And(within, hn::Le(hn::Abs(Load8(values + i)), Splat(most)));
  }
  bool all = hn::AllTrue(F32x8(), within);
  for (; i < elements; ++i) all = all && std::fabs(values[i]) <= most;
  return all;
}

#else

void Quantize(DType, const float*, uint64_t, uint8_t*) {
  WEIR_CHECK(false && "the CPU lacks AVX2");
}
bool AllWithin(const float*, uint64_t, float) { WEIR_CHECK(false && "the CPU lacks AVX2"); }

#endif

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(Quantize);
HWY_EXPORT(AllWithin);

constexpr std::array kFormats = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                                 DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                 DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

}  // namespace

bool CanQuantizeTo(DType dtype) {
  for (const DType format : kFormats) {
    if (format == dtype) return true;
  }
  return false;
}

std::string QuantizableFormats() {
  std::string names;
  for (const DType format : kFormats) {
    if (!names.empty()) names += ", ";
    names += GetDTypeInfo(format).name;
  }
  return names;
}

float LargestQuantizable(DType dtype) {
  WEIR_CHECK(CanQuantizeTo(dtype));
  if (dtype == DType::kF32) return std::numeric_limits<float>::max();
  // All mantissa bits of BF16, and less than half a step more, which would round to infinity.
  if (dtype == DType::kBF16) return 0x1.fep127f;
  return 65504;
}

uint64_t FindUnquantizable(DType dtype, const float* values, uint64_t elements) {
  const float most = LargestQuantizable(dtype);
  if (HWY_DYNAMIC_DISPATCH(AllWithin)(values, elements, most)) return elements;
  for (uint64_t i = 0; i < elements; ++i) {
    if (!(std::fabs(values[i]) <= most)) return i;
  }
  WEIR_CHECK(false);
}

void QuantizeRow(DType dtype, const float* values, uint64_t elements, uint8_t* row) {
  WEIR_CHECK(CanQuantizeTo(dtype) && elements % GetDTypeInfo(dtype).block_elements == 0);
  WEIR_CHECK(FindUnquantizable(dtype, values, elements) == elements);
  HWY_DYNAMIC_DISPATCH(Quantize)(dtype, values, elements, row);
}

}  // namespace weir
#endif  // HWY_ONCE
