// Encoding of weights: against a plain quantiser in double precision that rounds once, decoded by
// the independent reference; known blocks; and what cannot be encoded.
#include "kernels/quantize_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/dequantize.h"
#include "kernels/isa.h"
#include "tests/kernels/reference_helper.h"

namespace weir {
namespace {

std::vector<uint8_t> Encode(DType dtype, const std::vector<float>& values) {
  std::vector<uint8_t> row(RowBytes(dtype, values.size()));
  QuantizeRow(dtype, values.data(), values.size(), row.data());
  return row;
}

std::vector<float> Decode(DType dtype, const std::vector<uint8_t>& row, uint64_t elements) {
  std::vector<float> values(elements);
  DequantizeRow(dtype, row.data(), elements, values.data());
  return values;
}

std::vector<DType> Quantizable() {
  std::vector<DType> dtypes;
  for (const DTypeInfo& info : AllDTypes()) {
    if (CanQuantizeTo(info.dtype)) dtypes.push_back(info.dtype);
  }
  return dtypes;
}

// As weights are: a scale of its own for each stretch, some outliers, some stretches of one sign.
std::vector<float> Weights(uint64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  float scale = 0, shift = 0;
  for (uint64_t i = 0; i < count; ++i) {
    if (i % 16 == 0) {
      scale = std::exp(normal(random) - 4);
      shift = i % 48 == 0 ? 2 * scale : 0;
    }
    values[i] = scale * normal(random) + shift;
    if (i % 97 == 0) values[i] *= 5;
  }
  return values;
}

double Half(double value) { return std::ldexp(std::round(std::ldexp(value, 24)), -24); }

// Rounded to 11 significant bits, as float16 has; the tests' scales are well within its range.
double ToHalf(double value) {
  if (value == 0) return 0;
  const int exponent = std::ilogb(value);
  return exponent < -14
             ? Half(value)
             : std::ldexp(std::nearbyint(std::ldexp(value, 10 - exponent)), exponent - 10);
}

double ErrorOf(const float* x, uint32_t n, double scale, double offset, int low, int high) {
  double sum = 0;
  for (uint32_t i = 0; i < n; ++i) {
    const double exact = scale == 0 ? 0 : std::nearbyint((x[i] - offset) / scale);
    const double code = std::clamp<double>(exact, low, high);
    sum += std::pow(scale * code + offset - x[i], 2);
  }
  return sum;
}

double ExtremeOf(const double* x, uint32_t n) {
  return *std::max_element(x, x + n,
                           [](double a, double b) { return std::fabs(a) < std::fabs(b); });
}

// The range of a group mapped onto its codes, without any search.
double PlainSymmetric(const float* x, int low, int high) {
  std::vector<double> wide(x, x + 32);
  const double extreme = ExtremeOf(wide.data(), 32);
  return ErrorOf(x, 32, ToHalf(low == -127 ? std::fabs(extreme) / 127 : extreme / low), 0, low,
                 high);
}
double PlainOffset(const float* x, int high) {
  const double low = *std::min_element(x, x + 32), most = *std::max_element(x, x + 32);
  return ErrorOf(x, 32, ToHalf((most - low) / high), ToHalf(low), 0, high);
}
double PlainMinimum(const float* x, int high) {
  double scales[8], minima[8];
  for (uint32_t g = 0; g < 8; ++g) {
    const float* group = x + 32 * g;
    const double low = std::min(0.0f, *std::min_element(group, group + 32));
    minima[g] = -low;
    scales[g] = (*std::max_element(group, group + 32) - low) / high;
  }
  const double d = ToHalf(*std::max_element(scales, scales + 8) / 63);
  const double dmin = ToHalf(*std::max_element(minima, minima + 8) / 63);
  double sum = 0;
  for (uint32_t g = 0; g < 8; ++g) {
    const double minimum = dmin == 0 ? 0 : std::min(63.0, std::nearbyint(minima[g] / dmin));
    const double scale = d == 0 ? 0 : std::min(63.0, std::nearbyint(scales[g] / d));
    sum += ErrorOf(x + 32 * g, 32, d * scale, -dmin * minimum, 0, high);
  }
  return sum;
}
double PlainQ6_K(const float* x) {
  double scales[16];
  for (uint32_t g = 0; g < 16; ++g) {
    std::vector<double> group(x + 16 * g, x + 16 * g + 16);
    scales[g] = ExtremeOf(group.data(), 16) / -32;
  }
  const double d = ToHalf(ExtremeOf(scales, 16) / -128);
  double sum = 0;
  for (uint32_t g = 0; g < 16; ++g) {
    const double scale = std::clamp(std::nearbyint(scales[g] / d), -128.0, 127.0);
    sum += ErrorOf(x + 16 * g, 16, d * scale, 0, -32, 31);
  }
  return sum;
}

double PlainError(DType dtype, const float* x) {
  switch (dtype) {
    case DType::kQ4_0:
      return PlainSymmetric(x, -8, 7);
    case DType::kQ5_0:
      return PlainSymmetric(x, -16, 15);
    case DType::kQ8_0:
      return PlainSymmetric(x, -127, 127);
    case DType::kQ4_1:
      return PlainOffset(x, 15);
    case DType::kQ5_1:
      return PlainOffset(x, 31);
    case DType::kQ4_K:
      return PlainMinimum(x, 15);
    case DType::kQ5_K:
      return PlainMinimum(x, 31);
    case DType::kQ6_K:
      return PlainQ6_K(x);
    default:
      break;
  }
  const double relative = dtype == DType::kF32 ? 0 : dtype == DType::kF16 ? 0x1p-11 : 0x1p-8;
  return std::pow(std::max(std::fabs(x[0]) * relative, dtype == DType::kF16 ? 0x1p-25 : 0), 2);
}

class QuantizeTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_TRUE(SelectIsa(GetParam()).ok()); }
  void TearDown() override { ASSERT_TRUE(SelectIsa("").ok()); }
};

TEST_P(QuantizeTest, NoBlockIsWorseThanPlainRounding) {
  const std::vector<float> x = Weights(256 * 60, 1);
  for (const DType dtype : Quantizable()) {
    SCOPED_TRACE(GetDTypeInfo(dtype).name);
    const std::vector<uint8_t> row = Encode(dtype, x);
    const uint32_t block = GetDTypeInfo(dtype).block_elements;
    double sum = 0, plain_sum = 0;
    for (uint64_t first = 0; first < x.size(); first += block) {
      double error = 0, magnitude = 0;
      for (uint64_t i = first; i < first + block; ++i) {
        error += std::pow(ReferenceElement(dtype, row.data(), i) - x[i], 2);
        magnitude += std::pow(x[i], 2);
      }
      const double plain = PlainError(dtype, x.data() + first);
      ASSERT_LE(error, plain * (1 + 1e-5) + magnitude * 1e-13) << "block " << first / block;
      sum += error;
      plain_sum += plain;
    }
    // The search must be worth something, too.
    if (block > 1) {
      EXPECT_LT(sum, plain_sum * 0.97);
    }
  }
}

TEST_P(QuantizeTest, EveryIsaAndEveryCutGivesTheSameBytes) {
  const std::vector<float> x = Weights(256 * 11, 2);
  for (const DType dtype : Quantizable()) {
    SCOPED_TRACE(GetDTypeInfo(dtype).name);
    const std::vector<uint8_t> whole = Encode(dtype, x);
    ASSERT_TRUE(SelectIsa(SupportedIsas().back()).ok());
    EXPECT_EQ(Encode(dtype, x), whole);
    ASSERT_TRUE(SelectIsa(GetParam()).ok());
    for (const uint64_t piece : {256u, 3u * 256u}) {
      std::vector<uint8_t> pieces(whole.size() + 1);
      uint8_t* row = pieces.data() + 1;  // any address
      for (uint64_t i = 0; i < x.size(); i += piece) {
        const uint64_t count = std::min<uint64_t>(piece, x.size() - i);
        QuantizeRow(dtype, x.data() + i, count, row + RowBytes(dtype, i));
      }
      EXPECT_EQ(std::vector<uint8_t>(pieces.begin() + 1, pieces.end()), whole);
    }
  }
}

// What a format holds exactly comes back exactly, wherever in the block it lies.
TEST_P(QuantizeTest, ValuesOnTheGridComeBack) {
  std::mt19937_64 random(3);
  for (const auto& [dtype, low, high] : {std::tuple(DType::kQ4_0, -8, 7),
                                         {DType::kQ4_1, -3, 12},
                                         {DType::kQ5_0, -16, 15},
                                         {DType::kQ5_1, 1, 32},
                                         {DType::kQ8_0, -127, 127}}) {
    std::vector<float> x(32 * 20);
    for (uint64_t i = 0; i < x.size(); ++i) {
      const int code = low + static_cast<int>(random() % static_cast<uint64_t>(high - low + 1));
      x[i] = 0.03125f * static_cast<float>(i % 32 == 5 ? low : i % 32 == 9 ? high : code);
    }
    EXPECT_EQ(Decode(dtype, Encode(dtype, x), x.size()), x) << GetDTypeInfo(dtype).name;
  }
  // Scales of 63 and 21, a minimum of 63: d = 2^-6, dmin = 2^-5.
  for (const auto& [dtype, high] : {std::pair(DType::kQ4_K, 15), {DType::kQ5_K, 31}}) {
    std::vector<float> x(256);
    for (uint64_t i = 0; i < x.size(); ++i) {
      const auto code = static_cast<float>(i % 32 == 0   ? high
                                           : i % 32 == 1 ? 0
                                                         : random() % static_cast<uint64_t>(high));
      const bool is_odd = i / 32 % 2 == 1;
      x[i] = (is_odd ? 21.0f : 63.0f) / 64 * code - (is_odd ? 7.0f : 63.0f) / 32;
    }
    EXPECT_EQ(Decode(dtype, Encode(dtype, x), x.size()), x) << GetDTypeInfo(dtype).name;
  }
  std::vector<float> x(256);
  for (uint64_t i = 0; i < x.size(); ++i) {
    const int code = i % 16 == 0 ? -32 : static_cast<int>(random() % 64) - 32;
    x[i] = (i / 16 % 3 == 1 ? -128.0f : 77.0f) / 128 * static_cast<float>(code);
  }
  EXPECT_EQ(Decode(DType::kQ6_K, Encode(DType::kQ6_K, x), x.size()), x);
}

TEST_P(QuantizeTest, KnownBytes) {
  std::vector<float> x(32);
  for (int i = 0; i < 32; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i % 16 - 8) / 4;
  std::vector<uint8_t> want = {0x00, 0x34};  // d = 0.25
  for (uint8_t i = 0; i < 16; ++i) want.push_back(static_cast<uint8_t>(0x11 * i));
  EXPECT_EQ(Encode(DType::kQ4_0, x), want);
  want.insert(want.begin() + 2, {0x00, 0xC0});  // m = -2
  EXPECT_EQ(Encode(DType::kQ4_1, x), want);
  EXPECT_EQ(Encode(DType::kF16, {1, -2, 1 + 0x1p-11f, 1 + 0x3p-11f, 65504, 0x1p-24f}),
            (std::vector<uint8_t>{0, 0x3C, 0, 0xC0, 0, 0x3C, 2, 0x3C, 0xFF, 0x7B, 1, 0}));
  EXPECT_EQ(Encode(DType::kBF16, {1, -2, 1 + 0x1p-8f, 1 + 0x3p-8f, 0x1.fep127f}),
            (std::vector<uint8_t>{0x80, 0x3F, 0, 0xC0, 0x80, 0x3F, 0x82, 0x3F, 0x7F, 0x7F}));
}

TEST_P(QuantizeTest, ZerosAndVerySmallAndVeryLargeValues) {
  std::vector<std::vector<float>> rows(5, std::vector<float>(256));
  rows[1][77] = 1e-30f;  // too small for a float16 scale
  rows[2][77] = -1e-7f;  // a scale that is a denormal float16
  rows[3][77] = 65504;   // alone
  for (size_t i = 0; i < 256; ++i) rows[4][i] = i % 2 == 0 ? 65504.0f : -65504.0f;
  for (const DType dtype : Quantizable()) {
    for (const std::vector<float>& x : rows) {
      SCOPED_TRACE(testing::Message() << GetDTypeInfo(dtype).name << ", row " << &x - rows.data());
      ASSERT_EQ(FindUnquantizable(dtype, x.data(), x.size()), x.size());
      const std::vector<float> got = Decode(dtype, Encode(dtype, x), x.size());
      const float most = *std::max_element(x.begin(), x.end());
      for (size_t i = 0; i < x.size(); ++i) {
        ASSERT_TRUE(std::isfinite(got[i]));
        ASSERT_LE(std::fabs(got[i] - x[i]), most * 0.13f + 1e-7f) << i;
      }
      if (most == 0 && x[77] == 0) {
        ASSERT_EQ(got, x);
      }
    }
  }
}

TEST_P(QuantizeTest, FindsWhatCannotBeHeld) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const DType dtype : Quantizable()) {
    SCOPED_TRACE(GetDTypeInfo(dtype).name);
    for (const size_t at : {0u, 7u, 250u, 256u}) {
      for (const float bad : {kNan, kInfinity, -kInfinity}) {
        std::vector<float> x(257, 1);
        x[at] = bad;
        x[256] = kNan;  // the first counts
        EXPECT_EQ(FindUnquantizable(dtype, x.data(), x.size()), at);
        EXPECT_EQ(FindUnquantizable(dtype, x.data(), at), at);
      }
    }
    const bool is_wide = dtype == DType::kF32 || dtype == DType::kBF16;
    for (const float value : {65505.0f, -1e6f}) {
      EXPECT_EQ(FindUnquantizable(dtype, &value, 1), is_wide ? 1u : 0u) << value;
    }
    const float greatest = std::numeric_limits<float>::max();  // BF16 would round it to infinity
    EXPECT_EQ(FindUnquantizable(dtype, &greatest, 1), dtype == DType::kF32 ? 1u : 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, QuantizeTest, testing::ValuesIn(SupportedIsas()),
                         [](const auto& param) { return param.param; });

TEST(QuantizableFormatsTest, AreNamed) {
  EXPECT_EQ(QuantizableFormats(), "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K");
  EXPECT_FALSE(CanQuantizeTo(DType::kIQ4_NL));
}

}  // namespace
}  // namespace weir
