#include "models/synthetic_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "io/base.h"
#include "io/split_mix.h"
#include "kernels/quant_blocks.h"

namespace weir {
namespace {

constexpr uint32_t kTableSize = 1 << 16;
constexpr uint32_t kNoOffset = ~uint32_t{0};

// Where a block's scales lie, and what random bits with a scale of 1 decode to.
struct BlockRule {
  DType dtype;
  uint32_t scale_at;        // of d (or e), bytes from the block's start
  uint32_t offset_at;       // of m or dmin; kNoOffset
  double offset_per_scale;  // m or dmin for d = 1 that brings the mean to zero
  bool random_sign;         // of d: formats without an offset are slightly lopsided
  double unit_deviation;    // of the weights of random blocks with d = 1 (measured)
};

constexpr BlockRule kRules[] = {
    {DType::kQ4_0, offsetof(BlockQ4_0, d), kNoOffset, 0, true, 4.64},
    {DType::kQ4_1, offsetof(BlockQ4_1, d), offsetof(BlockQ4_1, m), -7.5, false, 4.61},
    {DType::kQ5_0, offsetof(BlockQ5_0, d), kNoOffset, 0, true, 9.25},
    {DType::kQ5_1, offsetof(BlockQ5_1, d), offsetof(BlockQ5_1, m), -15.5, false, 9.23},
    {DType::kQ8_0, offsetof(BlockQ8_0, d), kNoOffset, 0, true, 73.9},
    {DType::kQ2_K, offsetof(BlockQ2_K, d), offsetof(BlockQ2_K, dmin), 1.5, false, 13.9},
    {DType::kQ3_K, offsetof(BlockQ3_K, d), kNoOffset, 0, true, 43.4},
    {DType::kQ4_K, offsetof(BlockQ4_K, d), offsetof(BlockQ4_K, dmin), 7.5, false, 259},
    {DType::kQ5_K, offsetof(BlockQ5_K, d), offsetof(BlockQ5_K, dmin), 15.5, false, 526},
    {DType::kQ6_K, offsetof(BlockQ6_K, d), kNoOffset, 0, true, 1364},
    {DType::kIQ4_NL, offsetof(BlockIQ4_NL, d), kNoOffset, 0, true, 67.4},
    {DType::kIQ4_XS, offsetof(BlockIQ4_XS, d), kNoOffset, 0, true, 1244},
    {DType::kMXFP4, offsetof(BlockMXFP4, e), kNoOffset, 0, false, 5.85},
};

const BlockRule& RuleOf(DType dtype) {
  for (const BlockRule& rule : kRules) {
    if (rule.dtype == dtype) return rule;
  }
  WEIR_CHECK(false);
}

uint32_t FloatBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// Nearest BF16, ties to even; `value` is finite.
uint16_t ToBFloat16(float value) {
  const uint32_t bits = FloatBits(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Nearest float16; `value` is finite and within its range.
uint16_t ToFloat16(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (magnitude == 0) return sign;
  const int exponent = std::max(std::ilogb(magnitude), -14);
  // In units of the last of ten mantissa bits; a carry into the exponent comes out right.
  const auto units = static_cast<uint32_t>(std::lrint(std::ldexp(magnitude, 10 - exponent)));
  const uint32_t bits = (static_cast<uint32_t>(exponent + 14) << 10) + units;
  WEIR_CHECK(bits < 0x7c00);
  return static_cast<uint16_t>(sign | bits);
}

}  // namespace

uint64_t MixSeed(uint64_t seed, uint64_t a, uint64_t b) {
  uint64_t state = seed;
  state = SplitMix64(&state) ^ a;
  state = SplitMix64(&state) ^ b;
  return SplitMix64(&state);
}

FastRandom::FastRandom(uint64_t seed) {
  for (uint64_t& word : state_) word = SplitMix64(&seed);
}

uint64_t FastRandom::Next() {
  const auto rotate = [](uint64_t x, int k) { return (x << k) | (x >> (64 - k)); };
  const uint64_t result = rotate(state_[1] * 5, 7) * 9;
  const uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = rotate(state_[3], 45);
  return result;
}

void FastRandom::Fill(absl::Span<uint8_t> out) {
  size_t i = 0;
  for (; i + 8 <= out.size(); i += 8) {
    const uint64_t word = Next();
    std::memcpy(out.data() + i, &word, 8);
  }
  if (i < out.size()) {
    const uint64_t word = Next();
    std::memcpy(out.data() + i, &word, out.size() - i);
  }
}

WeightGenerator::WeightGenerator(DType dtype, double mean, double deviation)
    : dtype_(dtype), mean_(mean), half_width_(deviation * std::sqrt(3.0)) {
  if (dtype == DType::kF32) return;
  if (dtype == DType::kF16 || dtype == DType::kBF16) {
    for (uint32_t i = 0; i < kTableSize; ++i) {
      const double value = mean_ + half_width_ * (2.0 * (i + 0.5) / kTableSize - 1);
      table_.push_back(dtype == DType::kF16 ? ToFloat16(value)
                                            : ToBFloat16(static_cast<float>(value)));
    }
    return;
  }
  const BlockRule& rule = RuleOf(dtype);
  const double unit = deviation / rule.unit_deviation;
  for (uint32_t i = 0; i < kScales; ++i) {
    if (dtype == DType::kMXFP4) {
      const int exponent = 128 + static_cast<int>(std::lrint(std::log2(unit))) - (i % 4 == 0);
      scales_.push_back(static_cast<uint16_t>(std::clamp(exponent, 1, 254)));
      continue;
    }
    // Scales between 0.75 and 1.25 of the middle one; half of them negative where that helps.
    const uint32_t pair = i / 2, last_pair = kScales / 2 - 1;
    const double spread = 0.75 + 0.5 * pair / last_pair;
    const double sign = rule.random_sign && i % 2 == 1 ? -1 : 1;
    scales_.push_back(ToFloat16(sign * spread * unit));
    offsets_.push_back(ToFloat16(rule.offset_per_scale * spread * unit));
  }
}

void WeightGenerator::FillFloat32(FastRandom& random, absl::Span<uint8_t> out) const {
  const double step = half_width_ / (uint64_t{1} << 31);
  for (size_t i = 0; i + 4 <= out.size(); i += 4) {
    const auto draw = static_cast<int32_t>(random.Next() >> 32);
    const auto value = static_cast<float>(mean_ + step * draw);
    std::memcpy(out.data() + i, &value, 4);
  }
}

void WeightGenerator::FillFloat16(FastRandom& random, absl::Span<uint8_t> out) const {
  for (size_t i = 0; i < out.size(); i += 8) {
    uint64_t draw = random.Next();
    for (size_t j = i; j < std::min(i + 8, out.size()); j += 2) {
      std::memcpy(out.data() + j, &table_[draw & 0xffff], 2);
      draw >>= 16;
    }
  }
}

void WeightGenerator::FillBlocks(FastRandom& random, absl::Span<uint8_t> out) const {
  const BlockRule& rule = RuleOf(dtype_);
  const uint32_t block_bytes = GetDTypeInfo(dtype_).block_bytes;
  random.Fill(out);
  uint64_t draws = 0;
  uint32_t left = 0;
  for (size_t at = 0; at + block_bytes <= out.size(); at += block_bytes) {
    if (left == 0) {
      draws = random.Next();
      left = 21;  // three bits each
    }
    const uint32_t pick = draws & (kScales - 1);
    draws >>= 3;
    --left;
    uint8_t* block = out.data() + at;
    std::memcpy(block + rule.scale_at, &scales_[pick], dtype_ == DType::kMXFP4 ? 1 : 2);
    if (rule.offset_at != kNoOffset) std::memcpy(block + rule.offset_at, &offsets_[pick], 2);
  }
}

void WeightGenerator::Fill(uint64_t seed, absl::Span<uint8_t> out) const {
  WEIR_CHECK(out.size() % GetDTypeInfo(dtype_).block_bytes == 0);
  FastRandom random(seed);
  if (dtype_ == DType::kF32) {
    FillFloat32(random, out);
  } else if (dtype_ == DType::kF16 || dtype_ == DType::kBF16) {
    FillFloat16(random, out);
  } else {
    FillBlocks(random, out);
  }
}

}  // namespace weir
