// StoreKv and Attention.
//
// Tolerance of attention, u = 2^-24: a score is off by d <= (columns + 6) u max|scale q.k| from its
// sum and scaling, and a soft cap's tanh (4 ulp) and division add 12 u cap. A weight exp(score -
// max) is then off by 2 d and a few u, relatively, and so are the sums of n weights and weighted
// values by n u: |error| <= (4 d + 2 (n + 16) u) sum weight |value|.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "kernels/isa.h"
#include "kernels/ops.h"
#include "tests/kernels/op_reference_helper.h"
#include "tests/kernels/reference_helper.h"

namespace weir {
namespace {

struct Case {
  KvLayout layout;
  uint32_t heads;
  uint32_t first_position;
  uint32_t tokens;
  uint32_t window;
  float soft_cap;
};

// {page_tokens, kv_heads, key_columns, value_columns}, heads, first position, T, window, cap
const Case kCases[] = {
    {{16, 1, 64, 64}, 1, 0, 1, 0, 0},          // the first token of all
    {{16, 2, 64, 64}, 14, 0, 70, 0, 0},        // grouped, a prompt over tile and page ends
    {{32, 3, 64, 64}, 9, 1000, 1, 0, 0},       // one token, two partitions
    {{32, 1, 256, 256}, 4, 1535, 3, 512, 0},   // gemma 3: windows across partitions
    {{7, 2, 40, 24}, 6, 60, 9, 0, 0},          // odd pages, columns without whole vectors
    {{5, 1, 3, 5}, 2, 0, 11, 4, 0},            // tiny odd everything
    {{64, 4, 128, 128}, 8, 505, 20, 100, 50},  // gemma 2: cap and window
    {{64, 8, 96, 96}, 8, 511, 2, 0, 0},        // no grouping, first positions of a partition
    {{16, 1, 64, 64}, 71, 30, 3, 0, 30},       // more heads than rows of a workspace
    {{16, 2, 576, 512}, 4, 130, 5, 0, 0},      // wide heads: a workspace of fewer rows
    {{100, 1, 80, 80}, 2, 2100, 2, 1, 0},      // a window of one
};

struct Problem {
  Problem(const Case& c, uint64_t seed) : pages(c.layout, c.first_position + c.tokens, seed) {
    pages.FillRandom(seed + 1);
    args.queries_stride = c.heads * c.layout.key_columns + 3;
    args.output_stride = c.heads * c.layout.value_columns + 5;
    queries = RandomFloats(c.tokens * args.queries_stride, seed + 2, 3.0f);
    for (uint32_t t = 0; t < c.tokens; ++t) positions.push_back(c.first_position + t);
    args.queries = queries.data();
    args.pages = pages.table();
    args.positions = positions.data();
    args.tokens = c.tokens;
    args.heads = c.heads;
    args.layout = c.layout;
    args.scale = 1.0f / std::sqrt(static_cast<float>(c.layout.key_columns));
    args.soft_cap = c.soft_cap;
    args.window = c.window;
  }
  std::vector<float> Run(uint32_t threads, const std::string& isa) {
    std::vector<float> output(args.tokens * args.output_stride, -7.0f);
    args.output = output.data();
    RunOnCpu(threads, isa, [this](Stream& stream) { Attention(stream, args); });
    return output;
  }

  ReferencePages pages;
  std::vector<float> queries;
  std::vector<int32_t> positions;
  AttentionArgs args = {};
};

void ExpectMatchesReference(const Problem& problem, const std::vector<float>& output) {
  const AttentionArgs& args = problem.args;
  const uint32_t columns = args.layout.value_columns;
  for (uint32_t t = 0; t < args.tokens; ++t) {
    for (uint32_t h = 0; h < args.heads; ++h) {
      const ReferenceAttentionRow row = ReferenceAttention(args, problem.pages, t, h);
      const double score_error =
          ((args.layout.key_columns + 6) * row.score_magnitude + 12 * args.soft_cap) *
          kUnitRoundoff;
      const double relative = 4 * score_error + 2 * (row.positions + 16) * kUnitRoundoff;
      for (uint32_t c = 0; c < columns; ++c) {
        ASSERT_NEAR(output[t * args.output_stride + h * columns + c], row.output[c],
                    relative * row.magnitude[c])
            << "token " << t << " head " << h << " column " << c;
      }
    }
    for (uint64_t c = args.heads * columns; c < args.output_stride; ++c) {
      ASSERT_EQ(output[t * args.output_stride + c], -7.0f) << "written beside the row";
    }
  }
}

TEST(AttentionTest, MatchesReferenceOnEveryIsaAndThreadCount) {
  for (size_t i = 0; i < std::size(kCases); ++i) {
    Problem problem(kCases[i], 100 + i);
    for (const std::string& isa : SupportedIsas()) {
      SCOPED_TRACE(testing::Message() << "case " << i << " isa " << isa << " seed " << 100 + i);
      const std::vector<float> output = problem.Run(1, isa);
      ExpectMatchesReference(problem, output);
      for (uint32_t threads : {2, 3, 8}) {
        ASSERT_EQ(problem.Run(threads, isa), output) << threads << " threads";
      }
    }
  }
}

TEST(AttentionTest, TokenAloneEqualsTokenInBatch) {
  for (size_t i = 0; i < std::size(kCases); ++i) {
    Problem batch(kCases[i], 200 + i);
    const std::vector<float> together = batch.Run(2, "");
    const uint64_t stride = batch.args.output_stride;
    for (uint32_t t = 0; t < kCases[i].tokens; t += 1 + kCases[i].tokens / 7) {
      Problem alone(kCases[i], 200 + i);
      alone.args.queries += t * alone.args.queries_stride;
      alone.args.positions += t;
      alone.args.tokens = 1;
      for (uint32_t threads : {1, 3}) {
        const std::vector<float> single = alone.Run(threads, "");
        const std::vector<float> expected(together.begin() + t * stride,
                                          together.begin() + (t + 1) * stride);
        ASSERT_EQ(single, expected) << "case " << i << " token " << t << " seed " << 200 + i;
      }
    }
  }
}

// What lies in slots that no token may see must not matter, not even infinities and NaNs.
TEST(AttentionTest, IgnoresOtherPositions) {
  const Case c = {{16, 1, 64, 64}, 4, 40, 6, 20, 0};
  Problem clean(c, 5);
  const std::vector<float> expected = clean.Run(2, "");
  Problem dirty(c, 5);
  for (uint32_t position = 0; position < 48; ++position) {
    if (position > 20 && position < 46) continue;  // seen: 21 (token 0) to 45
    uint16_t* const page = reinterpret_cast<uint16_t*>(dirty.pages.table()[position / 16]);
    for (uint32_t column = 0; column < 64; ++column) {
      page[position % 16 * 64 + column] = 0x7e00;         // NaN
      page[(16 + position % 16) * 64 + column] = 0x7c00;  // infinity
    }
  }
  EXPECT_EQ(dirty.Run(2, ""), expected);
}

TEST(AttentionTest, LargeScoresDoNotOverflow) {
  const Case c = {{16, 1, 64, 64}, 2, 100, 1, 0, 0};
  Problem problem(c, 6);
  for (float& q : problem.queries) q *= 1000.0f;
  const std::vector<float> output = problem.Run(1, "");
  for (float value : output) ASSERT_TRUE(std::isfinite(value));
  ExpectMatchesReference(problem, output);
}

class StoreKvTest : public testing::TestWithParam<uint32_t> {};

TEST_P(StoreKvTest, RoundsToNearestEvenIntoItsPages) {
  const KvLayout layout = {7, 3, 41, 26};
  const uint32_t kTokens = 160, kFirst = 5, kStride = 200;
  std::vector<float> keys = RandomFloats(kTokens * kStride, 1);
  std::vector<float> values = RandomFloats(kTokens * kStride, 2);
  // Magnitudes over the whole of float16's range and beyond both of its ends; and exact ties.
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = std::ldexp(keys[i], int(i % 48) - 28);
  for (size_t i = 0; i < values.size(); i += 3) values[i] = 1.0f + (2 * (i % 512) + 1) / 2048.0f;
  keys[11] = 65519.9f;
  keys[12] = -1e30f;
  std::vector<int32_t> positions;
  for (uint32_t t = 0; t < kTokens; ++t) positions.push_back(kFirst + t);
  for (const std::string& isa : SupportedIsas()) {
    ReferencePages pages(layout, kFirst + kTokens, 3);
    RunOnCpu(GetParam(), isa, [&](Stream& stream) {
      StoreKv(stream, {keys.data(), kStride, values.data(), kStride, pages.table(),
                       positions.data(), kTokens, layout});
    });
    for (uint32_t t = 0; t < kTokens; ++t) {
      for (uint32_t h = 0; h < layout.kv_heads; ++h) {
        for (uint32_t c = 0; c < layout.key_columns; ++c) {
          ASSERT_EQ(ReferenceHalf(pages.KeyBits(kFirst + t, h, c)),
                    ReferenceNearestHalf(keys[t * kStride + h * layout.key_columns + c]));
        }
        for (uint32_t c = 0; c < layout.value_columns; ++c) {
          ASSERT_EQ(ReferenceHalf(pages.ValueBits(kFirst + t, h, c)),
                    ReferenceNearestHalf(values[t * kStride + h * layout.value_columns + c]));
        }
      }
    }
    EXPECT_EQ(pages.KeyBits(kFirst - 1, 0, 0), 0x5555) << "a neighbour was overwritten";
    EXPECT_EQ(pages.ValueBits(kFirst - 1, 2, 25), 0x5555) << "a neighbour was overwritten";
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, StoreKvTest, testing::Values(1, 2, 3, 8));

}  // namespace
}  // namespace weir
