// TopLogits on every device against a stable sort of each row: values and ids are exact.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/op_runner_helper.h"

namespace weir {
namespace {

enum class Kind : uint8_t {
  kRandom,
  kTies,     // of a dozen values, both zeros among them
  kDamaged,  // ties, infinities and NaNs
};
struct Case {
  uint32_t rows;
  uint32_t vocabulary;
  uint32_t k;
  Kind kind;
};
const Case kCases[] = {
    {1, 1, 1, Kind::kRandom},     {2, 5, 5, Kind::kDamaged},       {3, 300, 40, Kind::kRandom},
    {1, 256, 256, Kind::kTies},   {2, 4096, 1, Kind::kTies},       {2, 4099, 256, Kind::kRandom},
    {2, 9000, 256, Kind::kTies},  {1, 20000, 64, Kind::kDamaged},  {1, 151936, 40, Kind::kRandom},
    {1, 70001, 256, Kind::kTies}, {1, 33000, 100, Kind::kDamaged},
};

float Ordered(float logit) {
  return std::isnan(logit) ? std::numeric_limits<float>::lowest() : logit;
}

std::vector<float> MakeLogits(uint64_t count, Kind kind, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 4);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> logits(count);
  for (float& logit : logits) {
    logit = normal(random);
    if (kind != Kind::kRandom) {
      logit = std::round(logit / 2);  // -0.0 and 0.0 are equals
      if (random() % 16 == 0) logit = -logit;
    }
    if (kind == Kind::kDamaged) {
      const uint64_t r = random() % 4;
      if (r == 0) logit = random() % 2 == 0 ? std::nanf("") : -std::nanf("");
      if (r == 1) logit = random() % 64 == 0 ? kInfinity : -kInfinity;
    }
  }
  return logits;
}

using TopLogitsTest = OpTest;
WEIR_ON_EVERY_DEVICE(TopLogitsTest);

TEST_P(TopLogitsTest, MatchesAStableSort) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << c.rows << " x " << c.vocabulary << ", k " << c.k << ", kind "
                                    << static_cast<int>(c.kind));
    const uint64_t stride = c.vocabulary + 3;
    const std::vector<float> logits = MakeLogits(c.rows * stride, c.kind, c.vocabulary + c.k);
    const uint64_t count = uint64_t{c.rows} * c.k;
    const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
    float* const values_there = runner->Upload(std::vector<float>(count, -7.0f));
    int32_t* const ids_there = runner->Upload(std::vector<int32_t>(count, -7));
    TopLogits(runner->stream(),
              {runner->Upload(logits), stride, values_there, ids_there, c.rows, c.vocabulary, c.k});
    const std::vector<float> values = runner->Download(values_there, count);
    const std::vector<int32_t> ids = runner->Download(ids_there, count);
    for (uint32_t row = 0; row < c.rows; ++row) {
      const float* const own = logits.data() + row * stride;
      std::vector<int32_t> expected(c.vocabulary);
      std::iota(expected.begin(), expected.end(), 0);
      std::stable_sort(expected.begin(), expected.end(),
                       [own](int32_t a, int32_t b) { return Ordered(own[a]) > Ordered(own[b]); });
      for (uint32_t i = 0; i < c.k; ++i) {
        ASSERT_EQ(ids[row * c.k + i], expected[i]) << "row " << row << " place " << i;
        ASSERT_EQ(values[row * c.k + i], Ordered(own[expected[i]])) << "row " << row;
      }
    }
  }
}

}  // namespace
}  // namespace weir
