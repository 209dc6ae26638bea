// From the first token to the last nothing is allocated: not by the engine, its threads and reader,
// nor by the sampler, the tokenizer and the text's way to a file.
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/model.h"
#include "engine/planner.h"
#include "engine/sampler.h"
#include "io/allocation_counter.h"
#include "tools/generate.h"
#include "tools/text_stream.h"

namespace weir {
namespace {

struct GenerateCase {
  const char* reader;
  double resident_share;
};

class GenerateAllocations : public testing::TestWithParam<GenerateCase> {};

TEST_P(GenerateAllocations, NoneBetweenTheTokens) {
  if (!AllocationCount()) GTEST_SKIP() << "not with the sanitizer's operator new";
  auto model = LoadModel("tests/data/tiny.gguf");
  ASSERT_TRUE(model.ok()) << model.status();
  PlannerOptions planner;
  planner.resident_share = GetParam().resident_share;
  planner.context_tokens = 256;
  planner.threads = 2;
  auto plan = PlanModel(**model, planner);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EngineOptions options;
  options.reader = GetParam().reader;
  options.threads = 2;
  options.trace_records = 100000;
  auto engine = Engine::Open(**model, *std::move(plan), options);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const std::unique_ptr<Session> session = (*engine)->NewSession();
  Sampler sampler({.temperature = 1.2f, .repeat_penalty = 1.1f}, (*model)->config.vocabulary);
  std::FILE* const file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  TextStream text(file);
  std::string bytes;
  bytes.reserve(4096);
  const std::vector<TokenId> prompt(20, 7);
  const auto made = Generate(**engine, *session, sampler, *(*model)->tokenizer, prompt,
                             {.max_tokens = 150, .ignore_end = true}, [&](TokenId token) {
                               bytes.clear();
                               (*model)->tokenizer->AppendTokenBytes(token, true, &bytes);
                               return text.Write(bytes);
                             });
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->tokens.size(), 150u);
  EXPECT_GT(std::ftell(file), 0);
  std::fclose(file);
  EXPECT_EQ(made->decode_allocations, 0u);
}

TEST(AllocationCounter, Counts) {
  if (!AllocationCount()) GTEST_SKIP() << "not with the sanitizer's operator new";
  const uint64_t before = *AllocationCount();
  const auto numbers = std::make_unique<std::vector<int>>(100);
  EXPECT_EQ(numbers->size(), 100u);
  EXPECT_EQ(*AllocationCount() - before, 2u);
}

INSTANTIATE_TEST_SUITE_P(All, GenerateAllocations,
                         testing::Values(GenerateCase{"auto", 0.0}, GenerateCase{"threads", 0.0},
                                         GenerateCase{"auto", 0.5}, GenerateCase{"threads", 0.5},
                                         GenerateCase{"auto", 1.0}));

}  // namespace
}  // namespace weir
