// What a profile says of passes whose work is known.
#include "engine/op_profile.h"

#include <memory>
#include <random>
#include <set>
#include <vector>

#include "engine/kv_pages.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_helper.h"

namespace weir {
namespace {

TEST(OpLabelTest, NumbersAreTheirOwnAndComeBack) {
  std::set<uint32_t> numbers;
  for (uint32_t op = 0; op < kProfiledOps; ++op) {
    const OpLabel plain{static_cast<ProfiledOp>(op)};
    EXPECT_LT(plain.number(), kOpLabels);
    EXPECT_TRUE(numbers.insert(plain.number()).second);
    EXPECT_EQ(OpLabel::FromNumber(plain.number()).op, plain.op);
    EXPECT_FALSE(OpLabel::FromNumber(plain.number()).weight.has_value());
    for (const DTypeInfo& info : AllDTypes()) {
      const OpLabel label{plain.op, info.dtype};
      EXPECT_TRUE(numbers.insert(label.number()).second);
      EXPECT_EQ(OpLabel::FromNumber(label.number()).op, plain.op);
      EXPECT_EQ(OpLabel::FromNumber(label.number()).weight, info.dtype);
    }
  }
  EXPECT_EQ(OpLabel().number(), 0u);
}

TEST(OpWorkTest, OfProductsIsTheirWeight) {
  const OpWork work = ProductWork({.dtype = DType::kQ4_K, .tokens = 3, .rows = 10, .columns = 512});
  EXPECT_EQ(work.bytes, 10 * 2 * 144u);
  EXPECT_EQ(work.operations, 2 * 3 * 10 * 512u);
  EXPECT_EQ(ProductWork({.dtype = DType::kF32, .tokens = 0, .rows = 4, .columns = 4}).bytes, 0u);
}

// Against the definition of attention in kernels/ops.h, pair by pair.
TEST(OpWorkTest, OfAttentionIsWhatTheWindowShows) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    AttentionArgs args = {};
    args.tokens = 1 + random() % 9;
    args.positions_end = args.tokens + random() % 40;
    args.window = random() % 3 == 0 ? 0 : 1 + random() % 30;
    args.heads = 6;
    args.layout = {.page_tokens = 16, .kv_heads = 2, .key_columns = 24, .value_columns = 16};
    std::set<uint32_t> seen;
    uint64_t pairs = 0;
    for (uint32_t t = 0; t < args.tokens; ++t) {
      const uint32_t position = args.positions_end - args.tokens + t;
      for (uint32_t p = 0; p <= position; ++p) {
        if (args.window != 0 && p + args.window <= position) continue;
        seen.insert(p);
        ++pairs;
      }
    }
    const OpWork work = AttentionWork(args);
    EXPECT_EQ(work.bytes, seen.size() * 2 * (24 + 16) * 2) << round;
    EXPECT_EQ(work.operations, 2 * pairs * 6 * (24 + 16)) << round;
  }
}

struct Sums {
  uint64_t calls = 0;
  int64_t ns = 0;
  OpWork work;
};

Sums SumOf(const OpCounts& before, const OpCounts& after, ProfiledOp op) {
  Sums sums;
  for (uint32_t i = 0; i < kOpLabels; ++i) {
    if (OpLabel::FromNumber(i).op != op) continue;
    const OpCount& a = before.counts[i];
    const OpCount& b = after.counts[i];
    sums.calls += b.calls - a.calls;
    sums.ns += b.run_ns - a.run_ns + b.wait_ns - a.wait_ns;
    sums.work.bytes += b.work.bytes - a.work.bytes;
    sums.work.operations += b.work.operations - a.work.operations;
  }
  return sums;
}

TEST(EngineProfile, OfOnePassHasAllWeightsAndAllOfTheTime) {
  for (const double resident_share : {0.5, 1.0}) {
    const std::unique_ptr<Model> model = LoadTiny();
    ASSERT_NE(model, nullptr);
    OpProfile profile;
    EngineSetup setup;
    setup.resident_share = resident_share;
    setup.activations = ActivationFormat::kQ16;
    setup.engine.threads = 2;
    setup.engine.profile = &profile;
    const auto engine = OpenEngineWith(*model, setup);
    ASSERT_TRUE(engine.ok()) << engine.status();
    const std::unique_ptr<Session> session = (*engine)->NewSession();
    const std::vector<TokenId> prompt(40, 5);
    ASSERT_TRUE((*engine)->Forward(*session, prompt, 1, true).ok());
    OpCounts before, after;
    (*engine)->ReadProfile(&before);
    ASSERT_TRUE((*engine)->Forward(*session, {7}, 1, false).ok());
    (*engine)->ReadProfile(&after);

    const auto of = [&](ProfiledOp op) { return SumOf(before, after, op); };
    uint64_t weight_bytes = 0;
    int64_t ns = after.idle_ns - before.idle_ns;
    for (uint32_t op = 0; op < kProfiledOps; ++op) {
      const Sums sums = of(static_cast<ProfiledOp>(op));
      const bool is_product =
          sums.work.operations > 0 && static_cast<ProfiledOp>(op) != ProfiledOp::kAttention;
      if (is_product) weight_bytes += sums.work.bytes;
      ns += sums.ns;
    }
    EXPECT_EQ(weight_bytes, (*engine)->program().payload_bytes());
    EXPECT_EQ(ns, after.at_ns - before.at_ns);
    EXPECT_EQ(of(ProfiledOp::kAttention).work.bytes, KvReadBytes(model->config, {}, prompt.size()));
    const size_t layers = model->config.layers.size();
    EXPECT_EQ(of(ProfiledOp::kAttention).calls, layers);
    EXPECT_EQ(of(ProfiledOp::kActivation).calls, layers);
    EXPECT_EQ(of(ProfiledOp::kNorm).calls, 2 * layers + 1);
    EXPECT_EQ(of(ProfiledOp::kEmbed).calls, 1u);
    EXPECT_GT(of(ProfiledOp::kNone).calls, 0u);  // somebody is told that steps have ended
  }
}

// The same tokens with and without.
TEST(EngineProfile, ChangesNoToken) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  OpProfile profile;
  EngineSetup setup;
  const auto plain = OpenEngineWith(*model, setup);
  setup.engine.profile = &profile;
  const auto profiled = OpenEngineWith(*model, setup);
  ASSERT_TRUE(plain.ok() && profiled.ok());
  const auto expected = Greedy(**plain, {1, 2, 3, 4}, 12);
  const auto tokens = Greedy(**profiled, {1, 2, 3, 4}, 12);
  ASSERT_TRUE(expected.ok() && tokens.ok());
  EXPECT_EQ(*tokens, *expected);
}

}  // namespace
}  // namespace weir
