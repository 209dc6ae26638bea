// Decoding of whole weights: for prompts to float16, for embedding rows and exact products to
// float32. A warp takes a row, as in the matrix-vector products.
#include "io/base.h"
#include "kernels/cuda_float_formats.h"
#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_launch.h"
#include "kernels/cuda_row_stream.h"
#include "kernels/cuda_unpack.h"
#include "kernels/matmul_cuda.h"

namespace weir::WEIR_CUDA_NAMESPACE {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / kWarpThreads;
constexpr uint32_t kBlocks = 6;  // of a multiprocessor
constexpr uint32_t kStages = 3;

struct DecodeArgs {
  DequantizeArgs rows;
  uint32_t row_bytes;
  // One of three things is done: `floats` or `halves` written, or without either inverse_scales.
  float* floats;
  uint16_t* halves;
  float* inverse_scales;  // [rows]; read for halves
};

template <DType kDType>
constexpr uint32_t StepBytesOf() {
  if constexpr (kDType == DType::kF32 || kDType == DType::kF16 || kDType == DType::kBF16) {
    return FloatFormat<kDType>::kStepBytes;
  } else {
    return Format<kDType>::kStepBytes;
  }
}

// What becomes of a row's numbers.
class RowSink {
 public:
  WEIR_DEVICE RowSink(const DecodeArgs& args, uint32_t row) : args_(args), row_(row) {
    if (args.halves != nullptr) {
      // The inverse of a power of two: the exponents add up to 254.
      scale_ = BitsToFloat((uint32_t{254} << 23) - FloatToBits(args.inverse_scales[row]));
    }
  }

  // kCount numbers, 4 or a multiple of 8, from `column` on, a multiple of kCount; those beyond the
  // row are passed over.
  template <uint32_t kCount>
  WEIR_DEVICE void Take(uint32_t column, const float* values) {
    const uint32_t count =
        args_.rows.columns - column < kCount ? args_.rows.columns - column : kCount;
    const uint64_t at = row_ * args_.rows.stride + column;
    if (args_.floats != nullptr) return StoreFloats<kCount>(args_.floats + at, values, count);
    if (args_.halves != nullptr) return StoreHalves<kCount>(args_.halves + at, values, count);
    WEIR_UNROLL
    for (uint32_t i = 0; i < kCount; ++i) {
      const uint32_t magnitude = i < count ? FloatToBits(values[i]) & 0x7FFFFFFF : 0;
      largest_ = magnitude > largest_ ? magnitude : largest_;
    }
  }

  // Called by all lanes at the row's end.
  WEIR_DEVICE void Finish() {
    if (args_.floats != nullptr || args_.halves != nullptr) return;
    for (uint32_t mask = kWarpThreads / 2; mask > 0; mask /= 2) {
      const uint32_t other = ShuffleXor(largest_, mask);
      largest_ = other > largest_ ? other : largest_;
    }
    if (LaneIndex() == 0) args_.inverse_scales[row_] = HalfScaleOf(largest_).inverse;
  }

 private:
  template <uint32_t kCount>
  WEIR_DEVICE void StoreFloats(float* to, const float* values, uint32_t count) {
    if (count == kCount && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
      WEIR_UNROLL
      for (uint32_t i = 0; i < kCount; i += 4) {
        const float s = args_.rows.scale;
        *reinterpret_cast<Floats4*>(to + i) = {values[i] * s, values[i + 1] * s, values[i + 2] * s,
                                               values[i + 3] * s};
      }
      return;
    }
    WEIR_UNROLL
    for (uint32_t i = 0; i < kCount; ++i) {
      if (i < count) to[i] = values[i] * args_.rows.scale;
    }
  }
  WEIR_DEVICE uint32_t HalfPair(const float* values) const {
    return FloatToHalf(values[0] * scale_) | (uint32_t{FloatToHalf(values[1] * scale_)} << 16);
  }
  template <uint32_t kCount>
  WEIR_DEVICE void StoreHalves(uint16_t* to, const float* values, uint32_t count) {
    if (count == kCount) {  // rows are aligned
      if constexpr (kCount == 4) {
        *reinterpret_cast<Words2*>(to) = {HalfPair(values), HalfPair(values + 2)};
      } else {
        WEIR_UNROLL
        for (uint32_t i = 0; i < kCount; i += 8) {
          *reinterpret_cast<Words4*>(to + i) = {HalfPair(values + i), HalfPair(values + i + 2),
                                                HalfPair(values + i + 4), HalfPair(values + i + 6)};
        }
      }
      return;
    }
    WEIR_UNROLL
    for (uint32_t i = 0; i < kCount; ++i) {
      if (i < count) to[i] = FloatToHalf(values[i] * scale_);
    }
  }

  const DecodeArgs& args_;
  const uint64_t row_;
  float scale_ = 1;
  uint32_t largest_ = 0;
};

// w = scale * (u - zero) + offset in this order of roundings (kernels/group_form.h).
template <DType kDType>
WEIR_DEVICE void DecodeBlocks(SharedBytes bytes, uint32_t first, uint32_t columns, RowSink* sink) {
  using F = Format<kDType>;
  const uint32_t lane = LaneIndex();
  if (first + kQuarterColumns * QuarterOf<F>(lane, 0) >= columns) return;
  WeightUnit unit;
  LoadUnit<kDType>(bytes, lane, &unit);
  WEIR_UNROLL
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t column = first + kQuarterColumns * QuarterOf<F>(lane, i);
    if (column >= columns) break;
    const uint32_t group = F::kGroup == 16 ? i : i / 2;
    float values[kQuarterColumns];
    WEIR_UNROLL
    for (uint32_t c = 0; c < kQuarterColumns; ++c) {
      const int32_t u = SignedByteOf(unit.values[4 * i + c / 4], c % 4);
      values[c] = unit.scale[group] * static_cast<float>(u - F::kZero);
      // Adding a zero offset would turn -0 into +0.
      if constexpr (F::kHasOffset) values[c] += unit.offset[group];
    }
    sink->Take<kQuarterColumns>(column, values);
  }
}

template <DType kDType>
WEIR_DEVICE void DecodeFloats(SharedBytes bytes, uint32_t first, uint32_t columns, RowSink* sink) {
  using F = FloatFormat<kDType>;
  WEIR_UNROLL
  for (uint32_t word = LaneIndex(); word < 64; word += kWarpThreads) {
    const uint32_t column = first + word * F::kWordColumns;
    if (column >= columns) break;
    float values[F::kWordColumns];
    LoadFloats<kDType>(bytes, word, values);
    sink->Take<F::kWordColumns>(column, values);
  }
}

template <DType kDType>
WEIR_KERNEL(kThreads, kBlocks)
void DecodeKernel(DecodeArgs args) {
  using RingStream = RowStream<StepBytesOf<kDType>(), kStages>;
  constexpr bool kFloats = kDType == DType::kF32 || kDType == DType::kF16 || kDType == DType::kBF16;
  const DequantizeArgs& r = args.rows;
  const uint32_t first_row = BlockX() * kWarps + WarpIndex();
  const uint32_t stride = BlockCountX() * kWarps;
  const WeightBytes weight = {r.weight, r.weight + uint64_t{r.rows} * args.row_bytes};
  RingStream stream(weight, args.row_bytes, r.rows, first_row, stride,
                    DynamicShared() + WarpIndex() * RingStream::kBytes);
  for (uint32_t row = first_row; row < r.rows; row += stride) {
    const uint32_t skip = Misalignment(r.weight + uint64_t{row} * args.row_bytes);
    RowSink sink(args, row);
    uint32_t first = 0;
    while (first < r.columns) {
      const SharedBytes bytes = {stream.Next(), skip};
      if constexpr (kFloats) {
        DecodeFloats<kDType>(bytes, first, r.columns, &sink);
        first += FloatFormat<kDType>::kStepColumns;
      } else {
        DecodeBlocks<kDType>(bytes, first, r.columns, &sink);
        first += kStepColumns;
      }
    }
    sink.Finish();
  }
}

void LaunchDecode(CudaStream& stream, DecodeArgs args) {
  const uint64_t row_bytes = RowBytes(args.rows.dtype, args.rows.columns);
  WEIR_CHECK(row_bytes < (uint64_t{1} << 31));
  args.row_bytes = static_cast<uint32_t>(row_bytes);
  const uint64_t needed = CeilDiv(args.rows.rows, kWarps);
  const uint64_t most = uint64_t{stream.multiprocessors()} * kBlocks;
  LaunchShape shape;
  shape.blocks_x = static_cast<uint32_t>(needed < most ? needed : most);
  shape.threads = kThreads;
  const auto run = [&]<DType kDType>() {
    shape.shared_bytes = kWarps * RowStream<StepBytesOf<kDType>(), kStages>::kBytes;
    Launch(stream, shape, DecodeKernel<kDType>, args);
  };
  if (GetDTypeInfo(args.rows.dtype).block_elements > 1) return ForBlockFormat(args.rows.dtype, run);
  ForFloatFormat(args.rows.dtype, run);
}

}  // namespace

void DequantizeToFloats(CudaStream& stream, const DequantizeArgs& args, float* output) {
  LaunchDecode(stream, {args, 0, output, nullptr, nullptr});
}

void DequantizeToHalves(CudaStream& stream, const DequantizeArgs& args, uint16_t* output,
                        float* inverse_scales) {
  WEIR_CHECK(args.stride % 8 == 0 && reinterpret_cast<uintptr_t>(output) % 16 == 0);
  LaunchDecode(stream, {args, 0, nullptr, nullptr, inverse_scales});
  LaunchDecode(stream, {args, 0, nullptr, output, inverse_scales});
}

}  // namespace weir::WEIR_CUDA_NAMESPACE
