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

// A panel is a chunk of columns of a few rows, decoded into the nearest memory. The tokens' same
// columns are copied next to each other once for a group of panels: in place their addresses differ
// by multiples of a power of two, so that they would drive each other out of all nearer memories.
constexpr uint32_t kPanelRows = 8;
constexpr uint32_t kGroupRows = 128;
constexpr uint32_t kGroupTokens = 96;
constexpr uint32_t kStride = kFloatChunk + 16;  // no power of two, for the same reason

struct FloatScratch {
  // Both are zero beyond the chunk's columns, up to a multiple of 16.
  alignas(64) float weights[kPanelRows][kStride];
  alignas(64) float inputs[kGroupTokens][kStride];
  alignas(64) float sums[kGroupTokens][kGroupRows];
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
static_assert(kPanelRows % kBlockRows == 0 && kGroupRows % kPanelRows == 0);

struct Sums16 {
  FloatVec parts[kParts];
};

// The 16 sums of one row, 8 to 8 and 4 to 4.
HWY_INLINE __m128 FourSums(const Sums16& sums) {
#if HWY_TARGET == HWY_AVX2
  const __m256 eight = _mm256_add_ps(sums.parts[0].raw, sums.parts[1].raw);
#else
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums.parts[0].raw),
                                     _mm512_extractf32x8_ps(sums.parts[0].raw, 1));
#endif
  return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

// to[r] += the 16 sums of row r, by halving, for kBlockRows rows.
HWY_INLINE void AddSums(const Sums16* rows, float* to) {
  const __m128 a = FourSums(rows[0]), b = FourSums(rows[1]);
  const __m128 c = FourSums(rows[2]), d = FourSums(rows[3]);
  const __m128 ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));  // 2 to 2
  const __m128 cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
  const __m128 even = _mm_shuffle_ps(ab, cd, _MM_SHUFFLE(2, 0, 2, 0));
  const __m128 odd = _mm_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 1, 3, 1));
  _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), _mm_add_ps(even, odd)));
}

// sums[t * kGroupRows + r] += weights[r] . inputs[t] over `columns` (a multiple of 16) of a chunk,
// for kBlockRows rows: one vector of the 16 sums after the other.
template <uint32_t kTokens>
void DotBlock(const float (*weights)[kStride], const float (*inputs)[kStride], uint32_t columns,
              float* sums) {
  const FloatTag d;
  Sums16 all[kTokens][kBlockRows];
#pragma GCC unroll 2
  for (uint32_t part = 0; part < kParts; ++part) {
    FloatVec dots[kTokens][kBlockRows];
    for (auto& token : dots) {
      for (FloatVec& dot : token) dot = hn::Zero(d);
    }
    for (uint32_t c = part * kFloatLanes; c < columns; c += 16) {
      FloatVec x[kTokens];
      for (uint32_t t = 0; t < kTokens; ++t) x[t] = hn::Load(d, inputs[t] + c);
      for (uint32_t r = 0; r < kBlockRows; ++r) {
        const FloatVec w = hn::Load(d, weights[r] + c);
        for (uint32_t t = 0; t < kTokens; ++t) dots[t][r] = hn::MulAdd(w, x[t], dots[t][r]);
      }
    }
    for (uint32_t t = 0; t < kTokens; ++t) {
      for (uint32_t r = 0; r < kBlockRows; ++r) all[t][r].parts[part] = dots[t][r];
    }
  }
  for (uint32_t t = 0; t < kTokens; ++t) AddSums(all[t], sums + t * kGroupRows);
}

// A panel, whose first row is number `row` of the group, times kTokens tokens of it.
template <uint32_t kTokens>
void DotPanel(FloatScratch& scratch, uint32_t row, uint32_t token, uint32_t columns) {
  for (uint32_t r = 0; r < kPanelRows; r += kBlockRows) {
    DotBlock<kTokens>(scratch.weights + r, scratch.inputs + token, columns,
                      scratch.sums[token] + row + r);
  }
}

void CopyInputs(const MatMulArgs& args, uint32_t token, uint32_t tokens, uint32_t column,
                uint32_t columns, FloatScratch& scratch) {
  for (uint32_t t = 0; t < tokens; ++t) {
    const float* from = args.input + uint64_t{token + t} * args.input_stride + column;
    float* to = std::copy_n(from, columns, scratch.inputs[t]);
    std::fill(to, scratch.inputs[t] + AlignUp(columns, 16), 0.0f);
  }
}

// Columns [column, column + columns) of `rows` rows from `row` on; those of the panel below are
// next.
void DecodePanel(const MatMulArgs& args, uint32_t row, uint32_t rows, uint32_t column,
                 uint32_t columns, FloatScratch& scratch) {
  const uint64_t row_bytes = RowBytes(args.dtype, args.columns);
  const uint64_t panel_bytes = RowBytes(args.dtype, columns);
  const uint8_t* from = args.weight + row * row_bytes + RowBytes(args.dtype, column);
  for (uint32_t r = 0; r < rows; ++r, from += row_bytes) {
    PrefetchBytes(from + kPanelRows * row_bytes, panel_bytes);
    DequantizeBlocks(args.dtype, from, columns, scratch.weights[r]);
    std::fill(scratch.weights[r] + columns, scratch.weights[r] + AlignUp(columns, 16), 0.0f);
  }
  // Missing rows are zero, not what another op left there: a stray denormal or NaN would be slow.
  for (uint32_t r = rows; r < kPanelRows; ++r) {
    std::fill_n(scratch.weights[r], AlignUp(columns, 16), 0.0f);
  }
}

// Up to kGroupRows rows from `row` on times up to kGroupTokens tokens from `token` on.
void MultiplyFloatGroup(const MatMulArgs& args, uint32_t row, uint32_t rows, uint32_t token,
                        uint32_t tokens, FloatScratch& scratch) {
  std::fill_n(scratch.sums[0], tokens * kGroupRows, 0.0f);
  for (uint32_t column = 0; column < args.columns; column += kFloatChunk) {
    const uint32_t columns = std::min(kFloatChunk, args.columns - column);
    const uint32_t whole = static_cast<uint32_t>(AlignUp(columns, 16));
    CopyInputs(args, token, tokens, column, columns, scratch);
    for (uint32_t r = 0; r < rows; r += kPanelRows) {
      DecodePanel(args, row + r, std::min(kPanelRows, rows - r), column, columns, scratch);
      uint32_t t = 0;
      for (; t + kBlockTokens <= tokens; t += kBlockTokens) {
        DotPanel<kBlockTokens>(scratch, r, t, whole);
      }
      for (; t < tokens; ++t) DotPanel<1>(scratch, r, t, whole);
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
  Sums16 dots[kOnceRows];
  for (Sums16& row : dots) {
    for (FloatVec& part : row.parts) part = hn::Zero(d);
  }
  uint32_t c = 0;
  for (; c + 16 <= columns; c += 16) {
    PrefetchBytes(ahead + uint64_t{c} * kBytes * kOnceRows, 16 * kBytes * kOnceRows);
    for (uint32_t part = 0; part < kParts; ++part) {
      const uint32_t at = c + part * kFloatLanes;
      const FloatVec x = hn::LoadU(d, input + at);
      for (uint32_t r = 0; r < kOnceRows; ++r) {
        const FloatVec w = LoadWeights<kDType>(rows + r * row_bytes + uint64_t{at} * kBytes);
        dots[r].parts[part] = hn::MulAdd(w, x, dots[r].parts[part]);
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
        FloatVec& dot = dots[r].parts[part];
        dot = hn::MulAdd(hn::Load(d, w + at), hn::Load(d, x + at), dot);
      }
    }
  }
  for (uint32_t r = 0; r < kOnceRows; r += kBlockRows) AddSums(dots + r, sums + r);
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
  for (uint32_t token = 0; token < args.tokens; token += kGroupTokens) {
    const uint32_t tokens = std::min(kGroupTokens, args.tokens - token);
    for (uint32_t row = begin; row < end; row += kGroupRows) {
      MultiplyFloatGroup(args, row, std::min(kGroupRows, end - row), token, tokens, scratch);
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
