#include "engine/kv_pages.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "engine/session.h"
#include "engine/workspace.h"
#include "gtest/gtest.h"
#include "io/base.h"

namespace weir {
namespace {

ModelConfig Config() {
  ModelConfig config;
  config.columns = 96;
  config.key_columns = 24;
  config.value_columns = 40;
  config.vocabulary = 333;
  config.layers.resize(3);
  for (uint32_t i = 0; i < 3; ++i) {
    config.layers[i].heads = 4 + 2 * i;
    config.layers[i].kv_heads = 1 + i;  // layers differ
    config.layers[i].feed_forward_columns = 100 + 60 * i;
  }
  return config;
}

// Every layer has 64 columns a KV head, of two bytes.
TEST(KvReadBytes, CountsThePositionsOfEachLayer) {
  ModelConfig config = Config();
  EXPECT_EQ(KvReadBytes(config, {}, 0), uint64_t{2} * 64 * (1 + 2 + 3));
  EXPECT_EQ(KvReadBytes(config, {}, 999), uint64_t{2} * 64 * (1 + 2 + 3) * 1000);
  config.layers[1].window = 100;
  EXPECT_EQ(KvReadBytes(config, {}, 98), uint64_t{2} * 64 * (1 + 2 + 3) * 99);
  EXPECT_EQ(KvReadBytes(config, {}, 999), uint64_t{2} * 64 * ((1 + 3) * 1000 + 2 * 100));
}

std::vector<std::pair<uint64_t, uint64_t>> PageRanges(const ModelConfig& config,
                                                      const KvPageTable& table,
                                                      const uint8_t* memory) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (uint32_t layer = 0; layer < config.layers.size(); ++layer) {
    const uint64_t bytes = KvPageBytes(LayerKvLayout(config, {}, layer));
    for (uint32_t page = 0; page < table.tokens() / kKvPageTokens; ++page) {
      const auto begin = static_cast<uint64_t>(table.layers()[layer][page] - memory);
      ranges.emplace_back(begin, begin + bytes);
    }
  }
  return ranges;
}

TEST(KvPages, BytesAreThoseOfTheFormula) {
  const ModelConfig config = Config();
  // float16 keys and values of 64 positions: 2 * 64 * kv_heads * (24 + 40).
  const uint64_t group = 2 * 64 * (1 + 2 + 3) * (24 + 40);
  EXPECT_EQ(KvBytes(config, {}, 64), group);
  EXPECT_EQ(KvBytes(config, {}, 65), 2 * group);
  EXPECT_EQ(KvBytes(config, {}, 1000), 16 * group);
}

// Codes of a byte, and scales of two for 32 of them.
TEST(KvPages, FormatsDecideTheBytes) {
  ModelConfig config = Config();
  config.key_columns = 64;
  config.value_columns = 96;
  const KvFormats codes = {KvFormat::kQ8_0, KvFormat::kQ8_0};
  EXPECT_EQ(KvReadBytes(config, codes, 0), uint64_t{68 + 102} * (1 + 2 + 3));
  EXPECT_EQ(KvBytes(config, codes, 64), uint64_t{64} * (68 + 102) * (1 + 2 + 3));
  EXPECT_EQ(KvReadBytes(config, {KvFormat::kF16, KvFormat::kQ8_0}, 0),
            uint64_t{128 + 102} * (1 + 2 + 3));
}

TEST(KvPages, HeadsWithoutWholeGroupsAreRefused) {
  ModelConfig config = Config();  // 24 and 40 columns
  EXPECT_EQ(CheckKvFormats(config, {}), absl::OkStatus());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckKvFormats(config, {KvFormat::kQ8_0, KvFormat::kF16})));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckKvFormats(config, {KvFormat::kF16, KvFormat::kQ8_0})));
  config.key_columns = 32;
  EXPECT_EQ(CheckKvFormats(config, {KvFormat::kQ8_0, KvFormat::kF16}), absl::OkStatus());
}

TEST(KvPages, PagesOfAllSequencesAreApartAndInsideTheMemory) {
  const ModelConfig config = Config();
  std::vector<uint8_t> memory(KvBytes(config, {}, 640));
  KvPages pages(config, {}, 640, memory.data());
  EXPECT_EQ(pages.context_tokens(), 640u);
  KvPageTable a = pages.NewTable();
  KvPageTable b = pages.NewTable();
  for (uint32_t tokens = 50; tokens <= 300; tokens += 50) {
    ASSERT_TRUE(pages.Grow(&a, tokens));
    ASSERT_TRUE(pages.Grow(&b, tokens));
  }
  EXPECT_EQ(a.tokens(), 320u);
  auto ranges = PageRanges(config, a, memory.data());
  const auto other = PageRanges(config, b, memory.data());
  ranges.insert(ranges.end(), other.begin(), other.end());
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 0; i < ranges.size(); ++i) {
    EXPECT_LE(ranges[i].second, memory.size());
    if (i > 0) {
      EXPECT_GE(ranges[i].first, ranges[i - 1].second);
    }
  }
  pages.Release(&a);
  pages.Release(&b);
}

TEST(KvPages, RunningOutIsAValueAndReleasedPagesComeBack) {
  const ModelConfig config = Config();
  std::vector<uint8_t> memory(KvBytes(config, {}, 256));
  KvPages pages(config, {}, 256, memory.data());
  KvPageTable a = pages.NewTable();
  KvPageTable b = pages.NewTable();
  ASSERT_TRUE(pages.Grow(&a, 192));
  EXPECT_FALSE(pages.Grow(&b, 65));
  EXPECT_EQ(b.tokens(), 64u) << "what was added stays";
  EXPECT_TRUE(pages.Grow(&b, 64));
  pages.Release(&a);
  EXPECT_EQ(a.tokens(), 0u);
  EXPECT_TRUE(pages.Grow(&b, 256));
  EXPECT_FALSE(pages.Grow(&b, 257));
  pages.Release(&b);
}

// A pass holds pointers into the table while it grows for the next one.
TEST(KvPages, GrowingMovesNothing) {
  const ModelConfig config = Config();
  std::vector<uint8_t> memory(KvBytes(config, {}, 640));
  KvPages pages(config, {}, 640, memory.data());
  Session session(pages);
  ASSERT_TRUE(session.Reserve(1));
  uint8_t* const* const* layers = session.page_tables();
  std::vector<uint8_t* const*> tables(layers, layers + 3);
  uint8_t* const first = layers[2][0];
  ASSERT_TRUE(session.Reserve(640));
  EXPECT_EQ(session.page_tables(), layers);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(layers[i], tables[i]);
  EXPECT_EQ(layers[2][0], first);
}

TEST(KvPages, ASessionGivesItsPagesBack) {
  const ModelConfig config = Config();
  std::vector<uint8_t> memory(KvBytes(config, {}, 128));
  KvPages pages(config, {}, 128, memory.data());
  for (int i = 0; i < 5; ++i) {
    Session session(pages);
    EXPECT_TRUE(session.Reserve(128));
    EXPECT_FALSE(session.Reserve(129));
  }
}

struct Range {
  const char* name;
  const void* begin;
  uint64_t bytes;
};

TEST(Workspace, PartsAreApartAlignedAndInsideTheMemory) {
  const ModelConfig config = Config();
  for (const uint32_t tokens : {1u, 7u, 512u}) {
    for (const uint32_t rows : {0u, 1u, 32u}) {
      const WorkspaceShape shape = {.chunk_tokens = tokens, .logit_rows = rows};
      const uint64_t bytes = WorkspaceBytes(config, shape);
      std::vector<uint8_t> memory(bytes + 64);
      auto* base =
          reinterpret_cast<uint8_t*>(AlignUp(reinterpret_cast<uint64_t>(memory.data()), 64));
      const Workspace w = LayOutWorkspace(config, shape, base);
      EXPECT_EQ(w.qkv_columns, 8u * 24 + 3 * (24 + 40));
      EXPECT_EQ(w.gate_up_columns, 2u * 220);
      const uint64_t t = tokens * sizeof(float);
      const uint64_t widest = 320;  // 8 heads of 40 values: more than 96 and 220
      const std::vector<Range> parts = {
          {"residual", w.residual, t * 96},
          {"normed", w.normed, t * 96},
          // At least one byte a value and one float for every 32 of them.
          {"quantized", w.quantized, tokens * (widest + widest / 32 * 4)},
          {"qkv", w.qkv, t * w.qkv_columns},
          {"attended", w.attended, t * 320},
          {"gate_up", w.gate_up, t * 440},
          {"projected", w.projected, t * 96},
          {"logits", w.logits, uint64_t{rows} * 333 * 4}};
      for (const Range& a : parts) {
        SCOPED_TRACE(a.name);
        const auto begin = static_cast<const uint8_t*>(a.begin);
        EXPECT_EQ(reinterpret_cast<uint64_t>(begin) % 64, 0u);
        EXPECT_GE(begin, base);
        EXPECT_LE(begin + a.bytes, base + bytes);
        for (const Range& b : parts) {
          if (&a == &b || a.bytes == 0 || b.bytes == 0) continue;
          const auto other = static_cast<const uint8_t*>(b.begin);
          EXPECT_TRUE(begin + a.bytes <= other || other + b.bytes <= begin) << b.name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace weir
