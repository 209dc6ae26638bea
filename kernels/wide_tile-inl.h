// The core of products of many tokens whose activations have 16 bits: weights are widened to 16
// bits, too, so that one instruction multiplies and adds two columns, where two planes of bytes
// take two for four columns and then have to be put together. A tile costs more to build and takes
// twice the memory, which many tokens make up for.
//
// Pairs of columns lie in one 32-bit lane. Those of four consecutive columns are the first and the
// third, the second and the fourth, which is how bytes widen without a shuffle.
#if defined(WEIR_KERNELS_WIDE_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_WIDE_TILE_INL_H_
#undef WEIR_KERNELS_WIDE_TILE_INL_H_
#else
#define WEIR_KERNELS_WIDE_TILE_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/group_form.h"
#include "kernels/matmul_tile-inl.h"
#include "kernels/quantized_activations.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

// u - zero, times the group's integer scale where the format has one (group_form.h).
struct WideTile {
  const int16_t* values;  // [columns / 4][2 pairs][16 rows][2], 64-byte aligned
  const float* scales;    // [columns / kScaleColumns][16]
  const float* offsets;   // [columns / kGroup][16]; unused without offsets
};

// The same columns of consecutive tokens; see QuantizedLayout. The pointers are the first token's.
struct WideTokens {
  const int16_t* values;
  const float* scales;       // of 32 columns
  const float* scaled_sums;  // of the weight's groups
  uint64_t stride_bytes;
};

// The bytes at even and at odd places, sign-extended.
HWY_INLINE V16 WidenEven(Vi bytes) {
  return hn::ShiftRight<8>(hn::ShiftLeft<8>(hn::BitCast(D16(), bytes)));
}
HWY_INLINE V16 WidenOdd(Vi bytes) { return hn::ShiftRight<8>(hn::BitCast(D16(), bytes)); }

// sum + the products of two columns a lane.
WEIR_TILE_ATTRIBUTE HWY_INLINE Vi AddPairs(Vi sum, Vi weights, Vi q) {
#if HWY_TARGET == HWY_AVX3_DL
  return Vi{_mm512_dpwssd_epi32(sum.raw, weights.raw, q.raw)};
#else
  return hn::Add(sum, MultiplyAddPairs(weights, q));
#endif
}

// Two columns of a token to all lanes, from memory at once. As BroadcastBytes4 GCC takes them
// through a scalar register here, and so through a port that the products need.
HWY_INLINE Vi BroadcastPair(const int16_t* from) {
  const __m128i pair = _mm_loadu_si32(from);
#if HWY_TARGET == HWY_AVX2
  return Vi{_mm256_broadcastd_epi32(pair)};
#else
  return Vi{_mm512_broadcastd_epi32(pair)};
#endif
}

// A tile's bytes (TileView::values) to words. `integer_scales`: [columns / kGroup][16], or
// null.
template <uint32_t kGroup, uint32_t kZeroShift>
void WidenTile(const uint8_t* values, uint32_t columns, const int32_t* integer_scales,
               int16_t* to) {
  const Di d;
  const V8 zero = hn::Set(D8(), static_cast<int8_t>(kZeroShift == 0 ? 0 : 1u << kZeroShift));
  for (uint32_t g = 0; g < columns / kGroup; ++g) {
    for (uint32_t half = 0; half < 16; half += kLanes) {
      V16 factor = hn::Zero(D16());
      if (integer_scales != nullptr) {
        const Vi one = hn::Load(d, integer_scales + 16 * g + half);
        factor =
            hn::BitCast(D16(), hn::Or(hn::And(one, hn::Set(d, 0xFFFF)), hn::ShiftLeft<16>(one)));
      }
      for (uint32_t w = g * (kGroup / 4); w < (g + 1) * (kGroup / 4); ++w) {
        const Vi u = LoadInts(values + 64 * w + 4 * half);
        const Vi bytes = hn::BitCast(d, hn::Sub(hn::BitCast(D8(), u), zero));
        V16 even = WidenEven(bytes), odd = WidenOdd(bytes);
        if (integer_scales != nullptr) {
          even = hn::Mul(even, factor);
          odd = hn::Mul(odd, factor);
        }
        auto* const at = reinterpret_cast<int32_t*>(to) + 32 * w + half;
        hn::Store(hn::BitCast(d, even), d, at);
        hn::Store(hn::BitCast(d, odd), d, at + 16);
      }
    }
  }
}

#if HWY_TARGET == HWY_AVX2

// dots[i][token] of 8 rows each and kGroup columns, of which the tile's words are at `values` and
// the tokens' in the lines q[token]. Each load of a token serves both vectors of rows, and each of
// a vector all tokens. One sum a product is enough: additions of integers take a cycle, and sums of
// halves of the columns had no room in 16 registers.
template <uint32_t kGroup, int kTokens>
HWY_INLINE void WideDots(const int16_t* values, const int16_t* const* q, uint32_t line,
                         uint32_t first, Vi (*HWY_RESTRICT dots)[kTokens]) {
#pragma GCC unroll 16
  for (uint32_t i = 0; i < kGroup / 2; ++i) {
    const uint32_t pair = first / 2 + i;  // of 16, two of each four columns
    const Vi low = LoadInts(values + 32 * i), high = LoadInts(values + 32 * i + 16);
    for (int t = 0; t < kTokens; ++t) {
      const Vi two = BroadcastPair(q[t] + line + 16 * (pair % 2) + 2 * (pair / 2));
      const Vi a = MultiplyAddPairs(low, two), b = MultiplyAddPairs(high, two);
      dots[0][t] = i == 0 ? a : InOrder(hn::Add(dots[0][t], a));
      dots[1][t] = i == 0 ? b : InOrder(hn::Add(dots[1][t], b));
    }
  }
}

// As below, of one tile, whose rows are two vectors: both are taken at once.
template <uint32_t kGroup, uint32_t kScaleColumns, bool kHasOffset, int kTiles, int kTokens>
void MultiplyWide(const WideTile* tiles, const WideTokens& tokens, uint32_t columns,
                  float* const* sums) {
  static_assert(kTiles == 1 && kLanes == 8);
  const Df d;
  const WideTile tile = *tiles;
  const int16_t* q[kTokens];
  Vf total[2][kTokens];
  for (int t = 0; t < kTokens; ++t) {
    q[t] = Advance(tokens.values, t * tokens.stride_bytes);
    for (uint32_t v = 0; v < 2; ++v) total[v][t] = hn::Load(d, sums[0] + 16 * t + 8 * v);
  }
  for (uint32_t line = 0; line < columns; line += 32) {
#pragma GCC unroll 2
    for (uint32_t part = 0; part < 32 / kGroup; ++part) {
      const uint32_t at = line + part * kGroup, g = at / kGroup;
      Vi dots[2][kTokens];
      WideDots<kGroup, kTokens>(tile.values + 16 * uint64_t{at}, q, line, at - line, dots);
      for (int t = 0; t < kTokens; ++t) {
        const uint64_t skip = t * tokens.stride_bytes;
        const Vf token_scale = hn::Set(d, Advance(tokens.scales, skip)[line / 32]);
        for (uint32_t v = 0; v < 2; ++v) {
          const Vf scale = hn::Load(d, tile.scales + 16 * (at / kScaleColumns) + 8 * v);
          Vf& sum = total[v][t];
          sum = hn::MulAdd(hn::ConvertTo(d, dots[v][t]), hn::Mul(scale, token_scale), sum);
          if constexpr (kHasOffset) {
            sum = hn::MulAdd(hn::Load(d, tile.offsets + 16 * g + 8 * v),
                             hn::Set(d, Advance(tokens.scaled_sums, skip)[g]), sum);
          }
        }
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (uint32_t v = 0; v < 2; ++v) hn::Store(total[v][t], d, sums[0] + 16 * t + 8 * v);
  }
}

#else

// dots[i][tile][token] of 16 columns from `at` on and of the next 16: as many sums at once as hide
// the latency of the products.
template <int kTiles, int kTokens>
WEIR_TILE_ATTRIBUTE HWY_INLINE void WideDots(const WideTile* tiles, uint32_t half,
                                             const WideTokens& tokens, uint32_t at,
                                             Vi (*HWY_RESTRICT dots)[kTiles][kTokens]) {
  const int16_t* q[kTokens];
  for (int t = 0; t < kTokens; ++t) q[t] = Advance(tokens.values + at, t * tokens.stride_bytes);
#pragma GCC unroll 16
  for (uint32_t i = 0; i < 16; ++i) {
    const uint32_t part = i % 2, pair = 8 * part + i / 2;  // of 16, two of each four columns
    Vi w[kTiles];
    for (int tile = 0; tile < kTiles; ++tile) {
      w[tile] = LoadInts(tiles[tile].values + 16 * uint64_t{at} + 32 * pair + 2 * half);
    }
    for (int t = 0; t < kTokens; ++t) {
      const Vi two = BroadcastPair(q[t] + 16 * (pair % 2) + 2 * (pair / 2));
      for (int tile = 0; tile < kTiles; ++tile) {
        Vi& dot = dots[part][tile][t];
        dot = AddPairs(i < 2 ? hn::Zero(Di()) : dot, w[tile], two);
      }
    }
  }
}

// sums[tile][token][16] += the tiles times the tokens, in the order that kernels/matmul_cpu.h
// states. A scale is one of kScaleColumns columns, a dot product of kGroup.
template <uint32_t kGroup, uint32_t kScaleColumns, bool kHasOffset, int kTiles, int kTokens>
WEIR_TILE_ATTRIBUTE void MultiplyWide(const WideTile* tiles, const WideTokens& tokens,
                                      uint32_t columns, float* const* sums) {
  const Df d;
  for (uint32_t half = 0; half < 16; half += kLanes) {
    Vf total[kTiles][kTokens];
    for (int tile = 0; tile < kTiles; ++tile) {
      for (int t = 0; t < kTokens; ++t) total[tile][t] = hn::LoadU(d, sums[tile] + 16 * t + half);
    }
    for (uint32_t at = 0; at < columns; at += 32) {
      constexpr uint32_t kParts = 32 / kGroup;
      Vi dots[2][kTiles][kTokens];
      WideDots<kTiles, kTokens>(tiles, half, tokens, at, dots);
      for (int t = 0; t < kTokens; ++t) {
        const Vf token_scale = hn::Set(d, Advance(tokens.scales, t * tokens.stride_bytes)[at / 32]);
        for (int tile = 0; tile < kTiles; ++tile) {
          for (uint32_t part = 0; part < kParts; ++part) {
            const uint32_t column = at + part * kGroup;
            const Vf scale = hn::Load(d, tiles[tile].scales + 16 * (column / kScaleColumns) + half);
            Vf& sum = total[tile][t];
            Vi dot = dots[part][tile][t];
            if constexpr (kParts == 1) dot = hn::Add(dot, dots[1][tile][t]);
            sum = hn::MulAdd(hn::ConvertTo(d, dot), hn::Mul(scale, token_scale), sum);
            if constexpr (kHasOffset) {
              const uint32_t g = column / kGroup;
              const float scaled_sum = Advance(tokens.scaled_sums, t * tokens.stride_bytes)[g];
              sum = hn::MulAdd(hn::Load(d, tiles[tile].offsets + 16 * g + half),
                               hn::Set(d, scaled_sum), sum);
            }
          }
        }
      }
    }
    for (int tile = 0; tile < kTiles; ++tile) {
      for (int t = 0; t < kTokens; ++t) hn::StoreU(total[tile][t], d, sums[tile] + 16 * t + half);
    }
  }
}

#endif  // AVX2

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
