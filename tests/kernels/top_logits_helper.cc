#include "tests/kernels/top_logits_helper.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace weir {
namespace {

float Ordered(float logit) {
  return std::isnan(logit) ? std::numeric_limits<float>::lowest() : logit;
}

std::vector<float> MakeLogits(uint64_t count, LogitsKind kind, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 4);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> logits(count);
  for (float& logit : logits) {
    logit = normal(random);
    if (kind != LogitsKind::kRandom) {
      logit = std::round(logit / 2);  // -0.0 and 0.0 are equals
      if (random() % 16 == 0) logit = -logit;
    }
    if (kind == LogitsKind::kDamaged) {
      const uint64_t r = random() % 4;
      if (r == 0) logit = random() % 2 == 0 ? std::nanf("") : -std::nanf("");
      if (r == 1) logit = random() % 64 == 0 ? kInfinity : -kInfinity;
    }
  }
  return logits;
}

}  // namespace

std::vector<TopLogitsCase> TopLogitsCases() {
  return {
      {1, 1, 1, LogitsKind::kRandom},        {2, 5, 5, LogitsKind::kDamaged},
      {3, 300, 40, LogitsKind::kRandom},     {1, 256, 256, LogitsKind::kTies},
      {2, 4096, 1, LogitsKind::kTies},       {2, 4099, 256, LogitsKind::kRandom},
      {2, 9000, 256, LogitsKind::kTies},     {1, 20000, 64, LogitsKind::kDamaged},
      {1, 151936, 40, LogitsKind::kRandom},  {1, 70001, 256, LogitsKind::kTies},
      {1, 33000, 100, LogitsKind::kDamaged},
  };
}

void ExpectTopLogits(const TopLogitsCase& c, const std::function<void(const TopLogitsArgs&)>& run) {
  SCOPED_TRACE(testing::Message() << c.rows << " x " << c.vocabulary << ", k " << c.k << ", kind "
                                  << static_cast<int>(c.kind));
  const uint64_t stride = c.vocabulary + 3;
  const std::vector<float> logits = MakeLogits(c.rows * stride, c.kind, c.vocabulary + c.k);
  std::vector<float> values(c.rows * c.k + 1, -7.0f);
  std::vector<int32_t> ids(c.rows * c.k + 1, -7);
  run({logits.data(), stride, values.data(), ids.data(), c.rows, c.vocabulary, c.k});
  for (uint32_t row = 0; row < c.rows; ++row) {
    const float* const own = logits.data() + row * stride;
    std::vector<int32_t> expected(c.vocabulary);
    std::iota(expected.begin(), expected.end(), 0);
    std::stable_sort(expected.begin(), expected.end(),
                     [own](int32_t a, int32_t b) { return Ordered(own[a]) > Ordered(own[b]); });
    for (uint32_t i = 0; i < c.k; ++i) {
      ASSERT_EQ(ids[row * c.k + i], expected[i]) << "row " << row << " place " << i;
      ASSERT_EQ(values[row * c.k + i], Ordered(own[expected[i]]))
          << "row " << row << " place " << i;
    }
  }
  ASSERT_EQ(values.back(), -7.0f) << "written beyond the end";
  ASSERT_EQ(ids.back(), -7) << "written beyond the end";
}

}  // namespace weir
