// Matrix-vector products of block formats with quantised activations, 1 to 8 tokens.
//
// A warp takes a row in steps of 2048 columns, a lane 64 columns of a step: it decodes them to
// bytes once and multiplies them, for each token, with both planes of the activations by dp4a.
// Weights come through shared memory (kernels/cuda_row_stream.h), activations out of L1, which
// holds a token of any usual size (2.6 bytes a column).
//
// Cost for an H100 of Q4_K with one token, counted in the machine code: 142 instructions for a
// lane's 64 columns (32 dp4a, 16 of them for the second plane; 10 loads of activations; 24 to split
// nibbles; 40 for two scales and minima; 12 to scale and add; the rest addresses and the loop), 116
// for a stage of two steps and 53 for a row. That is 3.1 a weight and 0.4 more where a row is 4096
// columns. The device has 5.4 issue slots and 2.7 integer slots for each weight that its memory
// delivers (3.1 TB/s, 4.5 bits a weight). With 32 warps a multiprocessor and a stage of each under
// way 72 KiB are asked for; 3.1 TB/s times 0.8 us need 19 KiB. The kernel is launched early, and
// has asked for its first weights by the time the one before ends.
#include <cstddef>

#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/cuda_row_stream.h"
#include "kernels/cuda_unpack.h"
#include "kernels/matmul_cuda.h"
#include "kernels/quantized_activations.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / kWarpThreads;
// Blocks of a multiprocessor: few enough that the sums of the tokens fit the registers.
constexpr uint32_t BlocksOf(uint32_t tokens) { return tokens == 1 ? 8 : 5; }

// A stage of the ring holds two steps where they are small, which halves the cost of the ring, and
// as many stages as 5 KiB of shared memory a warp hold, of which one is in use.
template <DType kDType>
struct Ring {
  static constexpr uint32_t kStepBytes = Format<kDType>::kStepBytes;
  static constexpr uint32_t kSteps = kStepBytes <= 1200 ? 2 : 1;
  static constexpr uint32_t kFitting = 5200 / StageBytes(kSteps * kStepBytes);
  static constexpr uint32_t kStages = kFitting < 2 ? 2 : kFitting > 6 ? 6 : kFitting;
  using Stream = RowStream<kSteps * kStepBytes, kStages>;
};

struct MatVecArgs {
  MatMulArgs matmul;
  uint32_t row_bytes;
  uint32_t token_lines;  // of the quantised activations
};

template <typename T>
WEIR_DEVICE T LoadAt(const void* base, uint32_t offset) {
  return Load(reinterpret_cast<const T*>(static_cast<const uint8_t*>(base) + offset));
}

// The exact product of a quarter's 16 columns with a token's two planes, kPlaneBase * high + low.
struct Dot {
  int32_t high = 0;
  int32_t low = 0;
  WEIR_DEVICE void Add(const uint32_t* values, const Words4& h, const Words4& l) {
    high = Dp4a(values[3], h.w, Dp4a(values[2], h.z, Dp4a(values[1], h.y, high)));
    low = Dp4a(values[3], l.w, Dp4a(values[2], l.z, Dp4a(values[1], l.y, low)));
    high = Dp4a(values[0], h.x, high);
    low = Dp4a(values[0], l.x, low);
  }
  WEIR_DEVICE float value() const { return static_cast<float>(kPlaneBase * high + low); }
};

// sum + w * x over a group: scale and offset of the weight, a of the activations, `total` the sum
// of their q.
template <DType kDType>
WEIR_DEVICE float AddGroup(float sum, float dot, float scale, float offset, float a, float total) {
  using F = Format<kDType>;
  if constexpr (F::kZero != 0) dot = Fma(-static_cast<float>(F::kZero), total, dot);
  sum = Fma(dot, scale * a, sum);
  if constexpr (F::kHasOffset) sum = Fma(offset * a, total, sum);
  return sum;
}

// Quarters i and i + 1, 32 columns, of the lane's line of one token.
template <DType kDType>
WEIR_DEVICE float AddQuarters(float sum, const WeightUnit& unit, uint32_t i,
                              const CudaQuantizedLine* line, uint32_t odd_lane) {
  using F = Format<kDType>;
  const uint32_t lane_quarter = odd_lane * F::kOddLane;
  const uint8_t* const lane_high = reinterpret_cast<const uint8_t*>(line) + 16 * lane_quarter;
  const auto* const lane_groups = reinterpret_cast<const uint8_t*>(line->groups + lane_quarter / 2);
  Dot dots[2];
  WEIR_UNROLL
  for (uint32_t j = 0; j < 2; ++j) {
    const uint32_t offset = 16 * F::QuarterInLine(i + j);
    dots[F::kGroup == 16 ? j : 0].Add(
        unit.values + 4 * (i + j), LoadAt<Words4>(lane_high, offset),
        LoadAt<Words4>(lane_high, offset + offsetof(CudaQuantizedLine, low)));
  }
  if constexpr (F::kGroup == 32) {
    const Words2 group = LoadAt<Words2>(lane_groups, 8 * F::QuarterInLine(i));
    sum = AddGroup<kDType>(sum, dots[0].value(), unit.scale[i / 2], unit.offset[i / 2],
                           BitsToFloat(group.x), BitsToFloat(group.y));
  } else {
    WEIR_UNROLL
    for (uint32_t j = 0; j < 2; ++j) {
      const uint32_t n = F::QuarterInLine(i + j);
      const Floats4 group = LoadAt<Floats4>(lane_groups, n / 2 * sizeof(Floats4));
      // Which half: the lane's quarter is odd by its number or by its lane, never by both.
      const bool second = F::kOddLane % 2 == 0 ? n % 2 == 1 : odd_lane == 1;
      sum = AddGroup<kDType>(sum, dots[j].value(), unit.scale[i + j], unit.offset[i + j], group.x,
                             second ? group.w : group.z);
    }
  }
  return sum;
}

template <DType kDType, uint32_t kTokens>
WEIR_KERNEL(kThreads, BlocksOf(kTokens))
void MatVecKernel(MatVecArgs args) {
  using F = Format<kDType>;
  using RingStream = typename Ring<kDType>::Stream;
  constexpr uint32_t kStageColumns = Ring<kDType>::kSteps * kStepColumns;
  LetNextBegin();
  const MatMulArgs& m = args.matmul;
  const uint32_t lane = LaneIndex();
  const uint32_t first_row = BlockX() * kWarps + WarpIndex();
  const uint32_t stride = BlockCountX() * kWarps;
  const WeightBytes weight = {m.weight, m.weight + uint64_t{m.rows} * args.row_bytes};
  RingStream stream(weight, args.row_bytes, m.rows, first_row, stride,
                    DynamicShared() + WarpIndex() * RingStream::kBytes);
  WaitForPrevious();  // weights are under way by now
  const auto* const lane_line = reinterpret_cast<const CudaQuantizedLine*>(m.quantized) + lane / 2;
  const uint32_t lane_column = kQuarterColumns * QuarterOf<F>(lane, 0);
  for (uint32_t row = first_row; row < m.rows; row += stride) {
    const uint32_t skip = Misalignment(m.weight + uint64_t{row} * args.row_bytes);
    float sums[kTokens] = {};
    const CudaQuantizedLine* line = lane_line;
    for (uint32_t first = 0; first < m.columns; first += kStageColumns) {
      SharedBytes bytes = {stream.Next(), skip};
      const uint32_t end = m.columns - first < kStageColumns ? m.columns : first + kStageColumns;
      // Of 32 columns all or none are there. Beyond the row lies garbage, and no activation.
      WEIR_NO_UNROLL
      for (uint32_t column = first + lane_column; column < end; column += kStepColumns) {
        const bool all = F::kBlockColumns == kSuperBlock || column + 32 < m.columns;
        WeightUnit unit;
        LoadUnit<kDType>(bytes, lane, &unit);
        const CudaQuantizedLine* token = line;
        WEIR_UNROLL
        for (uint32_t t = 0; t < kTokens; ++t) {
          if (kTokens > 1 && t >= m.tokens) break;
          sums[t] = AddQuarters<kDType>(sums[t], unit, 0, token, lane % 2);
          if (all) sums[t] = AddQuarters<kDType>(sums[t], unit, 2, token, lane % 2);
          token += args.token_lines;
        }
        bytes = bytes + F::kStepBytes;
        line += kStepColumns / CudaQuantizedLine::kColumns;
      }
    }
    StoreSums(m, row, sums);
  }
}

template <DType kDType, uint32_t kTokens>
void LaunchMatVec(CudaStream& stream, const MatVecArgs& args) {
  LaunchShape shape = WarpPerRow(stream, args.matmul.rows, kWarps, BlocksOf(kTokens));
  shape.early = true;
  shape.shared_bytes = kWarps * Ring<kDType>::Stream::kBytes;
  Launch(stream, shape, MatVecKernel<kDType, kTokens>, args);
}

}  // namespace

void MatVecQuantized(CudaStream& stream, const MatMulArgs& matmul) {
  const uint64_t row_bytes = RowBytes(matmul.dtype, matmul.columns);
  WEIR_CHECK(row_bytes < (uint64_t{1} << 31));
  const uint64_t lines = CeilDiv(matmul.columns, CudaQuantizedLine::kColumns);
  const MatVecArgs args = {matmul, static_cast<uint32_t>(row_bytes), static_cast<uint32_t>(lines)};
  ForBlockFormat(matmul.dtype, [&]<DType kDType>() {
    if (matmul.tokens == 1) return LaunchMatVec<kDType, 1>(stream, args);
    if (matmul.tokens <= 4) return LaunchMatVec<kDType, 4>(stream, args);
    LaunchMatVec<kDType, 8>(stream, args);
  });
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
