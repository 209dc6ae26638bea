// What happens to the columns of a head between its projection and attention, for the kernels that
// do it one by one and for the one that does all at once.
#ifndef WEIR_KERNELS_HEAD_COLUMNS_CUDA_H_
#define WEIR_KERNELS_HEAD_COLUMNS_CUDA_H_

#include <cstdint>

#include "kernels/cuda_intrinsics.h"
#include "kernels/ops.h"

namespace weir::WEIR_CUDA_NAMESPACE {

struct SineCosine {
  float sine;
  float cosine;
};

// Of any angle below 2^31 pi / 2, right but for the rounding to float32: reduced to [-pi/4, pi/4]
// and summed in double. The Taylor series end with x^13 and x^14: what follows is below 2^-44.
WEIR_DEVICE SineCosine SinCosOf(double angle, double magnitude) {
  const auto quarters = static_cast<int64_t>(angle * 0.6366197723675814 + (angle < 0 ? -0.5 : 0.5));
  // pi / 2 in two parts: the first has trailing zeros, so its product is exact up to 2^27 quarters.
  const auto turned = static_cast<double>(quarters);
  const double x = angle - turned * 0x1.921fb5p+0 - turned * (1.5707963267948966 - 0x1.921fb5p+0);
  const double y = x * x;
  double sine = 1.0 / 6227020800;
  sine = sine * y - 1.0 / 39916800;
  sine = sine * y + 1.0 / 362880;
  sine = sine * y - 1.0 / 5040;
  sine = sine * y + 1.0 / 120;
  sine = sine * y - 1.0 / 6;
  sine = (sine * y + 1.0) * x;
  double cosine = -1.0 / 87178291200;
  cosine = cosine * y + 1.0 / 479001600;
  cosine = cosine * y - 1.0 / 3628800;
  cosine = cosine * y + 1.0 / 40320;
  cosine = cosine * y - 1.0 / 720;
  cosine = cosine * y + 1.0 / 24;
  cosine = cosine * y - 0.5;
  cosine = cosine * y + 1.0;
  const double quarter_sine = quarters % 2 == 0 ? sine : cosine;
  const double quarter_cosine = quarters % 2 == 0 ? cosine : -sine;
  const double sign = (quarters & 2) == 0 ? magnitude : -magnitude;
  return {static_cast<float>(sign * quarter_sine), static_cast<float>(sign * quarter_cosine)};
}

// The angle is the float32 product, as the models were trained.
WEIR_DEVICE SineCosine TurnOf(int32_t position, float inverse_frequency, float magnitude) {
  const float angle = static_cast<float>(position) * inverse_frequency;
  return SinCosOf(angle, magnitude);
}

// The columns of pair i.
struct ColumnPair {
  uint32_t first;
  uint32_t second;
};
WEIR_DEVICE ColumnPair PairOf(RopeLayout layout, uint32_t pairs, uint32_t i) {
  if (layout == RopeLayout::kHalves) return {i, i + pairs};
  return {2 * i, 2 * i + 1};
}

struct Rotated {
  float first;
  float second;
};
WEIR_DEVICE Rotated Rotate(float x, float y, SineCosine turn) {
  return {x * turn.cosine - y * turn.sine, y * turn.cosine + x * turn.sine};
}

// Beyond float16's range: its largest, since an infinity in a page would turn every later token
// into NaN.
WEIR_DEVICE uint32_t StoredHalf(float value) {
  const float most = 65504.0f;
  return FloatToHalf(value > most ? most : value < -most ? -most : value);
}

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_HEAD_COLUMNS_CUDA_H_
