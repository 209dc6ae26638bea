// Weights of the float formats in shared memory, read 16 bytes at a time.
#ifndef WEIR_KERNELS_CUDA_FLOAT_FORMATS_H_
#define WEIR_KERNELS_CUDA_FLOAT_FORMATS_H_

#include <cstdint>

#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_namespace.h"
#include "kernels/cuda_unpack.h"
#include "kernels/dtype.h"

namespace weir::WEIR_CUDA_NAMESPACE {

// A lane takes two words of 16 bytes of each step of 1024: numbers lane and lane + 32.
template <DType kDType>
struct FloatFormat {
  static_assert(kDType == DType::kF32 || kDType == DType::kF16 || kDType == DType::kBF16);
  static constexpr uint32_t kElementBytes = kDType == DType::kF32 ? 4 : 2;
  static constexpr uint32_t kWordColumns = 16 / kElementBytes;
  static constexpr uint32_t kStepBytes = 1024;
  static constexpr uint32_t kStepColumns = kStepBytes / kElementBytes;
};

// The kWordColumns numbers of word `number` of a step that begins at `step`.
template <DType kDType>
WEIR_DEVICE void LoadFloats(SharedBytes step, uint32_t number, float* values) {
  uint32_t words[4];
  if (step.at % 16 == 0) {
    LoadWordsOrFours<4, true>(step + 16 * number, words);
  } else {
    LoadWordsOrFours<4, false>(step + 16 * number, words);
  }
  WEIR_UNROLL
  for (uint32_t i = 0; i < 4; ++i) {
    if constexpr (kDType == DType::kF32) {
      values[i] = BitsToFloat(words[i]);
    } else if constexpr (kDType == DType::kF16) {
      values[2 * i] = LowHalf(words[i]);
      values[2 * i + 1] = HighHalf(words[i]);
    } else {
      values[2 * i] = BitsToFloat(words[i] << 16);
      values[2 * i + 1] = BitsToFloat(words[i] & 0xFFFF0000);
    }
  }
}

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_CUDA_FLOAT_FORMATS_H_
