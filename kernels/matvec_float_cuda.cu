// Matrix-vector products of float formats with float activations, 1 to 8 tokens. A warp takes a row
// in steps of 1 KiB, a lane two words of 16 bytes of each, out of shared memory
// (kernels/cuda_row_stream.h); activations come from L1.
//
// Cost of BF16 with one token, for a lane's 16 columns: 2 loads of weights, 4 of activations, 16
// instructions to widen, 16 fma, about 30 for the loop and the copies: 4.3 a weight. An H100 has 19
// issue slots for each weight that its memory delivers (3.1 TB/s, 16 bits a weight).
#include "io/base.h"
#include "kernels/cuda_float_formats.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/cuda_row_stream.h"
#include "kernels/matmul_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / kWarpThreads;
constexpr uint32_t kBlocks = 8;  // of a multiprocessor
constexpr uint32_t kStages = 4;

struct MatVecArgs {
  MatMulArgs matmul;
  uint32_t row_bytes;
  bool aligned_input;  // every row of it, to 16 bytes
};

// kCount consecutive activations, of which `left` are there: the others count as zero, and so must
// the weights that they meet, which may be anything.
template <uint32_t kCount>
WEIR_DEVICE float AddProducts(float sum, const float* weights, const float* input, uint32_t left,
                              bool aligned) {
  if (left >= kCount && aligned) {
    WEIR_UNROLL
    for (uint32_t i = 0; i < kCount; i += 4) {
      const Floats4 x = Load(reinterpret_cast<const Floats4*>(input + i));
      sum = Fma(weights[i], x.x, sum);
      sum = Fma(weights[i + 1], x.y, sum);
      sum = Fma(weights[i + 2], x.z, sum);
      sum = Fma(weights[i + 3], x.w, sum);
    }
    return sum;
  }
  WEIR_UNROLL
  for (uint32_t i = 0; i < kCount; ++i) {
    if (i < left) sum = Fma(weights[i], Load(input + i), sum);
  }
  return sum;
}

template <DType kDType, uint32_t kTokens>
WEIR_KERNEL(kThreads, kBlocks)
void FloatMatVecKernel(MatVecArgs args) {
  using F = FloatFormat<kDType>;
  using RingStream = RowStream<F::kStepBytes, kStages>;
  LetNextBegin();
  const MatMulArgs& m = args.matmul;
  const uint32_t lane = LaneIndex();
  const uint32_t first_row = BlockX() * kWarps + WarpIndex();
  const uint32_t stride = BlockCountX() * kWarps;
  const WeightBytes weight = {m.weight, m.weight + uint64_t{m.rows} * args.row_bytes};
  RingStream stream(weight, args.row_bytes, m.rows, first_row, stride,
                    DynamicShared() + WarpIndex() * RingStream::kBytes);
  WaitForPrevious();  // weights are under way by now
  for (uint32_t row = first_row; row < m.rows; row += stride) {
    const uint32_t skip = Misalignment(m.weight + uint64_t{row} * args.row_bytes);
    float sums[kTokens] = {};
    for (uint32_t first = 0; first < m.columns; first += F::kStepColumns) {
      const SharedBytes bytes = {stream.Next(), skip};
      WEIR_UNROLL
      for (uint32_t word = lane; word < 64; word += kWarpThreads) {
        const uint32_t column = first + word * F::kWordColumns;
        if (column >= m.columns) break;
        float weights[F::kWordColumns];
        LoadFloats<kDType>(bytes, word, weights);
        const float* input = m.input + column;
        WEIR_UNROLL
        for (uint32_t t = 0; t < kTokens; ++t) {
          if (kTokens > 1 && t >= m.tokens) break;
          sums[t] = AddProducts<F::kWordColumns>(sums[t], weights, input, m.columns - column,
                                                 args.aligned_input);
          input += m.input_stride;
        }
      }
    }
    StoreSums(m, row, sums);
  }
}

template <DType kDType, uint32_t kTokens>
void LaunchMatVec(CudaStream& stream, const MatVecArgs& args, bool early) {
  using RingStream = RowStream<FloatFormat<kDType>::kStepBytes, kStages>;
  LaunchShape shape = WarpPerRow(stream, args.matmul.rows, kWarps, kBlocks);
  shape.early = early;
  shape.shared_bytes = kWarps * RingStream::kBytes;
  Launch(stream, shape, FloatMatVecKernel<kDType, kTokens>, args);
}

}  // namespace

void MatVecFloat(CudaStream& stream, const MatMulArgs& matmul, bool early) {
  const uint64_t row_bytes = RowBytes(matmul.dtype, matmul.columns);
  WEIR_CHECK(row_bytes < (uint64_t{1} << 31));
  const bool aligned = reinterpret_cast<uintptr_t>(matmul.input) % 16 == 0 &&
                       (matmul.input_stride % 4 == 0 || matmul.tokens == 1);
  const MatVecArgs args = {matmul, static_cast<uint32_t>(row_bytes), aligned};
  ForFloatFormat(matmul.dtype, [&]<DType kDType>() {
    if (matmul.tokens == 1) return LaunchMatVec<kDType, 1>(stream, args, early);
    if (matmul.tokens <= 4) return LaunchMatVec<kDType, 4>(stream, args, early);
    LaunchMatVec<kDType, 8>(stream, args, early);
  });
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
