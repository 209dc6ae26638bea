// MatMul: which way a product goes.
#include <algorithm>

#include "io/base.h"
#include "kernels/cuda_stream.h"
#include "kernels/matmul_cuda.h"
#include "kernels/ops_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

// Float activations with a block format: tiles of the weight as float32.
void MultiplyDecoded(CudaStream& stream, const MatMulArgs& args) {
  const uint64_t row_bytes = RowBytes(args.dtype, args.columns);
  const uint64_t stride = args.columns;  // a multiple of 32
  const uint64_t most = stream.scratch_bytes() / (4 * stride);
  WEIR_CHECK(most > 0);
  for (uint64_t r = 0; r < args.rows; r += most) {
    MatMulArgs tile = args;
    tile.rows = static_cast<uint32_t>(std::min<uint64_t>(most, args.rows - r));
    tile.bias = args.bias == nullptr ? nullptr : args.bias + r;
    tile.output = args.output + r;
    tile.dtype = DType::kF32;
    tile.weight = stream.scratch();
    DequantizeToFloats(
        stream, {args.dtype, args.weight + r * row_bytes, tile.rows, args.columns, stride, 1.0f},
        reinterpret_cast<float*>(stream.scratch()));
    MatVecFloat(stream, tile, false);
  }
}

}  // namespace

void MatMulCuda(CudaStream& stream, const MatMulArgs& args) {
  WEIR_CHECK((args.input != nullptr) != (args.quantized != nullptr));
  WEIR_CHECK(args.columns % GetDTypeInfo(args.dtype).block_elements == 0);
  WEIR_CHECK(args.quantized == nullptr || UsesQuantizedActivations(args.dtype));
  WEIR_CHECK(args.output_stride >= args.rows || args.tokens <= 1);
  if (args.tokens == 0 || args.rows == 0) return;
  if (args.tokens > kMatVecTokens) return MatMulByGemm(stream, args);
  if (args.quantized != nullptr) return MatVecQuantized(stream, args);
  if (UsesQuantizedActivations(args.dtype)) return MultiplyDecoded(stream, args);
  MatVecFloat(stream, args, true);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
