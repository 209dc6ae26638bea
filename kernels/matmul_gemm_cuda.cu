// Matrix products of many tokens: tiles of the weight and the activations as float16, and a matrix
// product of the device's library. Both are scaled by powers of two, each row and token its own, so
// that nothing overflows and 29 binary places below the largest are kept: what remains is float16's
// rounding, 2^-11 of each factor.
#include <algorithm>
#include <utility>

#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/matmul_cuda.h"
#include "kernels/quantized_activations.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / kWarpThreads;

struct HalveArgs {
  MatMulArgs matmul;  // input or quantized
  uint32_t first_token;
  uint64_t lines;    // of a token's quantised activations
  uint16_t* output;  // [tokens, stride]
  uint64_t stride;
  float* inverse_scales;  // [tokens]
};

WEIR_DEVICE float Activation(const HalveArgs& args, uint64_t token, uint32_t column) {
  const MatMulArgs& m = args.matmul;
  if (m.input != nullptr) return m.input[token * m.input_stride + column];
  const auto* const line = reinterpret_cast<const CudaQuantizedLine*>(m.quantized) +
                           token * args.lines + column / CudaQuantizedLine::kColumns;
  const uint32_t c = column % CudaQuantizedLine::kColumns;
  return line->groups[c / 32].scale *
         static_cast<float>(kPlaneBase * int32_t{line->high[c]} + line->low[c]);
}

// A block a token: its largest magnitude, then its numbers.
WEIR_KERNEL(kThreads, 1) void HalveKernel(HalveArgs args) {
  WEIR_SHARED uint32_t of_warps[kWarps];
  const uint32_t columns = args.matmul.columns;
  const uint64_t token = args.first_token + BlockX();
  uint32_t largest = 0;
  for (uint32_t c = ThreadIndex(); c < columns; c += kThreads) {
    const uint32_t magnitude = FloatToBits(Activation(args, token, c)) & 0x7FFFFFFF;
    largest = magnitude > largest ? magnitude : largest;
  }
  for (uint32_t mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const uint32_t other = ShuffleXor(largest, mask);
    largest = other > largest ? other : largest;
  }
  if (LaneIndex() == 0) of_warps[WarpIndex()] = largest;
  SyncBlock();
  for (uint32_t i = 0; i < kWarps; ++i) largest = of_warps[i] > largest ? of_warps[i] : largest;
  const HalfScale scale = HalfScaleOf(largest);
  for (uint32_t c = ThreadIndex(); c < columns; c += kThreads) {
    args.output[BlockX() * args.stride + c] = FloatToHalf(Activation(args, token, c) * scale.scale);
  }
  if (ThreadIndex() == 0) args.inverse_scales[BlockX()] = scale.inverse;
}

struct FinishArgs {
  MatMulArgs matmul;      // of the tile: output, bias and tokens begin with it
  const float* products;  // [tokens, rows] at row stride `stride` floats; may be the output
  uint64_t stride;
  const float* token_scales;
  const float* row_scales;
};

WEIR_KERNEL(kThreads, 1) void FinishKernel(FinishArgs args) {
  const uint32_t row = BlockX() * kThreads + ThreadIndex();
  if (row >= args.matmul.rows) return;
  for (uint32_t t = BlockY(); t < args.matmul.tokens; t += BlockCountY()) {
    const float product = args.products[t * args.stride + row];
    StoreOutput(args.matmul, t, row, product * args.token_scales[t] * args.row_scales[row]);
  }
}

// How a product is cut so that its temporaries fit the scratch memory.
struct Tiles {
  uint64_t tokens;
  uint64_t rows;
  uint64_t stride;  // of both in columns
  bool in_place;    // products go straight to the output

  uint64_t HalvesBytes(uint64_t count) const { return AlignUp(count * stride * 2, 256); }
  uint64_t ScalesBytes(uint64_t count) const { return AlignUp(count * 4, 256); }
  uint64_t Bytes() const {
    return HalvesBytes(tokens) + ScalesBytes(tokens) + HalvesBytes(rows) + ScalesBytes(rows) +
           (in_place ? 0 : AlignUp(tokens * rows * 4, 256));
  }
};
Tiles ChooseTiles(const MatMulArgs& args, uint64_t scratch_bytes) {
  // The weight is decoded again for each tile of tokens: so the rows are cut first, but not into
  // tiles that are too small for a good matrix product.
  constexpr uint64_t kFewRows = 1024;
  Tiles tiles = {args.tokens, args.rows, AlignUp(args.columns, 8), !args.accumulate};
  while (tiles.Bytes() > scratch_bytes) {
    WEIR_CHECK(tiles.rows > 1 || tiles.tokens > 1);
    if (tiles.rows > kFewRows || tiles.rows >= tiles.tokens) {
      tiles.rows = CeilDiv(tiles.rows, 2);
    } else {
      tiles.tokens = CeilDiv(tiles.tokens, 2);
    }
  }
  return tiles;
}

LaunchShape FinishShape(uint32_t tokens, uint32_t rows) {
  LaunchShape shape;
  shape.blocks_x = static_cast<uint32_t>(CeilDiv(rows, kThreads));
  shape.blocks_y = std::min<uint32_t>(tokens, 65535);
  shape.threads = kThreads;
  return shape;
}

}  // namespace

void MatMulByGemm(CudaStream& stream, const MatMulArgs& args) {
  const Tiles tiles = ChooseTiles(args, stream.scratch_bytes());
  uint8_t* next = stream.scratch();
  const auto take = [&next](uint64_t bytes) { return std::exchange(next, next + bytes); };
  auto* const inputs = reinterpret_cast<uint16_t*>(take(tiles.HalvesBytes(tiles.tokens)));
  auto* const token_scales = reinterpret_cast<float*>(take(tiles.ScalesBytes(tiles.tokens)));
  auto* const weights = reinterpret_cast<uint16_t*>(take(tiles.HalvesBytes(tiles.rows)));
  auto* const row_scales = reinterpret_cast<float*>(take(tiles.ScalesBytes(tiles.rows)));
  auto* const room = reinterpret_cast<float*>(next);
  const uint64_t row_bytes = RowBytes(args.dtype, args.columns);
  const uint64_t lines = CeilDiv(args.columns, CudaQuantizedLine::kColumns);
  for (uint64_t t = 0; t < args.tokens; t += tiles.tokens) {
    MatMulArgs tile = args;
    tile.tokens = static_cast<uint32_t>(std::min<uint64_t>(tiles.tokens, args.tokens - t));
    LaunchShape shape;
    shape.blocks_x = tile.tokens;
    shape.threads = kThreads;
    Launch(stream, shape, HalveKernel,
           {args, static_cast<uint32_t>(t), lines, inputs, tiles.stride, token_scales});
    for (uint64_t r = 0; r < args.rows; r += tiles.rows) {
      tile.rows = static_cast<uint32_t>(std::min<uint64_t>(tiles.rows, args.rows - r));
      tile.weight = args.weight + r * row_bytes;
      tile.bias = args.bias == nullptr ? nullptr : args.bias + r;
      tile.output = args.output + t * args.output_stride + r;
      DequantizeToHalves(stream,
                         {args.dtype, tile.weight, tile.rows, args.columns, tiles.stride, 1.0f},
                         weights, row_scales);
      float* const products = tiles.in_place ? tile.output : room;
      const uint64_t stride = tiles.in_place ? args.output_stride : tile.rows;
      stream.Gemm({inputs, tiles.stride, weights, tiles.stride, products, stride, tile.tokens,
                   tile.rows, args.columns});
      Launch(stream, FinishShape(tile.tokens, tile.rows), FinishKernel,
             {tile, products, stride, token_scales, row_scales});
    }
  }
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
