// Weights of any format, decoded to float32, times float activations.
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_float_cpu.cc"
#include <algorithm>
#include <cstdint>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/dequantize-inl.h"
#include "kernels/matmul_cpu.h"
#include "kernels/targets.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

#if WEIR_IS_KERNEL_TARGET

constexpr uint32_t kPanelRows = 8;
constexpr uint32_t kPanelTokens = 256;

struct FloatScratch {
  alignas(64) float weights[kPanelRows][kFloatChunk];  // zero beyond the chunk's columns, up to 16
  alignas(64) float sums[kPanelTokens][kPanelRows];
};
static_assert(sizeof(FloatScratch) <= CpuStream::kScratchBytes);

using FloatTag = hn::CappedTag<float, 16>;
using FloatVec = hn::VFromD<FloatTag>;
constexpr uint32_t kFloatLanes = HWY_TARGET == HWY_AVX2 ? 8 : 16;
constexpr uint32_t kParts = 16 / kFloatLanes;  // vectors that make up the 16 sums
// Rows x tokens whose sums fit the registers.
constexpr uint32_t kBlock = HWY_TARGET == HWY_AVX2 ? 2 : 4;

// The 16 sums by halving.
inline float AddSums(const FloatVec* parts) {
#if HWY_TARGET == HWY_AVX2
  const __m256 eight = _mm256_add_ps(parts[0].raw, parts[1].raw);
#else
  const __m256 eight =
      _mm256_add_ps(_mm512_castps512_ps256(parts[0].raw), _mm512_extractf32x8_ps(parts[0].raw, 1));
#endif
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

// 16 columns at `at`, of which the input has `left`: what lies beyond its row is not ours to read.
template <uint32_t kRows, uint32_t kTokens, bool kWhole>
HWY_INLINE void AddColumns(const float (*weights)[kFloatChunk], const float* input, uint64_t stride,
                           uint32_t at, uint32_t left, FloatVec (*dots)[kRows][kParts]) {
  const FloatTag d;
  for (uint32_t part = 0; part < kParts; ++part) {
    FloatVec w[kRows];
    const uint32_t c = at + part * kFloatLanes;
    for (uint32_t r = 0; r < kRows; ++r) w[r] = hn::Load(d, weights[r] + c);
    for (uint32_t t = 0; t < kTokens; ++t) {
      FloatVec x = hn::Zero(d);
      if constexpr (kWhole) {
        x = hn::LoadU(d, input + t * stride + c);
      } else if (left > part * kFloatLanes) {
        const auto mask = hn::FirstN(d, left - part * kFloatLanes);
        x = hn::MaskedLoad(mask, d, input + t * stride + c);
      }
      for (uint32_t r = 0; r < kRows; ++r) dots[t][r][part] = hn::MulAdd(w[r], x, dots[t][r][part]);
    }
  }
}

// sums[t * kPanelRows + r] += weights[r] . input[t] over `columns` of one chunk.
template <uint32_t kRows, uint32_t kTokens>
void DotFloats(const float (*weights)[kFloatChunk], const float* input, uint64_t stride,
               uint32_t columns, float* sums) {
  FloatVec dots[kTokens][kRows][kParts];
  for (uint32_t t = 0; t < kTokens; ++t) {
    for (uint32_t r = 0; r < kRows; ++r) {
      for (uint32_t part = 0; part < kParts; ++part) dots[t][r][part] = hn::Zero(FloatTag());
    }
  }
  uint32_t c = 0;
  for (; c + 16 <= columns; c += 16) {
    AddColumns<kRows, kTokens, true>(weights, input, stride, c, 16, dots);
  }
  if (c < columns) AddColumns<kRows, kTokens, false>(weights, input, stride, c, columns - c, dots);
  for (uint32_t t = 0; t < kTokens; ++t) {
    for (uint32_t r = 0; r < kRows; ++r) sums[t * kPanelRows + r] += AddSums(dots[t][r]);
  }
}

template <uint32_t kTokens>
void DotTokens(const FloatScratch& scratch, const float* input, uint64_t stride, uint32_t columns,
               float (*sums)[kPanelRows]) {
  for (uint32_t r = 0; r < kPanelRows; r += kBlock) {
    DotFloats<kBlock, kTokens>(scratch.weights + r, input, stride, columns, sums[0] + r);
  }
}

// Up to kPanelRows rows from `row` on times up to kPanelTokens tokens from `token` on.
void MultiplyFloatPanel(const MatMulArgs& args, uint32_t row, uint32_t rows, uint32_t token,
                        uint32_t tokens, FloatScratch& scratch) {
  const uint64_t row_bytes = RowBytes(args.dtype, args.columns);
  std::fill_n(scratch.sums[0], tokens * kPanelRows, 0.0f);
  // Missing rows are zero, not what another op left there: a stray denormal or NaN would be slow.
  for (uint32_t r = rows; r < kPanelRows; ++r) std::fill_n(scratch.weights[r], kFloatChunk, 0.0f);
  for (uint32_t column = 0; column < args.columns; column += kFloatChunk) {
    const uint32_t columns = std::min(kFloatChunk, args.columns - column);
    for (uint32_t r = 0; r < rows; ++r) {
      const uint8_t* weights =
          args.weight + uint64_t{row + r} * row_bytes + RowBytes(args.dtype, column);
      DequantizeBlocks(args.dtype, weights, columns, scratch.weights[r]);
      std::fill(scratch.weights[r] + columns, scratch.weights[r] + AlignUp(columns, 16), 0.0f);
    }
    const float* input = args.input + uint64_t{token} * args.input_stride + column;
    uint32_t t = 0;
    for (; t + kBlock <= tokens; t += kBlock) {
      DotTokens<kBlock>(scratch, input + t * args.input_stride, args.input_stride, columns,
                        scratch.sums + t);
    }
    for (; t < tokens; ++t) {
      DotTokens<1>(scratch, input + t * args.input_stride, args.input_stride, columns,
                   scratch.sums + t);
    }
  }
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t r = 0; r < rows; ++r) StoreOutput(args, token + t, row + r, scratch.sums[t][r]);
  }
}

#endif  // a supported target

void FloatRows(const MatMulArgs& args, uint32_t begin, uint32_t end, uint8_t* scratch_bytes) {
#if WEIR_IS_KERNEL_TARGET
  FloatScratch& scratch = *reinterpret_cast<FloatScratch*>(scratch_bytes);
  for (uint32_t token = 0; token < args.tokens; token += kPanelTokens) {
    const uint32_t tokens = std::min(kPanelTokens, args.tokens - token);
    for (uint32_t row = begin; row < end; row += kPanelRows) {
      MultiplyFloatPanel(args, row, std::min(kPanelRows, end - row), token, tokens, scratch);
    }
  }
#else
  (void)args, (void)begin, (void)end, (void)scratch_bytes;
  WEIR_CHECK(false && "the CPU lacks AVX2");
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {

HWY_EXPORT(FloatRows);

void MultiplyFloatRows(const MatMulArgs& args, uint32_t begin, uint32_t end, uint8_t* scratch) {
  HWY_DYNAMIC_DISPATCH(FloatRows)(args, begin, end, scratch);
}

}  // namespace weir
#endif  // HWY_ONCE
