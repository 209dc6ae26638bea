// StoreKv on every device: exactly the nearest float16, in its place.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "kernels/isa.h"
#include "kernels/ops.h"
#include "tests/kernels/op_reference_helper.h"
#include "tests/kernels/op_runner_helper.h"
#include "tests/kernels/reference_helper.h"

namespace weir {
namespace {

constexpr uint32_t kTokens = 160;
constexpr uint32_t kFirst = 5;
constexpr uint32_t kStride = 200;

struct Problem {
  explicit Problem(const KvLayout& l) : layout(l) {
    // Magnitudes over the whole of float16's range and beyond both of its ends; and exact ties.
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = std::ldexp(keys[i], int(i % 48) - 28);
    for (size_t i = 0; i < values.size(); i += 3) values[i] = 1.0f + (2 * (i % 512) + 1) / 2048.0f;
    keys[11] = 65519.9f;
    keys[12] = -1e30f;
    for (uint32_t t = 0; t < kTokens; ++t) positions.push_back(kFirst + t);
  }
  KvLayout layout;
  std::vector<float> keys = RandomFloats(kTokens * kStride, 1);
  std::vector<float> values = RandomFloats(kTokens * kStride, 2);
  std::vector<int32_t> positions;
};

// In q8_0: the nearest float16 to a 127th of the largest of a group, and the nearest code, of
// numbers that are limited to what float16 holds.
void ExpectStored(const ReferencePages::Element& stored, KvFormat format, const float* row,
                  uint32_t column) {
  if (format == KvFormat::kF16) {
    ASSERT_EQ(stored.number, ReferenceNearestHalf(row[column]));
    return;
  }
  const auto limited = [&](uint32_t c) { return std::clamp(double{row[c]}, -65504.0, 65504.0); };
  double largest = 0;
  for (uint32_t c = column / 32 * 32; c < column / 32 * 32 + 32; ++c) {
    largest = std::max(largest, std::fabs(limited(c)));
  }
  ASSERT_EQ(stored.scale, ReferenceNearestHalf(static_cast<float>(largest) / 127.0f));
  if (stored.scale == 0) {
    ASSERT_EQ(stored.number, 0);
    return;
  }
  // Where the scale was rounded down far, codes end before the largest number.
  const double code = std::clamp(limited(column) / stored.scale, -127.0, 127.0);
  ASSERT_LE(std::fabs(stored.number / stored.scale - code), 0.5 + 1e-4);
}

void Check(const Problem& p, OpRunner& runner) {
  ReferencePages pages(p.layout, kFirst + kTokens + 1, 3);
  uint8_t* const memory = runner.Upload(pages.memory());
  std::vector<uint8_t*> table;
  for (uint64_t offset : pages.offsets()) table.push_back(memory + offset);
  StoreKv(runner.stream(), {runner.Upload(p.keys), kStride, runner.Upload(p.values), kStride,
                            runner.Upload(table), runner.Upload(p.positions), kTokens, p.layout});
  pages.SetMemory(runner.Download(memory, pages.memory().size()));
  for (uint32_t t = 0; t < kTokens; ++t) {
    for (uint32_t h = 0; h < p.layout.kv_heads; ++h) {
      for (uint32_t c = 0; c < p.layout.key_columns; ++c) {
        ExpectStored(pages.Key(kFirst + t, h, c), p.layout.formats.keys,
                     &p.keys[t * kStride + h * p.layout.key_columns], c);
      }
      for (uint32_t c = 0; c < p.layout.value_columns; ++c) {
        ExpectStored(pages.Value(kFirst + t, h, c), p.layout.formats.values,
                     &p.values[t * kStride + h * p.layout.value_columns], c);
      }
    }
  }
  const uint32_t last = p.layout.kv_heads - 1;
  for (const uint32_t neighbour : {kFirst - 1, kFirst + kTokens}) {
    EXPECT_EQ(pages.Key(neighbour, 0, 0).bits, 0x5555) << "a neighbour was overwritten";
    EXPECT_EQ(pages.Value(neighbour, last, p.layout.value_columns - 1).bits, 0x5555)
        << "a neighbour was overwritten";
  }
}

using StoreKvTest = OpTest;
WEIR_ON_EVERY_DEVICE(StoreKvTest);

// {page_tokens, kv_heads, key_columns, value_columns}: odd rows, and rows of whole vectors.
const KvLayout kLayouts[] = {{7, 3, 41, 26},
                             {64, 2, 64, 96},
                             {16, 2, 96, 64, {}, {KvFormat::kQ8_0, KvFormat::kQ8_0}},
                             {64, 1, 41, 64, {}, {KvFormat::kF16, KvFormat::kQ8_0}},
                             {32, 2, 32, 41, {}, {KvFormat::kQ8_0, KvFormat::kF16}}};

TEST_P(StoreKvTest, RoundsToNearestEvenIntoItsPages) {
  for (const KvLayout& layout : kLayouts) {
    if (GetParam() != "Cpu" && layout.formats != KvFormats{}) continue;
    const Problem problem(LayoutOn(GetParam(), layout));
    const bool cpu = GetParam() == "Cpu";
    for (const std::string& isa : cpu ? SupportedIsas() : std::vector<std::string>{""}) {
      for (uint32_t threads : cpu ? std::vector<uint32_t>{1, 2, 3, 8} : std::vector<uint32_t>{1}) {
        SCOPED_TRACE(testing::Message() << layout.key_columns << " columns " << isa << threads);
        Check(problem, *MakeOpRunner(GetParam(), threads, isa));
      }
    }
  }
}

}  // namespace
}  // namespace weir
