// PrepareAttention on every device: bit for bit what RmsNorm, Rope and StoreKv give one by one
// there.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/op_reference_helper.h"
#include "tests/kernels/op_runner_helper.h"

namespace weir {
namespace {

struct Case {
  KvLayout layout;
  uint32_t heads;
  uint32_t rotary_columns;
  uint32_t first_position;
  uint32_t tokens;
  bool query_norm;
  bool key_norm;
  RopeLayout rope;
};
const Case kCases[] = {
    {{64, 2, 64, 64}, 8, 64, 63, 2, false, false, RopeLayout::kInterleaved},
    {{16, 3, 80, 96}, 6, 32, 1000, 9, false, false, RopeLayout::kHalves},
    {{64, 2, 128, 128}, 14, 128, 9000, 1, true, true, RopeLayout::kHalves},
    {{64, 1, 256, 256}, 3, 256, 5, 66, true, true, RopeLayout::kHalves},
    {{7, 2, 41, 26}, 4, 40, 30, 65, false, true, RopeLayout::kInterleaved},
    {{64, 1, 8, 8}, 2, 0, 30, 3, true, false, RopeLayout::kInterleaved},
};

// The inputs on a device, and what the ops leave there.
struct Prepared {
  Prepared(const std::string& device, const Case& c, OpRunner& runner)
      : pages(LayoutOn(device, c.layout), c.first_position + c.tokens, 3) {
    const uint32_t columns = c.layout.key_columns;
    const uint64_t key_at = c.heads * columns;
    const uint64_t value_at = key_at + c.layout.kv_heads * columns;
    args.stride = value_at + c.layout.kv_heads * c.layout.value_columns + 3;
    floats = c.tokens * args.stride;
    args.queries = runner.Upload(RandomFloats(floats, 1, 5.0f));
    args.keys = args.queries + key_at;
    args.values = args.queries + value_at;
    const float* const weights = runner.Upload(RandomFloats(columns, 2, 2.0f));
    args.query_norm = c.query_norm ? weights : nullptr;
    args.key_norm = c.key_norm ? weights : nullptr;
    args.norm_epsilon = 1e-6f;
    std::vector<float> frequency;
    for (uint32_t i = 0; i < c.rotary_columns / 2; ++i) {
      frequency.push_back(std::pow(500000.0f, -2.0f * i / c.rotary_columns));
    }
    args.inverse_frequency = runner.Upload(frequency);
    args.rotary_columns = c.rotary_columns;
    args.magnitude = 1.1f;
    args.rope = c.rope;
    memory = runner.Upload(pages.memory());
    std::vector<uint8_t*> table;
    for (uint64_t offset : pages.offsets()) table.push_back(memory + offset);
    args.pages = runner.Upload(table);
    std::vector<int32_t> positions;
    for (uint32_t t = 0; t < c.tokens; ++t) positions.push_back(c.first_position + t);
    args.positions = runner.Upload(positions);
    args.tokens = c.tokens;
    args.heads = c.heads;
    args.layout = LayoutOn(device, c.layout);
  }
  ReferencePages pages;
  uint8_t* memory;
  uint64_t floats;
  PrepareAttentionArgs args = {};
};

void NormAndRotate(Stream& stream, const PrepareAttentionArgs& a, float* data, uint32_t heads,
                   const float* norm) {
  const uint32_t columns = a.layout.key_columns;
  if (norm != nullptr) {
    RmsNorm(stream, {data, a.stride, norm, data, a.stride, a.tokens, heads, columns, 1e-6f});
  }
  Rope(stream, {data, a.stride, a.positions, a.inverse_frequency, a.tokens, heads, columns,
                a.rotary_columns, a.magnitude, a.rope});
}

using PrepareAttentionTest = OpTest;
WEIR_ON_EVERY_DEVICE(PrepareAttentionTest);

TEST_P(PrepareAttentionTest, IsItsPartsInOne) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << c.layout.key_columns << " columns");
    const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam(), 3);
    Stream& stream = runner->stream();
    const Prepared apart(GetParam(), c, *runner);
    const PrepareAttentionArgs& a = apart.args;
    NormAndRotate(stream, a, a.queries, a.heads, a.query_norm);
    NormAndRotate(stream, a, a.keys, a.layout.kv_heads, a.key_norm);
    StoreKv(stream,
            {a.keys, a.stride, a.values, a.stride, a.pages, a.positions, a.tokens, a.layout});
    const Prepared at_once(GetParam(), c, *runner);
    PrepareAttention(stream, at_once.args);

    const uint64_t bytes = apart.pages.memory().size();
    EXPECT_EQ(runner->Download(at_once.memory, bytes), runner->Download(apart.memory, bytes));
    const std::vector<float> got = runner->Download(at_once.args.queries, apart.floats);
    const std::vector<float> expected = runner->Download(a.queries, apart.floats);
    const uint64_t key_at = static_cast<uint64_t>(a.keys - a.queries);
    const uint64_t value_at = static_cast<uint64_t>(a.values - a.queries);
    for (uint64_t i = 0; i < got.size(); ++i) {
      if (i % a.stride >= key_at && i % a.stride < value_at) continue;  // unspecified
      ASSERT_EQ(got[i], expected[i]) << "element " << i;
    }
  }
}

}  // namespace
}  // namespace weir
