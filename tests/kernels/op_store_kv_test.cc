// StoreKv on every device: exactly the nearest float16, in its place.
#include <gtest/gtest.h>

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
        ASSERT_EQ(ReferenceHalf(pages.KeyBits(kFirst + t, h, c)),
                  ReferenceNearestHalf(p.keys[t * kStride + h * p.layout.key_columns + c]));
      }
      for (uint32_t c = 0; c < p.layout.value_columns; ++c) {
        ASSERT_EQ(ReferenceHalf(pages.ValueBits(kFirst + t, h, c)),
                  ReferenceNearestHalf(p.values[t * kStride + h * p.layout.value_columns + c]));
      }
    }
  }
  const uint32_t last = p.layout.kv_heads - 1;
  for (const uint32_t neighbour : {kFirst - 1, kFirst + kTokens}) {
    EXPECT_EQ(pages.KeyBits(neighbour, 0, 0), 0x5555) << "a neighbour was overwritten";
    EXPECT_EQ(pages.ValueBits(neighbour, last, p.layout.value_columns - 1), 0x5555)
        << "a neighbour was overwritten";
  }
}

using StoreKvTest = OpTest;
WEIR_ON_EVERY_DEVICE(StoreKvTest);

// {page_tokens, kv_heads, key_columns, value_columns}: odd rows, and rows of whole vectors.
const KvLayout kLayouts[] = {{7, 3, 41, 26}, {64, 2, 64, 96}};

TEST_P(StoreKvTest, RoundsToNearestEvenIntoItsPages) {
  for (const KvLayout& layout : kLayouts) {
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
