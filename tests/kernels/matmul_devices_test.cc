// MatMul and QuantizeActivations on every device, each format, at any alignment.
//
// Up to 8 tokens: with u = 2^-24, quantised activations against the product of what was quantised.
// A group of columns is one term, rounded at most six times (its integer product, the zero point,
// the product of scales, the sum; an offset's product and sum); then come the sums over groups: of
// one after the other on the CPU, on CUDA of four a step of 2048 columns in a lane and five by
// halving. Float activations against a double sum: no path adds more than max(128, columns / 32 +
// 16) products before it halves, and a decoded weight is rounded three times.
// More tokens on CUDA are float16 products: each factor loses 2^-11 of itself, or where it is 2^29
// times smaller than its row's largest 2^-39 of that; and a sum of `columns` terms in any order.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"
#ifdef WEIR_HAVE_HOST_GRID
#include "tests/kernels/host_grid/device.h"
#endif
#include "tests/kernels/op_reference_helper.h"
#include "tests/kernels/op_runner_helper.h"
#include "tests/kernels/reference_helper.h"

namespace weir {
namespace {

using MatMulOnDeviceTest = OpTest;
WEIR_ON_EVERY_DEVICE(MatMulOnDeviceTest);

struct Problem {
  Problem(DType dtype_in, uint32_t rows_in, uint32_t columns_in, uint32_t tokens_in, uint64_t seed)
      : dtype(dtype_in),
        rows(rows_in),
        columns(columns_in),
        tokens(tokens_in),
        stride(columns_in + 5),
        weight(RandomWeights(dtype_in, rows_in, columns_in, seed)),
        input(RandomActivations(tokens_in * stride - 5, seed + 1)),
        bias(RandomActivations(rows_in, seed + 2)),
        residual(RandomActivations(uint64_t{tokens_in} * rows_in, seed + 3)) {
    for (uint32_t r = 0; r < rows; ++r) {
      const uint8_t* row = weight.data() + r * RowBytes(dtype, columns);
      for (uint32_t c = 0; c < columns; ++c) {
        elements.push_back(ReferenceElement(dtype, row, c));
        double magnitude = std::fabs(elements.back());
        if (UsesQuantizedActivations(dtype)) {
          // What is multiplied before the zero point, at most 128 (bytes), is taken off.
          const ReferenceParts p = ReferencePartsOf(dtype, row, c);
          magnitude = std::fabs(double{p.scale}) * (std::abs(p.integer) + 64) + std::fabs(p.offset);
        }
        magnitudes.push_back(magnitude);
      }
    }
  }

  DType dtype;
  uint32_t rows, columns, tokens;
  uint64_t stride;
  std::vector<uint8_t> weight;
  std::vector<float> input, bias, residual;
  std::vector<double> elements;    // [rows, columns], decoded
  std::vector<double> magnitudes;  // of what roundings are relative to
};

struct Way {
  ActivationFormat format = ActivationFormat::kF32;
  bool extras = false;  // bias and accumulation
  uint32_t misalign_bytes = 0;
  uint32_t piece_rows = 0;   // 0: the weight in one piece
  uint32_t first_token = 0;  // with `tokens` of them
  uint32_t tokens = 0;       // 0: all
};

std::vector<float> Multiply(OpRunner& runner, const Problem& p, const Way& way) {
  const uint32_t tokens = way.tokens ? way.tokens : p.tokens;
  MatMulArgs args;
  args.dtype = p.dtype;
  args.output_stride = p.rows;
  args.tokens = tokens;
  args.columns = p.columns;
  args.accumulate = way.extras;
  const float* const input = runner.Upload(p.input) + way.first_token * p.stride;
  if (way.format == ActivationFormat::kF32) {
    args.input = input;
    args.input_stride = p.stride;
  } else {
    uint8_t* quantized = runner.Allocate(QuantizedActivationBytes(tokens, p.columns));
    QuantizeActivations(runner.stream(),
                        {input, p.stride, quantized, tokens, p.columns, way.format});
    args.quantized = quantized;
    args.quantized_format = way.format;
  }
  const auto from = p.residual.begin() + uint64_t{way.first_token} * p.rows;
  std::vector<float> old(from, from + uint64_t{tokens} * p.rows);
  if (!way.extras) std::fill(old.begin(), old.end(), std::nanf(""));
  float* const output = runner.Upload(old);
  const uint8_t* const weight = runner.Upload(p.weight, way.misalign_bytes);
  const float* const bias = runner.Upload(p.bias);
  const uint32_t piece_rows = way.piece_rows ? way.piece_rows : p.rows;
  for (uint32_t row = 0; row < p.rows; row += piece_rows) {
    args.weight = weight + row * RowBytes(p.dtype, p.columns);
    args.rows = std::min(piece_rows, p.rows - row);
    args.bias = way.extras ? bias + row : nullptr;
    args.output = output + row;
    MatMul(runner.stream(), args);
  }
  return runner.Download(output, old.size());
}

// What a product multiplies the weights by.
std::vector<double> MultipliedActivations(const Problem& p, uint32_t token,
                                          ActivationFormat format) {
  const float* x = p.input.data() + token * p.stride;
  std::vector<double> values(x, x + p.columns);
  if (format == ActivationFormat::kF32) return values;
  const int most = format == ActivationFormat::kQ16 ? 255 * 127 + 127 : 127;
  const ReferenceQuantized q = ReferenceQuantize(x, p.columns, most);
  for (uint32_t c = 0; c < p.columns; ++c) values[c] = double{q.scales[c / 32]} * q.values[c];
  return values;
}

// Of a sum, in units of what its terms' magnitudes add up to.
double RelativeBound(const std::string& device, const Problem& p, const Way& way) {
  const double columns = p.columns;
  if (way.format == ActivationFormat::kF32) {
    return (std::max(128.0, columns / 32 + 16) + 5 + columns / 2048 + 3) * kUnitRoundoff;
  }
  const double sums = device == "Cpu" ? columns / 8 : 8 * std::ceil(columns / 2048) + 5;
  return (sums + 6) * kUnitRoundoff;
}

void Check(const std::string& device, const Problem& p, const Way& way,
           const std::vector<float>& output) {
  const bool halves = device != "Cpu" && p.tokens > 8;
  const double half_bound =
      std::ldexp(1.0, -10) + std::ldexp(1.0, -22) + (p.columns + 8.0) * kUnitRoundoff;
  const double bound = halves ? half_bound : RelativeBound(device, p, way);
  for (uint32_t t = 0; t < p.tokens; ++t) {
    const std::vector<double> x = MultipliedActivations(p, t, way.format);
    double largest_x = 0;
    for (const double value : x) largest_x = std::max(largest_x, std::fabs(value));
    for (uint32_t r = 0; r < p.rows; ++r) {
      const double* w = p.elements.data() + uint64_t{r} * p.columns;
      const double* m = p.magnitudes.data() + uint64_t{r} * p.columns;
      double want = 0, magnitude = 0, sum_x = 0, sum_w = 0, largest_w = 0;
      for (uint32_t c = 0; c < p.columns; ++c) {
        want += w[c] * x[c];
        magnitude += (halves ? std::fabs(w[c]) : m[c]) * std::fabs(x[c]);
        sum_x += std::fabs(x[c]);
        sum_w += std::fabs(w[c]);
        largest_w = std::max(largest_w, std::fabs(w[c]));
      }
      double tolerance = bound * magnitude;
      if (halves) tolerance += std::ldexp(largest_w * sum_x + largest_x * sum_w, -39);
      tolerance += 2 * kUnitRoundoff * std::fabs(want);
      if (way.extras) {
        want += p.bias[r];
        tolerance += 2 * kUnitRoundoff * (std::fabs(want) + std::fabs(p.bias[r]));
        want += p.residual[uint64_t{t} * p.rows + r];
        tolerance += 2 * kUnitRoundoff * std::fabs(want);
      }
      const float got = output[uint64_t{t} * p.rows + r];
      ASSERT_LE(std::fabs(got - want), tolerance)
          << "token " << t << " row " << r << " wants " << want << " and gets " << got;
    }
  }
}

std::vector<ActivationFormat> FormatsOf(DType dtype) {
  if (!UsesQuantizedActivations(dtype)) return {ActivationFormat::kF32};
  return {ActivationFormat::kQ16, ActivationFormat::kQ8, ActivationFormat::kF32};
}

struct Shape {
  uint32_t rows, blocks, tokens;  // of 32 or 256 columns; float formats: of 32, and 3 columns less
};

void CheckShapes(const std::string& device, const std::vector<Shape>& shapes) {
  uint64_t seed = 100;
  for (const DTypeInfo& info : AllDTypes()) {
    for (const Shape& shape : shapes) {
      const uint32_t columns =
          shape.blocks * std::max(info.block_elements, 32u) - (info.block_elements == 1 ? 3 : 0);
      const Problem p(info.dtype, shape.rows, columns, shape.tokens, seed++);
      for (const ActivationFormat format : FormatsOf(info.dtype)) {
        Way way;
        way.format = format;
        way.extras = seed % 2 == 0;
        way.misalign_bytes = seed % 3 == 0 ? 0 : static_cast<uint32_t>(seed % 17);
        SCOPED_TRACE(testing::Message()
                     << info.name << " " << shape.rows << " x " << columns << ", " << shape.tokens
                     << " tokens, format " << static_cast<int>(format) << ", alignment "
                     << way.misalign_bytes << ", seed " << seed - 1);
        const std::unique_ptr<OpRunner> runner = MakeOpRunner(device);
        Check(device, p, way, Multiply(*runner, p, way));
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(MatMulOnDeviceTest, FewTokensAgreeWithTheReference) {
  CheckShapes(GetParam(), {{1, 1, 1}, {3, 3, 2}, {70, 1, 1}, {13, 9, 4}, {5, 17, 7}, {9, 2, 8}});
}

TEST_P(MatMulOnDeviceTest, ManyTokensAgreeWithTheReference) {
  CheckShapes(GetParam(), {{1, 1, 9}, {21, 3, 13}, {5, 9, 33}});
}

// Rows of every alignment, each beginning and ending where the memory does.
TEST_P(MatMulOnDeviceTest, AnyAlignment) {
  for (const DType dtype : {DType::kQ4_K, DType::kQ6_K, DType::kMXFP4, DType::kBF16}) {
    const Problem p(dtype, 3, 512, 1, 9);
    std::vector<float> aligned;
    for (uint32_t misalign = 0; misalign < 17; ++misalign) {
      const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
      Way way;
      way.format = FormatsOf(dtype)[0];
      way.misalign_bytes = misalign;
      const std::vector<float> output = Multiply(*runner, p, way);
      if (misalign == 0) aligned = output;
      ASSERT_EQ(output, aligned) << GetDTypeInfo(dtype).name << " " << misalign;
    }
  }
}

// Up to 8 tokens a token's result depends neither on the others nor on the pieces of the weight.
TEST_P(MatMulOnDeviceTest, SameBitsHoweverItIsCut) {
  for (const DTypeInfo& info : AllDTypes()) {
    const Problem p(info.dtype, 37, info.block_elements == 256 ? 2304 : 2208, 8, 7);
    for (const ActivationFormat format : FormatsOf(info.dtype)) {
      SCOPED_TRACE(testing::Message() << info.name << " format " << static_cast<int>(format));
      const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
      Way way;
      way.format = format;
      way.extras = true;
      const std::vector<float> whole = Multiply(*runner, p, way);
      way.piece_rows = 5;
      ASSERT_EQ(Multiply(*runner, p, way), whole);
      way.piece_rows = 0;
      for (const uint32_t tokens : {1u, 3u}) {
        way.tokens = tokens;
        way.first_token = 4;
        const auto from = whole.begin() + 4 * p.rows;
        ASSERT_EQ(Multiply(*runner, p, way), std::vector<float>(from, from + tokens * p.rows));
      }
    }
  }
}

// Columns that fill no word, and rows that fill no block of threads.
TEST_P(MatMulOnDeviceTest, FloatColumnsOfAnyNumber) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const uint32_t columns : {1u, 7u, 8u, 15u, 17u, 31u, 511u, 2049u}) {
      SCOPED_TRACE(testing::Message() << GetDTypeInfo(dtype).name << ", " << columns << " columns");
      for (const uint32_t tokens : {1u, 3u, 10u}) {
        const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
        const Problem p(dtype, 6, columns, tokens, columns);
        Check(GetParam(), p, {}, Multiply(*runner, p, {}));
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Large and tiny rows and tokens side by side, which one scale for all could not hold in float16.
TEST_P(MatMulOnDeviceTest, EachRowAndTokenHasItsScale) {
  Problem p(DType::kF32, 5, 64, 12, 3);
  for (uint32_t r = 0; r < p.rows; ++r) {
    const float factor = std::ldexp(1.0f, 30 - 20 * static_cast<int>(r));
    for (uint32_t c = 0; c < p.columns; ++c) {
      float value;
      uint8_t* const at = p.weight.data() + 4 * (r * p.columns + c);
      memcpy(&value, at, 4);
      value *= factor;
      memcpy(at, &value, 4);
      p.elements[r * p.columns + c] = value;
      p.magnitudes[r * p.columns + c] = std::fabs(value);
    }
  }
  for (uint32_t t = 0; t < p.tokens; ++t) {
    for (uint32_t c = 0; c < p.columns; ++c) {
      p.input[t * p.stride + c] *= std::ldexp(1.0f, 5 * static_cast<int>(t) - 30);
    }
  }
  const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
  Check(GetParam(), p, {}, Multiply(*runner, p, {}));
}

#ifdef WEIR_HAVE_HOST_GRID
// Products that are cut into tiles of rows and of tokens because scratch memory is short.
TEST(MatMulHostGridTest, LittleScratchMemory) {
  for (const DType dtype : {DType::kBF16, DType::kQ4_0}) {
    for (const uint32_t tokens : {3u, 29u}) {
      const Problem p(dtype, 41, 512, tokens, 17);
      for (const uint64_t scratch_bytes : {8192u, 20480u, 49152u}) {
        for (const bool extras : {false, true}) {
          SCOPED_TRACE(testing::Message() << GetDTypeInfo(dtype).name << ", " << tokens
                                          << " tokens, " << scratch_bytes << " bytes");
          OpRunner runner(host_grid::MakeHostGridDevice({.scratch_bytes = scratch_bytes}));
          Way way;
          way.extras = extras;
          Check("HostGrid", p, way, Multiply(runner, p, way));
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}
#endif

TEST_P(MatMulOnDeviceTest, NanAndInfinityReachTheirTokenAlone) {
  for (const float poison : {std::nanf(""), -std::nanf(""), INFINITY, -INFINITY}) {
    for (const uint32_t tokens : {2u, 9u}) {
      Problem p(DType::kQ4_0, 3, 128, tokens, 5);
      p.input[40] = poison;
      Way way;
      way.format = ActivationFormat::kQ16;
      const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
      const std::vector<float> output = Multiply(*runner, p, way);
      for (uint32_t i = 0; i < output.size(); ++i) {
        EXPECT_EQ(std::isfinite(output[i]), i >= p.rows) << i << " of " << tokens << " tokens";
      }
    }
  }
}

TEST_P(MatMulOnDeviceTest, TinyGroupsAreZero) {
  Problem p(DType::kQ8_0, 2, 64, 1, 5);
  for (uint32_t c = 0; c < 64; ++c) p.input[c] = c < 32 ? 1e-40f : 1.0f;
  Way way;
  way.format = ActivationFormat::kQ8;
  const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
  const std::vector<float> with_tiny = Multiply(*runner, p, way);
  std::fill(p.input.begin(), p.input.begin() + 32, 0.0f);
  EXPECT_EQ(Multiply(*runner, p, way), with_tiny);
}

}  // namespace
}  // namespace weir
