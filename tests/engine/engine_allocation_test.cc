// Nothing is allocated between the first and the last token.
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "engine/sampler.h"
#include "gtest/gtest.h"
#include "io/allocation_counter.h"
#include "tests/engine/engine_helper.h"

namespace weir {
namespace {

struct AllocationCase {
  double resident_share;
  const char* reader;
  bool faults;
};

class EngineAllocations : public testing::TestWithParam<AllocationCase> {};

TEST_P(EngineAllocations, NoneFromTheFirstTokenToTheLast) {
  if (!AllocationCount()) GTEST_SKIP() << "not with the sanitizer's operator new";
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  setup.resident_share = GetParam().resident_share;
  setup.activations = ActivationFormat::kQ8;
  setup.engine.reader = GetParam().reader;
  setup.engine.threads = 2;
  setup.engine.trace_records = 100000;
  if (GetParam().faults) setup.engine.faults = FaultOptions{.short_share = 0.1, .again_share = 0.1};
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const std::unique_ptr<Session> session = (*engine)->NewSession();
  Sampler sampler({.temperature = 0.7f, .repeat_penalty = 1.1f}, model->config.vocabulary);
  const std::vector<TokenId> prompt(40, 7);
  std::vector<TokenId> history = prompt;
  history.reserve(200);

  const uint64_t before = *AllocationCount();
  absl::Status status = (*engine)->Forward(*session, prompt, 1, true);
  for (int i = 0; i < 100 && status.ok(); ++i) {
    const TokenId next = sampler.Sample((*engine)->logits(0), history);
    history.push_back(next);
    status = (*engine)->Forward(*session, absl::MakeConstSpan(&next, 1), 1, true);
  }
  const uint64_t after = *AllocationCount();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(session->position(), 140u);
  EXPECT_EQ(after - before, 0u);
}

INSTANTIATE_TEST_SUITE_P(
    All, EngineAllocations,
    testing::Values(AllocationCase{0.0, "auto", false}, AllocationCase{0.0, "threads", false},
                    AllocationCase{0.5, "auto", false}, AllocationCase{0.5, "threads", false},
                    AllocationCase{1.0, "auto", false}, AllocationCase{0.5, "auto", true}));

}  // namespace
}  // namespace weir
