// Block formats times quantised activations. A worker decodes 16 rows of some columns once into a
// tile and multiplies it with every token.
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_quantized_cpu.cc"
#include <algorithm>
#include <cstdint>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "io/base.h"
#include "kernels/build_tile-inl.h"
#include "kernels/cpu_device.h"
#include "kernels/dot_rows-inl.h"
#include "kernels/matmul_cpu.h"
#include "kernels/matmul_tile-inl.h"
#include "kernels/quantized_activations.h"
#include "kernels/targets.h"
#include "kernels/unpack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

#if WEIR_IS_KERNEL_TARGET

constexpr uint32_t kTileRows = 16;
constexpr uint32_t kTileColumns =
    512;  // a tile and what it is made from fit the first-level memory
constexpr uint32_t kTileGroups = kTileColumns / 16;
// Rows and tokens whose sums are kept while the columns go by. With many tokens several tiles share
// a column range, so that its activations are read from near memory more than once.
constexpr uint32_t kSumTiles = 8;
constexpr uint32_t kSumTokens = 256;
constexpr uint32_t kManyTokens = 16;

struct Scratch {
  alignas(64) uint8_t row_values[kTileRows][kTileColumns];
  alignas(64) float row_scales[kTileRows][kTileGroups];
  alignas(64) float row_offsets[kTileRows][kTileGroups];
  struct Tile {
    alignas(64) uint8_t values[kTileColumns * kTileRows];
    alignas(64) float scales[kTileGroups * kTileRows];
    alignas(64) float offsets[kTileGroups * kTileRows];
  };
  Tile tiles[2];
  alignas(64) float sums[kSumTiles][kSumTokens][kTileRows];
};
static_assert(sizeof(Scratch) <= CpuStream::kScratchBytes);

using MultiplyFn = void (*)(const TileView&, const TokensView&, float*);
using MultiplyPairFn = void (*)(const TileView*, const TokensView&, float*, float*);
constexpr uint32_t kMaxTileTokens = HWY_TARGET == HWY_AVX3_DL ? 8 : 4;

struct TileKernels {
  MultiplyFn multiply[4];        // 1, 2, 4, 8 tokens
  MultiplyPairFn multiply_pair;  // or null
};
template <DType kDType, int kPlanes>
TileKernels KernelsOf() {
  constexpr GroupForm f = GroupFormOf(kDType);
  constexpr uint32_t kGroup = f.group_elements, kMax = f.max_value;
  MultiplyPairFn pair = nullptr;
#if HWY_TARGET == HWY_AVX3_DL
  if constexpr (kPlanes == 2) pair = &MultiplyTilePair<kGroup, f.zero_shift, f.has_offset>;
#endif
  return {{&MultiplyTile<kGroup, f.zero_shift, f.has_offset, kMax, kPlanes, 1>,
           &MultiplyTile<kGroup, f.zero_shift, f.has_offset, kMax, kPlanes, 2>,
           &MultiplyTile<kGroup, f.zero_shift, f.has_offset, kMax, kPlanes, 4>,
           &MultiplyTile<kGroup, f.zero_shift, f.has_offset, kMax, kPlanes, kMaxTileTokens>},
          pair};
}

TileKernels GetTileKernels(DType dtype, uint32_t planes) {
  switch (dtype) {
#define WEIR_KERNELS_CASE(name) \
  case DType::k##name:          \
    return planes == 2 ? KernelsOf<DType::k##name, 2>() : KernelsOf<DType::k##name, 1>()
    WEIR_KERNELS_CASE(Q4_0);
    WEIR_KERNELS_CASE(Q4_1);
    WEIR_KERNELS_CASE(Q5_0);
    WEIR_KERNELS_CASE(Q5_1);
    WEIR_KERNELS_CASE(Q8_0);
    WEIR_KERNELS_CASE(Q2_K);
    WEIR_KERNELS_CASE(Q3_K);
    WEIR_KERNELS_CASE(Q4_K);
    WEIR_KERNELS_CASE(Q5_K);
    WEIR_KERNELS_CASE(Q6_K);
    WEIR_KERNELS_CASE(IQ4_NL);
    WEIR_KERNELS_CASE(IQ4_XS);
    WEIR_KERNELS_CASE(MXFP4);
#undef WEIR_KERNELS_CASE
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      break;
  }
  WEIR_CHECK(false && "float formats are multiplied by MultiplyFloatRows");
  return {};
}

// One call's constants, resolved once.
struct Product {
  const MatMulArgs& args;
  const DTypeInfo& info;
  GroupForm form;
  QuantizedLayout layout;
  UnpackFn unpack;
  BuildFn build;       // or null
  DotRowsFn dot_rows;  // or null
  TileKernels kernels;
  uint64_t row_bytes;
};

// `words` words of 16 rows of `stride_bytes`, as [words][16].
void TransposeRows(const uint8_t* from, uint64_t stride_bytes, uint32_t words, void* to) {
  TileSource source;
  for (uint32_t r = 0; r < kTileRows; ++r) source.rows[r] = from + r * stride_bytes;
  source.ahead = from;
  auto* out = static_cast<int32_t*>(to);
  for (uint32_t word = 0; word < words; word += 4) {
    for (uint32_t r = 0; r < kTileRows; r += kLanes) {
      Vi four[4];
      LoadWords(source, r, 4 * word, four);
      for (uint32_t i = 0; i < 4; ++i) hn::Store(four[i], Di(), out + 16 * (word + i) + r);
    }
  }
}

// Formats without a builder of their own: row by row, then transposed.
void BuildByRows(const Product& p, const TileSource& from, uint32_t blocks, uint32_t columns,
                 Scratch& scratch, Scratch::Tile& tile) {
  const uint64_t row_piece_bytes = uint64_t{blocks} * p.info.block_bytes;
  for (uint32_t r = 0; r < kTileRows; ++r) {
    PrefetchBytes(from.ahead + r * row_piece_bytes, row_piece_bytes);
    p.unpack(from.rows[r], blocks, scratch.row_values[r], scratch.row_scales[r],
             scratch.row_offsets[r]);
  }
  const auto bytes = [](const auto* from) { return reinterpret_cast<const uint8_t*>(from); };
  const uint32_t groups = columns / p.form.group_elements;
  TransposeRows(scratch.row_values[0], kTileColumns, columns / 4, tile.values);
  TransposeRows(bytes(scratch.row_scales), 4 * kTileGroups, groups, tile.scales);
  if (p.form.has_offset) {
    TransposeRows(bytes(scratch.row_offsets), 4 * kTileGroups, groups, tile.offsets);
  }
}

// Decodes columns [column, column + columns) of `rows` rows from `row` on. Missing rows are the
// last one again; nobody reads their sums.
TileView BuildTile(const Product& p, uint32_t row, uint32_t rows, uint32_t column, uint32_t columns,
                   Scratch& scratch, Scratch::Tile& tile) {
  const uint64_t first_byte = uint64_t{column} / p.info.block_elements * p.info.block_bytes;
  // The rows below are next, in the order in which they lie in memory: this tile's columns ask for
  // the same share of those.
  TileSource source;
  source.ahead = p.args.weight + uint64_t{row + kTileRows} * p.row_bytes + kTileRows * first_byte;
  for (uint32_t r = 0; r < kTileRows; ++r) {
    const uint8_t* weights = p.args.weight + uint64_t{row + std::min(r, rows - 1)} * p.row_bytes;
    source.rows[r] = weights + first_byte;
  }
  const uint32_t blocks = columns / p.info.block_elements;
  if (p.build != nullptr) {
    p.build(source, blocks, {tile.values, tile.scales, tile.offsets});
  } else {
    BuildByRows(p, source, blocks, columns, scratch, tile);
  }
  return {tile.values, tile.scales, tile.offsets, columns / p.form.group_elements};
}

TokensView TokensAt(const Product& p, uint32_t token, uint32_t column) {
  const uint64_t stride_bytes = p.layout.token_bytes();
  const uint8_t* record = p.args.quantized + token * stride_bytes;
  const uint64_t group_bytes = uint64_t{4} * (column / p.form.group_elements);
  const uint32_t group = p.form.group_elements;
  const uint8_t* scales = record + p.layout.scales() + uint64_t{4} * (column / 32);
  const uint8_t* scaled_sums = record + p.layout.scaled_sums(group) + group_bytes;
  const uint8_t* negative_sums = record + p.layout.negative_sums(group) + group_bytes;
  return {reinterpret_cast<const int8_t*>(record + p.layout.values() + column),
          reinterpret_cast<const int8_t*>(record + p.layout.low_values() + column),
          reinterpret_cast<const float*>(scales),
          reinterpret_cast<const float*>(scaled_sums),
          reinterpret_cast<const int32_t*>(negative_sums),
          stride_bytes};
}

void MultiplyTokens(const Product& p, const TileView& tile, uint32_t token, uint32_t tokens,
                    uint32_t column, float (*sums)[kTileRows]) {
  for (uint32_t t = 0; t < tokens;) {
    const uint32_t left = std::min(tokens - t, kMaxTileTokens);
    const int log2 = left >= 8 ? 3 : left >= 4 ? 2 : left >= 2 ? 1 : 0;
    p.kernels.multiply[log2](tile, TokensAt(p, token + t, column), sums[t]);
    t += 1u << log2;
  }
}

// One or two tiles times `tokens` tokens from `token` on; sums[i] are tile i's.
void MultiplyTiles(const Product& p, const TileView* tiles, uint32_t count, uint32_t token,
                   uint32_t tokens, uint32_t column, float (*sums)[kSumTokens][kTileRows]) {
  uint32_t done = 0;
#if HWY_TARGET == HWY_AVX3_DL
  if (count == 2 && p.kernels.multiply_pair != nullptr) {
    for (; done + kPairTokens <= tokens; done += kPairTokens) {
      p.kernels.multiply_pair(tiles, TokensAt(p, token + done, column), sums[0][done],
                              sums[1][done]);
    }
  }
#endif
  for (uint32_t i = 0; i < count; ++i) {
    MultiplyTokens(p, tiles[i], token + done, tokens - done, column, sums[i] + done);
  }
}

// StoreOutput for rows [row, row + rows) of one tile, whose sums these are.
void StoreTile(const MatMulArgs& args, uint32_t token, uint32_t row, uint32_t rows,
               const float* sums) {
  if (rows < kTileRows) {
    for (uint32_t r = 0; r < rows; ++r) StoreOutput(args, token, row + r, sums[r]);
    return;
  }
  const Df d;
  float* const output = args.output + uint64_t{token} * args.output_stride + row;
  for (uint32_t r = 0; r < kTileRows; r += kLanes) {
    Vf sum = hn::Load(d, sums + r);
    if (args.bias != nullptr) sum = hn::Add(sum, hn::LoadU(d, args.bias + row + r));
    if (args.accumulate) sum = hn::Add(hn::LoadU(d, output + r), sum);
    hn::StoreU(sum, d, output + r);
  }
}

// Up to kSumTiles tiles of rows from `row` on, times up to kSumTokens tokens from `token` on.
void MultiplyPanel(const Product& p, uint32_t row, uint32_t rows, uint32_t token, uint32_t tokens,
                   Scratch& scratch) {
  const uint32_t tiles = static_cast<uint32_t>(CeilDiv(rows, kTileRows));
  for (uint32_t i = 0; i < tiles; ++i) {
    std::fill_n(scratch.sums[i][0], tokens * kTileRows, 0.0f);
  }
  for (uint32_t column = 0; column < p.args.columns; column += kTileColumns) {
    const uint32_t columns = std::min(kTileColumns, p.args.columns - column);
    for (uint32_t i = 0; i < tiles; i += 2) {
      TileView views[2];
      const uint32_t count = std::min(2u, tiles - i);
      for (uint32_t k = 0; k < count; ++k) {
        const uint32_t first = (i + k) * kTileRows;
        views[k] = BuildTile(p, row + first, std::min(kTileRows, rows - first), column, columns,
                             scratch, scratch.tiles[k]);
      }
      MultiplyTiles(p, views, count, token, tokens, column, scratch.sums + i);
    }
  }
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t i = 0; i < tiles; ++i) {
      const uint32_t first = i * kTileRows;
      StoreTile(p.args, token + t, row + first, std::min(kTileRows, rows - first),
                scratch.sums[i][t]);
    }
  }
}

// kLanes rows, for a single token.
void MultiplyRowsOnce(const Product& p, uint32_t row) {
  const uint8_t* const first = p.args.weight + uint64_t{row} * p.row_bytes;
  // The rows below are next, in the order in which they lie in memory.
  const EvenRows rows = {first, p.row_bytes, first + kTileRows * p.row_bytes};
  const auto blocks = static_cast<uint32_t>(p.args.columns / p.info.block_elements);
  alignas(64) float sums[kLanes];
  p.dot_rows(rows, blocks, TokensAt(p, 0, 0), sums);
  for (uint32_t r = 0; r < kLanes; ++r) StoreOutput(p.args, 0, row + r, sums[r]);
}

#endif  // a supported target

void QuantizedRows(const MatMulArgs& args, uint32_t begin, uint32_t end, uint8_t* scratch_bytes) {
#if WEIR_IS_KERNEL_TARGET
  Scratch& scratch = *reinterpret_cast<Scratch*>(scratch_bytes);
  const uint32_t planes = PlanesOf(args.quantized_format);
  const Product product = {args,
                           GetDTypeInfo(args.dtype),
                           GroupFormOf(args.dtype),
                           QuantizedLayout(args.columns, planes),
                           GetUnpack(args.dtype),
                           GetBuild(args.dtype),
                           planes == 2 ? GetDotRows<2>(args.dtype) : GetDotRows<1>(args.dtype),
                           GetTileKernels(args.dtype, planes),
                           RowBytes(args.dtype, args.columns)};
  const bool once = args.tokens == 1 && product.dot_rows != nullptr;
  for (; once && begin + kLanes <= end; begin += kLanes) MultiplyRowsOnce(product, begin);
  const uint32_t panel_rows = (args.tokens >= kManyTokens ? kSumTiles : 1) * kTileRows;
  for (uint32_t token = 0; token < args.tokens; token += kSumTokens) {
    const uint32_t tokens = std::min(kSumTokens, args.tokens - token);
    for (uint32_t row = begin; row < end; row += panel_rows) {
      MultiplyPanel(product, row, std::min(panel_rows, end - row), token, tokens, scratch);
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

HWY_EXPORT(QuantizedRows);

void MultiplyQuantizedRows(const MatMulArgs& args, uint32_t begin, uint32_t end, uint8_t* scratch) {
  HWY_DYNAMIC_DISPATCH(QuantizedRows)(args, begin, end, scratch);
}

}  // namespace weir
#endif  // HWY_ONCE
