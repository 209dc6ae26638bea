// Attention on every device.
//
// Tolerance, u = 2^-24: a score is off by d <= s u max|scale q.k| from its sum and scaling, and a
// soft cap's tanh (4 ulp) and division add 12 u cap. A weight exp(score - max) is then off by 2 d
// and by w, relatively, and so are the sums of n weights and weighted values by a n u:
// |error| <= (4 d + 2 w + 2 a (n + 16) u) sum weight |value|.
//   CPU: s = columns + 6, a = 1; w is a few u, counted with n.
//   CUDA (kernels/attention_block_cuda.h): twice as many products to a score, and matrix units that
//   cut sums off rather than round them (2 u): s = 4 columns + 14, a = 2. w is 2^-22 for up to 8
//   tokens, 2^-11 for more.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/isa.h"
#include "kernels/ops.h"
#include "tests/kernels/op_reference_helper.h"
#include "tests/kernels/op_runner_helper.h"

namespace weir {
namespace {

constexpr KvFormat kF16 = KvFormat::kF16, kQ8_0 = KvFormat::kQ8_0;
constexpr uint32_t kFewTokens = 8;  // of which CUDA's kernels weight values more exactly

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
    {{64, 1, 64, 64}, 4, 4000, 1, 0, 0},       // a long past
    {{64, 1, 32, 32}, 8, 3000, 40, 0, 0},      // the same for a prompt
    {{64, 2, 80, 80}, 8, 250, 8, 0, 0},        // rows in several tiles, over the end of a split
    {{64, 1, 64, 48}, 5, 515, 7, 300, 20},     // keys wider than values, a window over 3 splits
    {{64, 2, 8, 64}, 8, 1, 4, 0, 0},           // so few roundings that every half counts
    {{64, 1, 256, 256}, 2, 40, 33, 30, 0},     // wide heads, a prompt in windows over pages
    {{64, 2, 128, 128}, 14, 120, 16, 0, 0},    // groups that tiles of rows cut
    {{64, 1, 16, 72}, 1, 2000, 12, 1100, 0},   // a window over the splits of a prompt
    {{64, 1, 128, 128}, 5, 300, 1, 0, 0},      // two partitions, shared by heads
    {{64, 3, 64, 64}, 15, 700, 4, 350, 0},     // few tokens, whose windows begin in two partitions
    {{64, 1, 512, 512}, 31, 2800, 1, 0, 0},    // more partitions than records: several rounds
    // Codes, on the CPU:
    {{64, 2, 128, 128, {}, {kQ8_0, kQ8_0}}, 12, 700, 1, 0, 0},  // qwen2.5-coder
    {{32, 3, 64, 64, {}, {kQ8_0, kQ8_0}}, 9, 300, 21, 40, 20},
    {{16, 1, 32, 96, {}, {kQ8_0, kQ8_0}}, 71, 30, 3, 0, 30},
    {{64, 1, 64, 40, {}, {kQ8_0, kF16}}, 5, 515, 7, 300, 0},
    {{48, 2, 40, 64, {}, {kF16, kQ8_0}}, 8, 250, 9, 0, 0},
};

bool Supports(const std::string& device, const Case& c) {
  if (device == "Cpu") return true;
  return c.layout.key_columns <= 256 && c.layout.value_columns <= 256 &&
         c.layout.formats == KvFormats{};
}

struct Problem {
  Problem(const std::string& device, const Case& c, uint64_t seed)
      : pages(LayoutOn(device, c.layout), c.first_position + c.tokens, seed) {
    pages.FillRandom(seed + 1);
    args.queries_stride = c.heads * c.layout.key_columns + 3;
    args.output_stride = c.heads * c.layout.value_columns + 5;
    queries = RandomFloats(c.tokens * args.queries_stride, seed + 2, 3.0f);
    for (uint32_t t = 0; t < c.tokens; ++t) positions.push_back(c.first_position + t);
    args.tokens = c.tokens;
    args.heads = c.heads;
    args.layout = LayoutOn(device, c.layout);
    args.scale = 1.0f / std::sqrt(static_cast<float>(c.layout.key_columns));
    args.soft_cap = c.soft_cap;
    args.window = c.window;
    args.positions_end = c.first_position + c.tokens;
  }
  // Of `tokens` tokens, the first of them `first`, in one call.
  std::vector<float> Run(OpRunner& runner, uint32_t first, uint32_t tokens) const {
    const std::vector<float> old(tokens * args.output_stride, -7.0f);
    float* const output = runner.Upload(old);
    const uint8_t* const memory = runner.Upload(pages.memory());
    std::vector<uint8_t*> table;
    for (uint64_t offset : pages.offsets()) table.push_back(const_cast<uint8_t*>(memory + offset));
    AttentionArgs call = args;
    call.queries = runner.Upload(queries) + first * args.queries_stride;
    call.pages = runner.Upload(table);
    call.positions = runner.Upload(positions) + first;
    call.output = output;
    call.tokens = tokens;
    Attention(runner.stream(), call);
    return runner.Download(output, old.size());
  }
  std::vector<float> Run(const std::string& device, uint32_t threads = 2,
                         const std::string& isa = "") const {
    return Run(*MakeOpRunner(device, threads, isa), 0, args.tokens);
  }
  // With what the reference looks at.
  AttentionArgs HostArgs() const {
    AttentionArgs host = args;
    host.queries = queries.data();
    host.positions = positions.data();
    return host;
  }

  ReferencePages pages;
  std::vector<float> queries;
  std::vector<int32_t> positions;
  AttentionArgs args = {};
};

double Tolerance(const std::string& device, const AttentionArgs& args,
                 const ReferenceAttentionRow& row) {
  const bool cpu = device == "Cpu";
  const double score_roundings =
      cpu ? args.layout.key_columns + 6 : 4 * args.layout.key_columns + 14;
  const double score_error =
      (score_roundings * row.score_magnitude + 12 * args.soft_cap) * kUnitRoundoff;
  const double weight_error = cpu ? 0 : std::ldexp(1.0, args.tokens <= kFewTokens ? -22 : -11);
  return 4 * score_error + 2 * weight_error + (cpu ? 2 : 4) * (row.positions + 16) * kUnitRoundoff;
}

void ExpectMatchesReference(const std::string& device, const Problem& problem,
                            const std::vector<float>& output) {
  const AttentionArgs args = problem.HostArgs();
  const uint32_t columns = args.layout.value_columns;
  for (uint32_t t = 0; t < args.tokens; ++t) {
    for (uint32_t h = 0; h < args.heads; ++h) {
      const ReferenceAttentionRow row = ReferenceAttention(args, problem.pages, t, h);
      const double relative = Tolerance(device, args, row);
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

using AttentionTest = OpTest;
WEIR_ON_EVERY_DEVICE(AttentionTest);

TEST_P(AttentionTest, MatchesReference) {
  for (size_t i = 0; i < std::size(kCases); ++i) {
    if (!Supports(GetParam(), kCases[i])) continue;
    SCOPED_TRACE(testing::Message() << "case " << i << " seed " << 100 + i);
    const Problem problem(GetParam(), kCases[i], 100 + i);
    ExpectMatchesReference(GetParam(), problem, problem.Run(GetParam()));
  }
}

TEST(AttentionCpuTest, MatchesReferenceOnEveryIsaAndThreadCount) {
  for (size_t i = 0; i < std::size(kCases); ++i) {
    const Problem problem("Cpu", kCases[i], 100 + i);
    for (const std::string& isa : SupportedIsas()) {
      SCOPED_TRACE(testing::Message() << "case " << i << " isa " << isa << " seed " << 100 + i);
      const std::vector<float> output = problem.Run("Cpu", 1, isa);
      ExpectMatchesReference("Cpu", problem, output);
      for (uint32_t threads : {2, 3, 8}) {
        ASSERT_EQ(problem.Run("Cpu", threads, isa), output) << threads << " threads";
      }
    }
  }
}

// On the CPU of all calls, on CUDA of those of a kind.
TEST_P(AttentionTest, TokenAloneEqualsTokenInBatch) {
  for (size_t i = 0; i < std::size(kCases); ++i) {
    if (!Supports(GetParam(), kCases[i])) continue;
    const Problem problem(GetParam(), kCases[i], 200 + i);
    const bool cpu = GetParam() == "Cpu";
    const uint32_t batch = cpu ? kCases[i].tokens : std::min(kFewTokens, kCases[i].tokens);
    const uint64_t stride = problem.args.output_stride;
    const std::vector<float> together = problem.Run(*MakeOpRunner(GetParam()), 0, batch);
    for (uint32_t t = 0; t < batch; t += 1 + batch / 7) {
      for (uint32_t threads : cpu ? std::vector<uint32_t>{1, 3} : std::vector<uint32_t>{1}) {
        const std::vector<float> single = problem.Run(*MakeOpRunner(GetParam(), threads), t, 1);
        const std::vector<float> expected(together.begin() + t * stride,
                                          together.begin() + (t + 1) * stride);
        ASSERT_EQ(single, expected) << "case " << i << " token " << t << " seed " << 200 + i;
      }
    }
  }
}

// A prompt in pieces, each of which is longer than what CUDA takes for few tokens.
TEST_P(AttentionTest, PromptInPiecesEqualsPrompt) {
  const Case c = {{64, 1, 64, 64}, 3, 1010, 41, 1100, 0};
  const Problem problem(GetParam(), c, 7);
  const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
  std::vector<float> pieces;
  for (const uint32_t first : {0, 10, 30}) {
    const std::vector<float> piece = problem.Run(*runner, first,
                                                 first == 10  ? 20
                                                 : first == 0 ? 10
                                                              : 11);
    pieces.insert(pieces.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(problem.Run(*runner, 0, 41), pieces);
}

// Launches are made for positions_end; with a large one, by parts for want of scratch memory.
TEST_P(AttentionTest, RoomForMorePositionsChangesNothing) {
  const Case cases[] = {{{64, 4, 64, 64}, 16, 300, 2, 0, 0}, {{64, 2, 64, 64}, 8, 300, 20, 0, 0}};
  for (const Case& c : cases) {
    Problem problem(GetParam(), c, 8);
    const std::vector<float> expected = problem.Run(GetParam());
    for (const uint32_t end : {1024u, 131072u}) {
      problem.args.positions_end = end;
      EXPECT_EQ(problem.Run(GetParam()), expected) << c.tokens << " tokens, end " << end;
    }
  }
  // Splits grow until a tile's records fit: other roundings.
  Problem problem(GetParam(), {{64, 1, 64, 64}, 16, 700, 1, 0, 0}, 9);
  problem.args.positions_end = 1u << 20;
  ExpectMatchesReference(GetParam(), problem, problem.Run(GetParam()));
}

// What lies in slots that no token may see must not matter, not even infinities and NaNs.
TEST_P(AttentionTest, IgnoresOtherPositions) {
  for (const auto& [tokens, formats] : {std::pair(6u, KvFormats{}), std::pair(11u, KvFormats{}),
                                        std::pair(11u, KvFormats{kQ8_0, kQ8_0})}) {
    const Case c = {{16, 1, 64, 64, {}, formats}, 4, 46 - tokens, tokens, 20, 0};
    if (!Supports(GetParam(), c)) continue;
    const Problem clean(GetParam(), c, 5);
    const std::vector<float> expected = clean.Run(GetParam());
    Problem dirty(GetParam(), c, 5);
    const uint32_t first_seen = 46 - tokens - 19;
    for (uint32_t position = 0; position < 48; ++position) {
      if (position >= first_seen && position < 46) continue;
      dirty.pages.SetPosition(position, /*key_bits=*/0x7e00,
                              /*value_bits=*/0x7c00);  // NaN, infinity
    }
    EXPECT_EQ(dirty.Run(GetParam()), expected);
  }
}

TEST_P(AttentionTest, ExtremeQueries) {
  for (const float size : {1000.0f, 1e-20f, 1e20f, 0.0f}) {
    const Case c = {{16, 1, 64, 64}, 2, 100, 1, 0, 0};
    Problem problem(GetParam(), c, 6);
    for (float& q : problem.queries) q *= size;
    const std::vector<float> output = problem.Run(GetParam());
    for (float value : output) ASSERT_TRUE(std::isfinite(value)) << size;
    if (size <= 1000) ExpectMatchesReference(GetParam(), problem, output);
  }
}

}  // namespace
}  // namespace weir
