// Weights of any format, decoded to float32, times float activations. Float formats are multiplied
// by a single token as they are read; everything else goes by way of decoded rows, which serve all
// tokens.
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
#include "kernels/prefetch-inl.h"
#include "kernels/targets.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

#if WEIR_IS_KERNEL_TARGET

// The decoded weights of a panel fit the nearest memory, its tokens' activations the next. A chunk
// of columns is taken in pieces, between which its 16 sums wait in memory.
constexpr uint32_t kPanelRows = 16;
constexpr uint32_t kPanelTokens = 64;
constexpr uint32_t kPiece = 512;
static_assert(kFloatChunk % kPiece == 0);

struct FloatScratch {
  alignas(64) float weights[kPanelRows][kPiece];  // zero beyond the piece's columns, up to 16
  alignas(64) float parts[kPanelTokens][kPanelRows][16];
  alignas(64) float sums[kPanelTokens][kPanelRows];
};
static_assert(sizeof(FloatScratch) <= CpuStream::kScratchBytes);

using FloatTag = hn::CappedTag<float, 16>;
using FloatVec = hn::VFromD<FloatTag>;
constexpr uint32_t kFloatLanes = HWY_TARGET == HWY_AVX2 ? 8 : 16;
constexpr uint32_t kParts = 16 / kFloatLanes;  // vectors that make up the 16 sums
// Rows x tokens of which one vector of sums each fits the registers, beside one row's weights and
// the tokens' activations.
constexpr uint32_t kBlockRows = 4;
constexpr uint32_t kBlockTokens = HWY_TARGET == HWY_AVX2 ? 3 : 4;
static_assert(kPanelRows % kBlockRows == 0);

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

// kFloatLanes columns at `at`, of which the input has `left`, or less than none: what lies beyond
// its row is not ours to read.
template <uint32_t kRows, uint32_t kTokens, bool kWhole>
HWY_INLINE void AddColumns(const float (*weights)[kPiece], const float* input, uint64_t stride,
                           uint32_t at, int32_t left, FloatVec (*dots)[kRows]) {
  const FloatTag d;
  FloatVec x[kTokens];
  for (uint32_t t = 0; t < kTokens; ++t) {
    x[t] = hn::Zero(d);
    if constexpr (kWhole) {
      x[t] = hn::LoadU(d, input + t * stride + at);
    } else if (left > 0) {
      x[t] = hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(left)), d, input + t * stride + at);
    }
  }
  for (uint32_t r = 0; r < kRows; ++r) {
    const FloatVec w = hn::Load(d, weights[r] + at);
    for (uint32_t t = 0; t < kTokens; ++t) dots[t][r] = hn::MulAdd(w, x[t], dots[t][r]);
  }
}

// Where a block of rows and tokens adds: the first row's of the first token.
struct FloatSums {
  float (*parts)[16];  // [token][kPanelRows]: the chunk's 16 sums
  float* sums;         // [token][kPanelRows]: of the chunks before
};

// Adds weights[r] . input[t] over one piece of a chunk to vector `part` of the sums; kTail: of
// columns that are no multiple of 16.
template <uint32_t kRows, uint32_t kTokens, bool kTail>
HWY_INLINE void DotPart(const float (*weights)[kPiece], const float* input, uint64_t stride,
                        uint32_t columns, bool first, bool last, uint32_t part,
                        const FloatSums& to) {
  const FloatTag d;
  const uint32_t shift = part * kFloatLanes;
  FloatVec dots[kTokens][kRows];
  const auto for_all = [&](const auto& use) HWY_ATTR {
    for (uint32_t t = 0; t < kTokens; ++t) {
      for (uint32_t r = 0; r < kRows; ++r) use(dots[t][r], to.parts[t * kPanelRows + r] + shift);
    }
  };
  if (first) {
    for_all([&](FloatVec& dot, const float*) HWY_ATTR { dot = hn::Zero(d); });
  } else {
    for_all([&](FloatVec& dot, const float* parts) HWY_ATTR { dot = hn::Load(d, parts); });
  }
  uint32_t c = 0;
  for (; c + 16 <= columns; c += 16) {
    AddColumns<kRows, kTokens, true>(weights, input, stride, c + shift, 16, dots);
  }
  if constexpr (kTail) {
    const int32_t left = static_cast<int32_t>(columns - c) - static_cast<int32_t>(shift);
    AddColumns<kRows, kTokens, false>(weights, input, stride, c + shift, left, dots);
  }
  if (!last || part + 1 < kParts) {
    for_all([&](const FloatVec& dot, float* parts) HWY_ATTR { hn::Store(dot, d, parts); });
    return;
  }
  for (uint32_t t = 0; t < kTokens; ++t) {
    for (uint32_t r = 0; r < kRows; ++r) {
      FloatVec parts[kParts];
      for (uint32_t i = 0; i < part; ++i) {
        parts[i] = hn::Load(d, to.parts[t * kPanelRows + r] + i * kFloatLanes);
      }
      parts[part] = dots[t][r];
      to.sums[t * kPanelRows + r] += AddSums(parts);
    }
  }
}

// The same to all of the sums, one vector of each after the other.
template <uint32_t kRows, uint32_t kTokens, bool kTail>
void DotFloats(const float (*weights)[kPiece], const float* input, uint64_t stride,
               uint32_t columns, bool first, bool last, const FloatSums& to) {
#pragma GCC unroll 2
  for (uint32_t part = 0; part < kParts; ++part) {
    DotPart<kRows, kTokens, kTail>(weights, input, stride, columns, first, last, part, to);
  }
}

// One piece of a panel's rows, decoded, times kTokens tokens from number `token` of the panel on.
template <uint32_t kTokens>
void DotTokens(FloatScratch& scratch, uint32_t rows, uint32_t token, const float* input,
               uint64_t stride, uint32_t columns, bool first, bool last) {
  for (uint32_t r = 0; r < rows; r += kBlockRows) {
    const FloatSums to = {scratch.parts[token] + r, scratch.sums[token] + r};
    // Sums stay in registers where no tail follows.
    const auto dot = columns % 16 == 0 ? &DotFloats<kBlockRows, kTokens, false>
                                       : &DotFloats<kBlockRows, kTokens, true>;
    dot(scratch.weights + r, input, stride, columns, first, last, to);
  }
}

// Up to kPanelRows rows from `row` on times up to kPanelTokens tokens from `token` on.
void MultiplyFloatPanel(const MatMulArgs& args, uint32_t row, uint32_t rows, uint32_t token,
                        uint32_t tokens, FloatScratch& scratch) {
  const uint64_t row_bytes = RowBytes(args.dtype, args.columns);
  std::fill_n(scratch.sums[0], tokens * kPanelRows, 0.0f);
  // Missing rows are zero, not what another op left there: a stray denormal or NaN would be slow.
  for (uint32_t r = rows; r < kPanelRows; ++r) std::fill_n(scratch.weights[r], kPiece, 0.0f);
  for (uint32_t column = 0; column < args.columns; column += kPiece) {
    const uint32_t columns = std::min(kPiece, args.columns - column);
    for (uint32_t r = 0; r < rows; ++r) {
      const uint8_t* weights =
          args.weight + uint64_t{row + r} * row_bytes + RowBytes(args.dtype, column);
      DequantizeBlocks(args.dtype, weights, columns, scratch.weights[r]);
      std::fill(scratch.weights[r] + columns, scratch.weights[r] + AlignUp(columns, 16), 0.0f);
    }
    const bool first = column % kFloatChunk == 0;
    const bool last = column + columns == args.columns || (column + kPiece) % kFloatChunk == 0;
    const float* input = args.input + uint64_t{token} * args.input_stride + column;
    const uint64_t stride = args.input_stride;
    uint32_t t = 0;
    for (; t + kBlockTokens <= tokens; t += kBlockTokens) {
      DotTokens<kBlockTokens>(scratch, rows, t, input + t * stride, stride, columns, first, last);
    }
    for (; t < tokens; ++t) {
      DotTokens<1>(scratch, rows, t, input + t * stride, stride, columns, first, last);
    }
  }
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t r = 0; r < rows; ++r) StoreOutput(args, token + t, row + r, scratch.sums[t][r]);
  }
}

// ---- one token, float formats

constexpr uint32_t kOnceRows = 8;

// kFloatLanes weights.
template <DType kDType>
HWY_INLINE FloatVec LoadWeights(const uint8_t* from) {
#if HWY_TARGET == HWY_AVX2
  if constexpr (kDType == DType::kF32) {
    return FloatVec{_mm256_loadu_ps(reinterpret_cast<const float*>(from))};
  } else {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    if constexpr (kDType == DType::kF16) return FloatVec{_mm256_cvtph_ps(halves)};
    return FloatVec{_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))};
  }
#else
  if constexpr (kDType == DType::kF32) {
    return FloatVec{_mm512_loadu_ps(from)};
  } else {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    if constexpr (kDType == DType::kF16) return FloatVec{_mm512_cvtph_ps(halves)};
    return FloatVec{_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
  }
#endif
}

// sums[r] += row r . input over `columns` of one chunk, for kOnceRows rows. `ahead` is wanted soon,
// as much of it as is read here.
template <DType kDType>
void DotRowsOnce(const uint8_t* rows, uint64_t row_bytes, const float* input, uint32_t columns,
                 const uint8_t* ahead, float* sums) {
  const FloatTag d;
  constexpr uint32_t kBytes = kDType == DType::kF32 ? 4 : 2;
  FloatVec dots[kOnceRows][kParts];
  for (auto& row : dots) {
    for (FloatVec& part : row) part = hn::Zero(d);
  }
  uint32_t c = 0;
  for (; c + 16 <= columns; c += 16) {
    PrefetchBytes(ahead + uint64_t{c} * kBytes * kOnceRows, 16 * kBytes * kOnceRows);
    for (uint32_t part = 0; part < kParts; ++part) {
      const uint32_t at = c + part * kFloatLanes;
      const FloatVec x = hn::LoadU(d, input + at);
      for (uint32_t r = 0; r < kOnceRows; ++r) {
        const FloatVec w = LoadWeights<kDType>(rows + r * row_bytes + uint64_t{at} * kBytes);
        dots[r][part] = hn::MulAdd(w, x, dots[r][part]);
      }
    }
  }
  if (c < columns) {  // zeros beyond
    alignas(64) float x[16] = {};
    std::copy_n(input + c, columns - c, x);
    for (uint32_t r = 0; r < kOnceRows; ++r) {
      alignas(64) float w[16] = {};
      DequantizeBlocks(kDType, rows + r * row_bytes + uint64_t{c} * kBytes, columns - c, w);
      for (uint32_t part = 0; part < kParts; ++part) {
        const uint32_t at = part * kFloatLanes;
        dots[r][part] = hn::MulAdd(hn::Load(d, w + at), hn::Load(d, x + at), dots[r][part]);
      }
    }
  }
  for (uint32_t r = 0; r < kOnceRows; ++r) sums[r] += AddSums(dots[r]);
}

// Rows [begin, end) in whole groups; returns where the rest begins.
template <DType kDType>
uint32_t MultiplyFloatsOnce(const MatMulArgs& args, uint32_t begin, uint32_t end) {
  const uint64_t row_bytes = RowBytes(kDType, args.columns);
  for (; begin + kOnceRows <= end; begin += kOnceRows) {
    const uint8_t* const rows = args.weight + begin * row_bytes;
    float sums[kOnceRows] = {};
    for (uint32_t column = 0; column < args.columns; column += kFloatChunk) {
      const uint64_t first = RowBytes(kDType, column);
      DotRowsOnce<kDType>(rows + first, row_bytes, args.input + column,
                          std::min(kFloatChunk, args.columns - column),
                          rows + kOnceRows * (row_bytes + first), sums);
    }
    for (uint32_t r = 0; r < kOnceRows; ++r) StoreOutput(args, 0, begin + r, sums[r]);
  }
  return begin;
}

uint32_t MultiplyOnce(const MatMulArgs& args, uint32_t begin, uint32_t end) {
  if (args.dtype == DType::kF32) return MultiplyFloatsOnce<DType::kF32>(args, begin, end);
  if (args.dtype == DType::kF16) return MultiplyFloatsOnce<DType::kF16>(args, begin, end);
  if (args.dtype == DType::kBF16) return MultiplyFloatsOnce<DType::kBF16>(args, begin, end);
  return begin;
}

#endif  // a supported target

void FloatRows(const MatMulArgs& args, uint32_t begin, uint32_t end, uint8_t* scratch_bytes) {
#if WEIR_IS_KERNEL_TARGET
  FloatScratch& scratch = *reinterpret_cast<FloatScratch*>(scratch_bytes);
  if (args.tokens == 1) begin = MultiplyOnce(args, begin, end);
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
