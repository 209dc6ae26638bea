// Normalisation, rotary embedding, element-wise ops and embedding rows on every device, each
// against double precision with a tolerance from its own roundings (u = 2^-24), on odd and even
// shapes; on the CPU on every instruction set and several numbers of threads, which must agree bit
// for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/dequantize.h"
#include "kernels/isa.h"
#include "kernels/ops.h"
#ifdef WEIR_HAVE_HOST_GRID
#include "tests/kernels/host_grid/device.h"
#endif
#include "tests/kernels/op_reference_helper.h"
#include "tests/kernels/op_runner_helper.h"
#include "tests/kernels/reference_helper.h"

namespace weir {
namespace {

// Runs `op(runner, output)` on copies of `initial`. On the CPU on each isa with 1 thread, handing
// the result to `check`, and with more threads, expecting the same bits; elsewhere twice, likewise.
void RunOn(const std::string& device, const std::vector<float>& initial,
           const std::function<void(OpRunner&, float*)>& op,
           const std::function<void(const std::vector<float>&)>& check) {
  const bool cpu = device == "Cpu";
  for (const std::string& isa : cpu ? SupportedIsas() : std::vector<std::string>{""}) {
    SCOPED_TRACE(testing::Message() << device << " " << isa);
    std::vector<float> first;
    for (uint32_t threads : cpu ? std::vector<uint32_t>{1, 2, 3, 8} : std::vector<uint32_t>{1, 2}) {
      std::unique_ptr<OpRunner> runner = MakeOpRunner(device, threads, isa);
      float* const output = runner->Upload(initial);
      op(*runner, output);
      const std::vector<float> result = runner->Download(output, initial.size());
      if (threads == 1) {
        first = result;
        check(first);
      }
      ASSERT_EQ(result, first) << threads << " threads, or again";
    }
  }
}

// ---- RmsNorm: a sum of c squares in at least 32 parts, c / 32 + 8 roundings at most, halved by
// the root; then 6 more, and for accumulate one of the sum
// -----------------------------------------------------

struct NormShape {
  uint32_t tokens, groups, columns;
};

using RmsNormTest = OpTest;
WEIR_ON_EVERY_DEVICE(RmsNormTest);

TEST_P(RmsNormTest, MatchesReference) {
  for (const NormShape s : {NormShape{1, 1, 1},
                            {3, 1, 7},
                            {1, 1, 576},
                            {9, 1, 2048},
                            {2, 1, 8200},
                            {5, 14, 64},
                            {33, 4, 256},
                            {40, 3, 33}}) {
    const uint64_t stride = s.groups * s.columns + 3;
    const std::vector<float> input = RandomFloats(s.tokens * stride, s.columns, 4.0f);
    const std::vector<float> old = RandomFloats(s.tokens * stride, 2);
    const std::vector<float> weight = RandomFloats(s.columns, 3, 2.0f);
    for (int variant = 0; variant < 4; ++variant) {
      SCOPED_TRACE(testing::Message() << s.columns << " columns, variant " << variant);
      const bool accumulate = variant & 1;
      const float* const weights = variant & 2 ? weight.data() : nullptr;
      const auto op = [&](OpRunner& runner, float* output) {
        RmsNorm(runner.stream(),
                {runner.Upload(input), stride, weights ? runner.Upload(weight) : nullptr, output,
                 stride, s.tokens, s.groups, s.columns, 1e-5f, accumulate});
      };
      RunOn(GetParam(), old, op, [&](const std::vector<float>& output) {
        for (uint32_t t = 0; t < s.tokens; ++t) {
          for (uint32_t g = 0; g < s.groups; ++g) {
            const uint64_t at = t * stride + g * s.columns;
            double squares = 0;
            for (uint32_t c = 0; c < s.columns; ++c)
              squares += double{input[at + c]} * input[at + c];
            const double scale = 1 / std::sqrt(squares / s.columns + 1e-5f);
            for (uint32_t c = 0; c < s.columns; ++c) {
              const double normed = input[at + c] * scale * (weights ? weights[c] : 1.0f);
              const double expected = normed + (accumulate ? old[at + c] : 0.0f);
              const double error =
                  (s.columns / 64.0 + 10) * std::fabs(normed) + std::fabs(expected);
              ASSERT_NEAR(output[at + c], expected, error * kUnitRoundoff);
            }
          }
          for (uint64_t c = s.groups * s.columns; c < stride; ++c) {
            ASSERT_EQ(output[t * stride + c], old[t * stride + c]);
          }
        }
      });
    }
  }
}

TEST_P(RmsNormTest, InPlaceAndTokenAlone) {
  const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam(), 3);
  const std::vector<float> values = RandomFloats(50 * 1000, 1);
  float* const input = runner->Upload(values);
  float* const outside = runner->Upload(std::vector<float>(values.size()));
  float* const alone = runner->Upload(std::vector<float>(1000));
  const auto run = [&](const float* in, float* out, uint32_t tokens) {
    RmsNorm(runner->stream(), {in, 1000, nullptr, out, 1000, tokens, 1, 1000, 1e-6f});
  };
  run(input, outside, 50);
  run(input + 17 * 1000, alone, 1);
  run(input, input, 50);
  const std::vector<float> want = runner->Download(outside, values.size());
  EXPECT_EQ(runner->Download(input, values.size()), want);
  const std::vector<float> one = runner->Download(alone, 1000);
  EXPECT_TRUE(std::equal(one.begin(), one.end(), want.begin() + 17 * 1000));
}

// ---- Rope: sine and cosine rounded once and scaled once; two products and a sum
// ----------------------

struct RopeShape {
  uint32_t tokens, heads, head_columns, rotary_columns;
  int32_t first_position;
};

using RopeTest = OpTest;
WEIR_ON_EVERY_DEVICE(RopeTest);

TEST_P(RopeTest, MatchesReferenceInBothLayouts) {
  for (const RopeShape s : {RopeShape{1, 1, 2, 2, 0},
                            {1, 14, 64, 64, 4095},
                            {40, 3, 64, 64, 131000},
                            {3, 2, 96, 72, 7},
                            {5, 2, 80, 26, 1000000},
                            {2, 1, 256, 256, 32767}}) {
    const uint64_t stride = s.heads * s.head_columns + 5;
    const std::vector<float> data = RandomFloats(s.tokens * stride, 4, 8.0f);
    std::vector<float> frequency;
    for (uint32_t i = 0; i < s.rotary_columns / 2; ++i) {
      frequency.push_back(std::pow(10000.0f, -2.0f * i / s.rotary_columns));
    }
    std::vector<int32_t> positions;
    for (uint32_t t = 0; t < s.tokens; ++t) positions.push_back(s.first_position + t);
    for (const RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kHalves}) {
      const float magnitude = layout == RopeLayout::kHalves ? 1.0f : 1.19f;
      const auto op = [&](OpRunner& runner, float* out) {
        Rope(runner.stream(),
             {out, stride, runner.Upload(positions), runner.Upload(frequency), s.tokens, s.heads,
              s.head_columns, s.rotary_columns, magnitude, layout});
      };
      std::vector<double> expected(data.begin(), data.end());
      std::vector<double> bound(data.size(), 0.0);  // exact beside the rotated columns
      for (uint64_t row = 0; row < s.tokens * s.heads; ++row) {
        const uint64_t token = row / s.heads;
        const uint64_t at = token * stride + row % s.heads * s.head_columns;
        for (uint32_t i = 0; i < s.rotary_columns / 2; ++i) {
          const bool halves = layout == RopeLayout::kHalves;
          const uint64_t x = at + (halves ? i : 2 * i);
          const uint64_t y = halves ? x + s.rotary_columns / 2 : x + 1;
          const float angle = static_cast<float>(positions[token]) * frequency[i];
          const double c = std::cos(double{angle}) * magnitude;
          const double n = std::sin(double{angle}) * magnitude;
          expected[x] = data[x] * c - data[y] * n;
          expected[y] = data[y] * c + data[x] * n;
          bound[x] = bound[y] =
              5 * kUnitRoundoff * magnitude * (std::fabs(data[x]) + std::fabs(data[y]));
        }
      }
      RunOn(GetParam(), data, op, [&](const std::vector<float>& output) {
        for (size_t i = 0; i < output.size(); ++i) {
          ASSERT_NEAR(output[i], expected[i], bound[i])
              << i << " columns " << s.head_columns << " position " << s.first_position;
        }
      });
    }
  }
}

// ---- element-wise
// ------------------------------------------------------------------------------------

struct Shape {
  uint32_t tokens, columns;
};
const Shape kShapes[] = {{1, 1}, {1, 67}, {3, 1000}, {1, 8960}, {17, 1536}};

// The exponent's argument is rounded 4 times in gelu, which costs 4 u |argument| of its
// exponential; about 12 roundings besides.
using GatedActivationTest = OpTest;
WEIR_ON_EVERY_DEVICE(GatedActivationTest);

TEST_P(GatedActivationTest, MatchesReference) {
  for (const Shape s : kShapes) {
    const uint64_t stride = s.columns + 2;
    std::vector<float> gate = RandomFloats(s.tokens * stride, 5, 12.0f);
    const std::vector<float> up = RandomFloats(s.tokens * stride, 6, 3.0f);
    for (size_t i = 0; i < gate.size(); i += 9) gate[i] *= 20;  // far into both tails
    gate[0] = 0.0f;
    for (const GateActivation activation : {GateActivation::kSilu, GateActivation::kGeluTanh}) {
      const auto op = [&](OpRunner& runner, float* out) {
        GatedActivation(runner.stream(), {runner.Upload(gate), runner.Upload(up), stride, out,
                                          stride, s.tokens, s.columns, activation});
      };
      std::vector<float> separate;
      RunOn(GetParam(), std::vector<float>(gate.size(), 9.0f), op,
            [&](const std::vector<float>& output) {
              separate = output;
              for (uint64_t i = 0; i < output.size(); ++i) {
                if (i % stride >= s.columns) {
                  ASSERT_EQ(output[i], 9.0f);
                  continue;
                }
                const double x = gate[i];
                const bool silu = activation == GateActivation::kSilu;
                const double u = silu ? x : 2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
                const double expected = x / (1 + std::exp(-u)) * up[i];
                // Below exp(-86) results are denormal.
                const double error = (12 + 4 * std::min(std::fabs(u), 86.0)) * kUnitRoundoff;
                ASSERT_NEAR(output[i], expected, error * std::fabs(expected) + 1e-34)
                    << "gate " << x;
              }
            });
      const auto in_place = [&](OpRunner& runner, float* out) {
        GatedActivation(runner.stream(), {out, runner.Upload(up), stride, out, stride, s.tokens,
                                          s.columns, activation});
      };
      RunOn(GetParam(), gate, in_place, [&](const std::vector<float>& output) {
        for (uint64_t i = 0; i < output.size(); ++i) {
          ASSERT_EQ(output[i], i % stride < s.columns ? separate[i] : gate[i]);
        }
      });
    }
  }
}

using AddTest = OpTest;
WEIR_ON_EVERY_DEVICE(AddTest);

TEST_P(AddTest, IsExactlyOneRounding) {
  for (const Shape s : kShapes) {
    const uint64_t from_stride = s.columns + 3, to_stride = s.columns + 1;
    const std::vector<float> input = RandomFloats(s.tokens * from_stride, 7);
    const std::vector<float> old = RandomFloats(s.tokens * to_stride, 8);
    std::vector<float> expected = old;
    for (uint32_t t = 0; t < s.tokens; ++t) {
      for (uint32_t c = 0; c < s.columns; ++c) {
        expected[t * to_stride + c] += input[t * from_stride + c];
      }
    }
    RunOn(
        GetParam(), old,
        [&](OpRunner& runner, float* out) {
          Add(runner.stream(),
              {runner.Upload(input), from_stride, out, to_stride, s.tokens, s.columns});
        },
        [&](const std::vector<float>& output) { ASSERT_EQ(output, expected); });
  }
}

// The quotient's rounding, tanh within 4 ulp (8 u), the product's.
using SoftCapTest = OpTest;
WEIR_ON_EVERY_DEVICE(SoftCapTest);

TEST_P(SoftCapTest, MatchesReference) {
  for (const Shape s : kShapes) {
    const uint64_t stride = s.columns + 1;
    std::vector<float> data = RandomFloats(s.tokens * stride, 9, 90.0f);
    for (size_t i = 0; i < data.size(); i += 3) data[i] *= 1e-4f;
    for (size_t i = 1; i < data.size(); i += 7) data[i] *= 1e4f;
    RunOn(
        GetParam(), data,
        [&](OpRunner& runner, float* out) {
          SoftCap(runner.stream(), {out, stride, s.tokens, s.columns, 30.0f});
        },
        [&](const std::vector<float>& output) {
          for (uint64_t i = 0; i < output.size(); ++i) {
            const bool inside = i % stride < s.columns;
            const double expected = inside ? 30.0 * std::tanh(data[i] / 30.0) : data[i];
            ASSERT_NEAR(output[i], expected, inside ? 12 * kUnitRoundoff * std::fabs(expected) : 0)
                << data[i];
          }
        });
  }
}

// ---- embedding rows: decoding has its own tests; here the gathering and the scale
// ----------------------

using EmbedRowsTest = OpTest;
WEIR_ON_EVERY_DEVICE(EmbedRowsTest);

TEST_P(EmbedRowsTest, GathersScaledRowsOfEveryFormat) {
  const uint32_t kColumns = 768, kTokens = 37, kRows = 11;
  for (const DTypeInfo& info : AllDTypes()) {
    const uint64_t row_bytes = RowBytes(info.dtype, kColumns);
    const std::vector<uint8_t> table = RandomWeights(info.dtype, kRows, kColumns, 10);
    std::vector<const uint8_t*> rows;
    for (uint32_t t = 0; t < kTokens; ++t) rows.push_back(table.data() + t * 7 % kRows * row_bytes);
    for (const float scale : {1.0f, 27.712812f}) {
      std::vector<float> expected(kTokens * kColumns);
      for (uint32_t t = 0; t < kTokens; ++t) {
        DequantizeRow(info.dtype, rows[t], kColumns, &expected[t * kColumns]);
      }
      for (float& value : expected) value *= scale;
      RunOn(
          GetParam(), std::vector<float>(expected.size()),
          [&](OpRunner& runner, float* out) {
            // The table at an odd address of the device, and the addresses of its rows.
            const uint8_t* const on_device = runner.Upload(table, 3);
            std::vector<const uint8_t*> addresses;
            addresses.reserve(rows.size());
            for (const uint8_t* row : rows) addresses.push_back(on_device + (row - table.data()));
            EmbedRows(runner.stream(),
                      {runner.Upload(addresses), info.dtype, scale, out, kTokens, kColumns});
          },
          [&](const std::vector<float>& output) { ASSERT_EQ(output, expected) << info.name; });
    }
  }
}

#ifdef WEIR_HAVE_HOST_GRID
TEST(EmbedRowsHostGridTest, LittleScratchMemory) {
  const std::vector<float> table = RandomFloats(7 * 100, 3);
  OpRunner runner(host_grid::MakeHostGridDevice({.scratch_bytes = 1024}));  // two rows
  const float* const on_device = runner.Upload(table);
  std::vector<const uint8_t*> rows;
  std::vector<float> expected;
  for (const uint32_t row : {6u, 0u, 3u, 3u, 5u}) {
    rows.push_back(reinterpret_cast<const uint8_t*>(on_device + row * 100));
    expected.insert(expected.end(), &table[row * 100], &table[row * 100] + 100);
  }
  float* const output = runner.Upload(std::vector<float>(500));
  EmbedRows(runner.stream(), {runner.Upload(rows), DType::kF32, 1.0f, output, 5, 100});
  EXPECT_EQ(runner.Download(output, 500), expected);
}
#endif

// ---- no work
// --------------------------------------------------------------------------------------------

using NoTokensTest = OpTest;
WEIR_ON_EVERY_DEVICE(NoTokensTest);

TEST_P(NoTokensTest, AreNoWork) {
  const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
  float* const x = runner->Upload(std::vector<float>{5.0f});
  Stream& s = runner->stream();
  RmsNorm(s, {x, 1, nullptr, x, 1, 0, 1, 1, 1e-5f});
  GatedActivation(s, {x, x, 1, x, 1, 0, 1, GateActivation::kSilu});
  Add(s, {x, 1, x, 1, 0, 1});
  SoftCap(s, {x, 1, 0, 1, 30.0f});
  EmbedRows(s, {nullptr, DType::kF32, 1, x, 0, 32});
  const KvLayout layout = LayoutOn(GetParam(), {16, 1, 1, 1});
  Rope(s, {x, 1, nullptr, x, 0, 1, 2, 2, 1, RopeLayout::kHalves});
  StoreKv(s, {x, 1, x, 1, nullptr, nullptr, 0, layout});
  PrepareAttention(s, {x, x, x, 1, x, x, 1e-5f, x, 0, 1, {}, nullptr, nullptr, 0, 1, layout});
  Attention(s, {x, 1, nullptr, nullptr, x, 1, 0, 1, layout, 1, 0, 0});
  TopLogits(s, {x, 1, x, nullptr, 0, 1, 1});
  EXPECT_EQ(runner->Download(x, 1)[0], 5.0f);
}

}  // namespace
}  // namespace weir
