#include "tests/kernels/reference_helper.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "io/base.h"

namespace weir {
namespace {

constexpr int kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr double kE2m1[16] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6};

float Half(const uint8_t* p) {
  return static_cast<float>(ReferenceHalf(static_cast<uint16_t>(p[0] | (p[1] << 8))));
}
int Nibble(const uint8_t* bytes, uint64_t i) {  // low nibbles of 16 bytes, then the high ones
  return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4;
}
int Bit(const uint8_t* bytes, uint64_t i) { return (bytes[i / 8] >> (i % 8)) & 1; }
int TwoBits(const uint8_t* qs, uint64_t i) {  // Q2_K's and Q3_K's 64 bytes
  return (qs[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4))) & 3;
}

// Scale j and minimum j of Q4_K and Q5_K, 6 bits each in 12 bytes.
int KScale(const uint8_t* s, uint64_t j) {
  return j < 4 ? s[j] & 63 : (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4);
}
int KMinimum(const uint8_t* s, uint64_t j) {
  return j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | ((s[j] >> 6) << 4);
}
int Q3Scale(const uint8_t* s, uint64_t j) {
  const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
  return (low | (((s[8 + j % 4] >> (2 * (j / 4))) & 3) << 4)) - 32;
}

ReferenceParts SmallParts(DType dtype, const uint8_t* b, uint64_t i) {
  switch (dtype) {
    case DType::kQ4_0:
      return {Half(b), Nibble(b + 2, i) - 8, 0, false};
    case DType::kQ4_1:
      return {Half(b), Nibble(b + 4, i), Half(b + 2), true};
    case DType::kQ5_0:
      return {Half(b), (Nibble(b + 6, i) | (Bit(b + 2, i) << 4)) - 16, 0, false};
    case DType::kQ5_1:
      return {Half(b), Nibble(b + 8, i) | (Bit(b + 4, i) << 4), Half(b + 2), true};
    case DType::kQ8_0:
      return {Half(b), static_cast<int8_t>(b[2 + i]), 0, false};
    case DType::kIQ4_NL:
      return {Half(b), kIq4[Nibble(b + 2, i)], 0, false};
    case DType::kMXFP4:
      // Twice the value and half the scale, which makes the value an integer.
      return {static_cast<float>(std::ldexp(1.0, b[0] - 128)),
              static_cast<int>(2 * kE2m1[Nibble(b + 1, i)]), 0, false};
    default:
      break;
  }
  WEIR_CHECK(false && "not a format of 32");
  return {};
}

ReferenceParts SuperParts(DType dtype, const uint8_t* b, uint64_t i) {
  switch (dtype) {
    case DType::kQ2_K:
      return {Half(b + 80) * static_cast<float>(b[i / 16] & 15), TwoBits(b + 16, i),
              -(Half(b + 82) * static_cast<float>(b[i / 16] >> 4)), true};
    case DType::kQ3_K: {
      const int high = (b[i % 32] >> (i / 32)) & 1;
      return {Half(b + 108) * static_cast<float>(Q3Scale(b + 96, i / 16)),
              TwoBits(b + 32, i) - (high ? 0 : 4), 0, false};
    }
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const bool five = dtype == DType::kQ5_K;
      const uint8_t byte = b[(five ? 48 : 16) + i / 64 * 32 + i % 32];
      const int high = five ? (b[16 + i % 32] >> (i / 32)) & 1 : 0;
      return {Half(b) * static_cast<float>(KScale(b + 4, i / 32)),
              (i / 32 % 2 ? byte >> 4 : byte & 15) | (high << 4),
              -(Half(b + 2) * static_cast<float>(KMinimum(b + 4, i / 32))), true};
    }
    case DType::kQ6_K: {
      const uint8_t byte = b[i / 128 * 64 + i % 64];
      const int low = i % 128 < 64 ? byte & 15 : byte >> 4;
      const int high = (b[128 + i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4))) & 3;
      const auto scale = static_cast<int8_t>(b[192 + i / 16]);
      const float d = Half(b + 208);
      return {d * static_cast<float>(scale), (low | (high << 4)) - 32, 0, false, d, scale};
    }
    case DType::kIQ4_XS: {
      const uint64_t g = i / 32;
      const int low = (b[4 + g / 2] >> (4 * (g % 2))) & 15;
      const int high = (b[2 + g / 4] >> (2 * (g % 4))) & 3;
      return {Half(b) * static_cast<float>((low | (high << 4)) - 32),
              kIq4[Nibble(b + 8 + 16 * g, i % 32)], 0, false};
    }
    default:
      break;
  }
  WEIR_CHECK(false && "not a format of 256");
  return {};
}

// Where a block's float16 numbers lie; -1: none.
struct HalfOffsets {
  int first;
  int second;
};
HalfOffsets HalfOffsetsOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ2_K:
      return {80, 82};
    case DType::kQ3_K:
      return {108, -1};
    case DType::kQ6_K:
      return {208, -1};
    case DType::kMXFP4:
    case DType::kF32:
    case DType::kBF16:
      return {-1, -1};
    default:
      return {0, -1};
  }
}

}  // namespace

double ReferenceHalf(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

double ReferenceBFloat(uint16_t bits) {
  const int exponent = (bits >> 7) & 255, mantissa = bits & 127;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 255) return mantissa ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, -133);
  return sign * std::ldexp(128 + mantissa, exponent - 134);
}

uint32_t ReferenceGroupElements(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return 0;
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kQ6_K:
      return 16;
    default:
      return 32;
  }
}

ReferenceParts ReferencePartsOf(DType dtype, const uint8_t* row, uint64_t index) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  const uint8_t* block = row + index / info.block_elements * info.block_bytes;
  const uint64_t i = index % info.block_elements;
  return info.block_elements == 32 ? SmallParts(dtype, block, i) : SuperParts(dtype, block, i);
}

double ReferenceElement(DType dtype, const uint8_t* row, uint64_t index) {
  if (dtype == DType::kF32) {
    float value;
    memcpy(&value, row + 4 * index, sizeof(value));
    return value;
  }
  if (dtype == DType::kF16 || dtype == DType::kBF16) {
    const uint8_t* p = row + 2 * index;
    const uint16_t bits = static_cast<uint16_t>(p[0] | (p[1] << 8));
    return dtype == DType::kF16 ? ReferenceHalf(bits) : ReferenceBFloat(bits);
  }
  const ReferenceParts parts = ReferencePartsOf(dtype, row, index);
  return static_cast<double>(parts.scale) * parts.integer + parts.offset;
}

std::vector<uint8_t> RandomWeights(DType dtype, uint64_t rows, uint64_t columns, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes(rows * RowBytes(dtype, columns));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  const DTypeInfo& info = GetDTypeInfo(dtype);
  const HalfOffsets halves = HalfOffsetsOf(dtype);
  for (uint64_t at = 0; at < bytes.size(); at += info.block_bytes) {
    uint8_t* block = bytes.data() + at;
    for (const int offset : {halves.first, halves.second}) {
      if (offset < 0) continue;
      // Random sign and mantissa, exponent 5 to 11 of bias 15.
      block[offset + 1] =
          static_cast<uint8_t>((block[offset + 1] & 0x83) | ((5 + random() % 7) << 2));
    }
    if (dtype == DType::kMXFP4) block[0] = static_cast<uint8_t>(117 + random() % 7);
    if (dtype == DType::kBF16 || dtype == DType::kF32) {
      uint8_t* high = block + info.block_bytes - 2;  // exponent 117 to 123 of bias 127
      const unsigned exponent = 117 + static_cast<unsigned>(random() % 7);
      high[1] = static_cast<uint8_t>((high[1] & 0x80) | (exponent >> 1));
      high[0] = static_cast<uint8_t>((high[0] & 0x7F) | (exponent << 7));
    }
  }
  return bytes;
}

std::vector<float> RandomActivations(uint64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (uint64_t i = 0; i < count; ++i) {
    values[i] = normal(random) + 0.25f;
    if (i / 32 % 7 == 3) values[i] = 0;           // a whole group now and then
    if (random() % 101 == 0) values[i] *= 40.0f;  // an outlier
  }
  return values;
}

ReferenceQuantized ReferenceQuantize(const float* input, uint64_t columns, int most) {
  const auto most_float = static_cast<float>(most);
  ReferenceQuantized result;
  result.most = most;
  for (uint64_t g = 0; g < columns / 32; ++g) {
    float largest = 0;
    for (uint64_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(input[32 * g + i]));
    result.scales.push_back(largest / most_float);
    const float inverse = largest > 0 ? most_float / largest : 0;
    for (uint64_t i = 0; i < 32; ++i) {
      const float scaled = input[32 * g + i] * inverse;
      result.values.push_back(static_cast<int>(std::nearbyint(scaled)));
    }
  }
  return result;
}

float ReferenceQuantizedDot(const ReferenceParts* parts, uint32_t group,
                            const ReferenceQuantized& input) {
  float sum = 0;
  for (uint64_t first = 0; first < input.values.size(); first += group) {
    int64_t dot = 0, total = 0;
    for (uint64_t i = first; i < first + group; ++i) {
      dot += parts[i].integer * input.values[i];
      total += input.values[i];
    }
    const ReferenceParts& shared = parts[first];
    const float a = input.scales[first / 32];
    const bool splits = shared.block_scale != 0 && input.most > 127;
    if (splits) dot *= shared.group_scale;
    sum = std::fma(static_cast<float>(dot), (splits ? shared.block_scale : shared.scale) * a, sum);
    if (shared.has_offset) sum = std::fma(shared.offset, a * static_cast<float>(total), sum);
  }
  return sum;
}

}  // namespace weir
