// Block formats times quantised activations. For many tokens a worker decodes 16 rows of some
// columns once into a tile and multiplies it with every token, by words where the activations have
// 16 bits (kernels/wide_tile-inl.h) and by bytes otherwise; for few it multiplies rows as it
// decodes them.
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
#include "kernels/format_kernels-inl.h"
#include "kernels/matmul_cpu.h"
#include "kernels/matmul_tile-inl.h"
#include "kernels/quantized_activations.h"
#include "kernels/targets.h"
#include "kernels/unpack-inl.h"
#include "kernels/wide_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

#if WEIR_IS_KERNEL_TARGET

constexpr uint32_t kTileColumns =
    512;  // a tile and what it is made from fit the first-level memory
constexpr uint32_t kTileGroups = kTileColumns / 16;
// Rows and tokens whose sums are kept while the columns go by. With many tokens several tiles share
// a column range, so that its activations are read from near memory more than once.
constexpr uint32_t kSumTiles = 8;
constexpr uint32_t kSumTokens = 256;

struct Scratch {
  alignas(64) uint8_t row_values[kTileRows][kTileColumns];
  alignas(64) float row_scales[kTileRows][kTileGroups];
  alignas(64) float row_offsets[kTileRows][kTileGroups];
  struct Tile {
    alignas(64) uint8_t values[kTileColumns * kTileRows];
    alignas(64) float scales[kTileGroups * kTileRows];
    alignas(64) float offsets[kTileGroups * kTileRows];
    alignas(64) int16_t words[kTileColumns * kTileRows];
    alignas(64) int32_t integer_scales[kTileGroups * kTileRows];
  };
  Tile tiles[2];  // kMaxWideTiles at most
  alignas(64) float sums[kSumTiles][kSumTokens][kTileRows];
};
static_assert(sizeof(Scratch) <= CpuStream::kScratchBytes);

const FormatKernels& GetKernels(DType dtype, uint32_t planes) {
  const FormatKernels* kernels = KernelsOfSmallBlocks(dtype, planes);
  if (kernels == nullptr) kernels = KernelsOfKBlocks(dtype, planes);
  if (kernels == nullptr) kernels = KernelsOfCodeBlocks(dtype, planes);
  WEIR_CHECK(kernels != nullptr && "float formats are multiplied by MultiplyFloatRows");
  return *kernels;
}

// Index of the functions for as many of `left` tokens as go at once, at most `most`.
int TokensLog2(uint32_t left, uint32_t most) {
  const uint32_t tokens = std::min(left, most);
  return tokens >= 8 ? 3 : tokens >= 4 ? 2 : tokens >= 2 ? 1 : 0;
}

// One call's constants, resolved once.
struct Product {
  const MatMulArgs& args;
  const DTypeInfo& info;
  GroupForm form;
  QuantizedLayout layout;
  UnpackFn unpack;
  BuildFn build;  // or null
  const FormatKernels& kernels;
  uint64_t row_bytes;
  bool holds_words;  // the activations
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

// Rows from `row` on, at `column`. Missing rows are the last one again; nobody reads their sums.
TileSource SourceOf(const Product& p, uint32_t row, uint32_t rows, uint32_t column) {
  const uint64_t first_byte = uint64_t{column} / p.info.block_elements * p.info.block_bytes;
  // The rows below are next, in the order in which they lie in memory: this tile's columns ask for
  // the same share of those.
  TileSource source;
  source.ahead = p.args.weight + uint64_t{row + kTileRows} * p.row_bytes + kTileRows * first_byte;
  for (uint32_t r = 0; r < kTileRows; ++r) {
    const uint8_t* weights = p.args.weight + uint64_t{row + std::min(r, rows - 1)} * p.row_bytes;
    source.rows[r] = weights + first_byte;
  }
  return source;
}

// Decodes `columns` columns of 16 rows.
TileView BuildTile(const Product& p, TileSource source, uint32_t columns, Scratch& scratch,
                   Scratch::Tile& tile) {
  const uint32_t blocks = columns / p.info.block_elements;
  if (p.build != nullptr) {
    const bool splits = p.holds_words && HasIntegerScales(p.args.dtype);
    p.build(source, blocks,
            {tile.values, tile.scales, tile.offsets, splits ? tile.integer_scales : nullptr});
  } else {
    BuildByRows(p, source, blocks, columns, scratch, tile);
  }
  return {tile.values, tile.scales, tile.offsets, columns / p.form.group_elements};
}

// The same, widened.
WideTile BuildWideTile(const Product& p, const TileSource& source, uint32_t columns,
                       Scratch& scratch, Scratch::Tile& tile) {
  BuildTile(p, source, columns, scratch, tile);
  p.kernels.widen(tile.values, columns,
                  HasIntegerScales(p.args.dtype) ? tile.integer_scales : nullptr, tile.words);
  return {tile.words, tile.scales, tile.offsets};
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

WideTokens WideTokensAt(const Product& p, uint32_t token, uint32_t column) {
  const TokensView view = TokensAt(p, token, column);
  const uint8_t* words = p.args.quantized + token * view.stride_bytes + p.layout.words();
  return {reinterpret_cast<const int16_t*>(words) + column, view.scales, view.scaled_sums,
          view.stride_bytes};
}

// sums[token][16] += the tile times `tokens` tokens from `token` on.
void MultiplyTokens(const Product& p, const TileView& tile, uint32_t token, uint32_t tokens,
                    uint32_t column, float (*sums)[kTileRows]) {
  for (uint32_t t = 0; t < tokens;) {
    const int log2 = TokensLog2(tokens - t, kMaxTileTokens);
    p.kernels.multiply[log2](tile, TokensAt(p, token + t, column), sums[t]);
    t += 1u << log2;
  }
}

// The same of one tile or two; sums[i] are tile i's.
void MultiplyWideTokens(const Product& p, const WideTile* tiles, uint32_t count, uint32_t token,
                        uint32_t tokens, uint32_t column, uint32_t columns,
                        float (*sums)[kSumTokens][kTileRows]) {
  for (uint32_t t = 0; t < tokens;) {
    const int log2 = TokensLog2(tokens - t, kMaxWideTokens);
    float* const to[2] = {sums[0][t], sums[count - 1][t]};
    p.kernels.multiply_wide[count - 1][log2](tiles, WideTokensAt(p, token + t, column), columns,
                                             to);
    t += 1u << log2;
  }
}

// Columns [column, column + columns) of up to kMaxWideTiles tiles of rows from `row` on, of which
// `rows` are left: decodes them and multiplies them with the tokens.
void MultiplyTiles(const Product& p, uint32_t row, uint32_t rows, uint32_t column, uint32_t columns,
                   uint32_t token, uint32_t tokens, Scratch& scratch,
                   float (*sums)[kSumTokens][kTileRows]) {
  const uint32_t count = rows > kTileRows ? kMaxWideTiles : 1;
  WideTile wide[kMaxWideTiles];
  for (uint32_t k = 0; k < count; ++k) {
    const uint32_t first = k * kTileRows;
    const TileSource source = SourceOf(p, row + first, std::min(kTileRows, rows - first), column);
    if (p.holds_words) {
      wide[k] = BuildWideTile(p, source, columns, scratch, scratch.tiles[k]);
    } else {
      const TileView tile = BuildTile(p, source, columns, scratch, scratch.tiles[k]);
      MultiplyTokens(p, tile, token, tokens, column, sums[k]);
    }
  }
  if (p.holds_words) MultiplyWideTokens(p, wide, count, token, tokens, column, columns, sums);
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
    for (uint32_t i = 0; i < tiles; i += kMaxWideTiles) {
      const uint32_t first = i * kTileRows;
      MultiplyTiles(p, row + first, rows - first, column, columns, token, tokens, scratch,
                    scratch.sums + i);
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

// kLanes rows from number `row` on, `stride_bytes` from one to the next, times all tokens. Stores
// those in [begin, end).
void MultiplyRows(const Product& p, uint32_t row, uint64_t stride_bytes, uint32_t begin,
                  uint32_t end) {
  const uint8_t* const first = p.args.weight + uint64_t{row} * p.row_bytes;
  // The rows below are next, in the order in which they lie in memory.
  const EvenRows rows = {first, stride_bytes, first + kLanes * p.row_bytes};
  const uint64_t blocks = p.args.columns / p.info.block_elements;
  for (uint32_t token = 0; token < p.args.tokens;) {
    const int log2 = TokensLog2(p.args.tokens - token, kMaxRowTokens);
    alignas(64) float sums[kMaxRowTokens * kLanes] = {};
    p.kernels.dot_rows[log2](rows, blocks, TokensAt(p, token, 0), sums);
    for (uint32_t t = 0; t < 1u << log2; ++t) {
      for (uint32_t r = begin; r < end; ++r) {
        StoreOutput(p.args, token + t, r, sums[t * kLanes + r - row]);
      }
    }
    token += 1u << log2;
  }
}

// Rows [begin, end) for few tokens. The last ones are multiplied with some before them, which are
// not stored again; in a matrix of fewer rows each one with itself.
void MultiplyFewTokens(const Product& p, uint32_t begin, uint32_t end) {
  for (; begin + kLanes <= end; begin += kLanes) {
    MultiplyRows(p, begin, p.row_bytes, begin, begin + kLanes);
  }
  if (begin == end) return;
  if (end >= kLanes) return MultiplyRows(p, end - kLanes, p.row_bytes, begin, end);
  for (uint32_t row = begin; row < end; ++row) MultiplyRows(p, row, 0, row, row + 1);
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
                           GetKernels(args.dtype, planes),
                           RowBytes(args.dtype, args.columns),
                           HoldsWords(args.quantized_format, args.tokens)};
  if (args.tokens < kManyTokens) return MultiplyFewTokens(product, begin, end);
  constexpr uint32_t kPanelRows = kSumTiles * kTileRows;
  for (uint32_t token = 0; token < args.tokens; token += kSumTokens) {
    const uint32_t tokens = std::min(kSumTokens, args.tokens - token);
    for (uint32_t row = begin; row < end; row += kPanelRows) {
      MultiplyPanel(product, row, std::min(kPanelRows, end - row), token, tokens, scratch);
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
