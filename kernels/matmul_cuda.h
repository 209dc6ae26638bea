// The parts of CUDA's MatMul. Private to the ops. Arguments are those of MatMul (kernels/ops.h),
// already checked.
#ifndef WEIR_KERNELS_MATMUL_CUDA_H_
#define WEIR_KERNELS_MATMUL_CUDA_H_

#include <cstdint>

#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_namespace.h"
#include "kernels/cuda_stream.h"

namespace weir::WEIR_CUDA_NAMESPACE {

// Up to this many tokens are multiplied with each weight as it is read; more go through Gemm.
inline constexpr uint32_t kMatVecTokens = 8;

// Both: matmul.tokens <= kMatVecTokens. Each weight is read once. A row is one warp's: lane sums in
// order of columns, then by halving. So a token's result depends neither on the others nor on how
// the weight is cut.
// Weights in a block format, matmul.quantized.
void MatVecQuantized(CudaStream& stream, const MatMulArgs& matmul);
// Weights in a float format, matmul.input. `early` (kernels/cuda_stream.h) unless the weights have
// just been written by a kernel.
void MatVecFloat(CudaStream& stream, const MatMulArgs& matmul, bool early);

// Any number of tokens, either input, any format: weights and activations are rounded to float16
// after scaling by powers of two, each row's and token's own, and multiplied by Gemm.
void MatMulByGemm(CudaStream& stream, const MatMulArgs& args);

// Rows to [rows, columns] in `output` at row stride `stride` elements.
struct DequantizeArgs {
  DType dtype;
  const uint8_t* weight;  // [rows, columns], any alignment
  uint32_t rows;
  uint32_t columns;
  uint64_t stride;
  float scale;  // multiplies floats
};
void DequantizeToFloats(CudaStream& stream, const DequantizeArgs& args, float* output);
// `stride` is a multiple of 8. Multiplied by a power of two that brings the row's largest magnitude
// to [2^14, 2^15); inverse_scales[r] undoes it.
void DequantizeToHalves(CudaStream& stream, const DequantizeArgs& args, uint16_t* output,
                        float* inverse_scales);

// The power of two that brings a number of these bits, sign cleared, to [2^14, 2^15), or as near as
// it and its inverse are normal numbers.
struct HalfScale {
  float scale;
  float inverse;
};
WEIR_DEVICE HalfScale HalfScaleOf(uint32_t magnitude_bits) {
  uint32_t exponent = magnitude_bits >> 23;
  exponent = exponent < 15 ? 15 : exponent > 254 ? 254 : exponent;
  return {BitsToFloat((268 - exponent) << 23), BitsToFloat((exponent - 14) << 23)};
}

// The last step of every path: output[t, row] from `sum`.
WEIR_DEVICE void StoreOutput(const MatMulArgs& args, uint32_t token, uint32_t row, float sum) {
  float* const output = args.output + uint64_t{token} * args.output_stride + row;
  if (args.bias != nullptr) sum += args.bias[row];
  *output = args.accumulate ? *output + sum : sum;
}

// For matrix-vector products, in which a warp takes a row: the lanes' sums, one for each token.
template <uint32_t kTokens>
WEIR_DEVICE void StoreSums(const MatMulArgs& args, uint32_t row, const float (&sums)[kTokens]) {
  float mine = 0;
  WEIR_UNROLL
  for (uint32_t t = 0; t < kTokens; ++t) {
    const float sum = WarpSum(sums[t]);
    if (LaneIndex() == t) mine = sum;
  }
  if (LaneIndex() < args.tokens) StoreOutput(args, LaneIndex(), row, mine);
}

// Of a warp a row, `blocks` of `warps` warps on each multiprocessor at most: then warps take
// several rows.
inline LaunchShape WarpPerRow(CudaStream& stream, uint32_t rows, uint32_t warps, uint32_t blocks) {
  const uint64_t needed = CeilDiv(rows, warps);
  const uint64_t most = uint64_t{stream.multiprocessors()} * blocks;
  LaunchShape shape;
  shape.blocks_x = static_cast<uint32_t>(needed < most ? needed : most);
  shape.threads = warps * kWarpThreads;
  return shape;
}

// Calls run.template operator()<kDType>() for `dtype`.
template <typename Run>
void ForBlockFormat(DType dtype, const Run& run) {
  switch (dtype) {
#define WEIR_FORMAT_CASE(name) \
  case DType::name:            \
    return run.template operator()<DType::name>()
    WEIR_FORMAT_CASE(kQ4_0);
    WEIR_FORMAT_CASE(kQ4_1);
    WEIR_FORMAT_CASE(kQ5_0);
    WEIR_FORMAT_CASE(kQ5_1);
    WEIR_FORMAT_CASE(kQ8_0);
    WEIR_FORMAT_CASE(kQ2_K);
    WEIR_FORMAT_CASE(kQ3_K);
    WEIR_FORMAT_CASE(kQ4_K);
    WEIR_FORMAT_CASE(kQ5_K);
    WEIR_FORMAT_CASE(kQ6_K);
    WEIR_FORMAT_CASE(kIQ4_NL);
    WEIR_FORMAT_CASE(kIQ4_XS);
    WEIR_FORMAT_CASE(kMXFP4);
    default:
      WEIR_CHECK(false && "not a block format");
  }
}
template <typename Run>
void ForFloatFormat(DType dtype, const Run& run) {
  switch (dtype) {
    WEIR_FORMAT_CASE(kF32);
    WEIR_FORMAT_CASE(kF16);
    WEIR_FORMAT_CASE(kBF16);
#undef WEIR_FORMAT_CASE
    default:
      WEIR_CHECK(false && "not a float format");
  }
}

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_MATMUL_CUDA_H_
