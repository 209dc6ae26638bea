// Which steps form groups, and that the order within them changes nothing.
#include "engine/transformer.h"

#include <memory>
#include <string>
#include <vector>

#include "engine/compute_probe.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_helper.h"
#include "tiering/trace.h"

namespace weir {
namespace {

// Every matrix of the tiny model is cut into several blocks.
constexpr uint64_t kSmallBlocks = 8 << 10;

Transformer SmallBlocks(const Model& model) {
  TransformerOptions options;
  options.cut.block_bytes = kSmallBlocks;
  for (const auto& file : model.files) {
    options.cut.file_alignment_bytes.push_back(file->alignment_bytes());
  }
  return {model, options};
}

// "blk.3.attn_q.weight" of "blk.3.attn_q.weight[0:16]".
std::string FirstMatrix(const std::string& label) { return label.substr(0, label.find('[')); }

TEST(TransformerGroups, PiecesOfOneMatrixJoinAndNothingJoinsAcrossLayersOrIntoTheHead) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const Transformer transformer = SmallBlocks(*model);
  const Program& program = transformer.program();
  size_t joined = 0;
  for (StepId step = 1; step < program.steps.size(); ++step) {
    if (!program.steps[step].joins_previous) continue;
    ++joined;
    const std::string& label = program.steps[step].label;
    const std::string& before = program.steps[step - 1].label;
    EXPECT_EQ(label.substr(0, label.find('.', 4)), before.substr(0, before.find('.', 4)));
  }
  EXPECT_GT(joined, program.steps.size() / 4);
  EXPECT_FALSE(program.steps.front().joins_previous);
  EXPECT_FALSE(program.steps[program.head_step].joins_previous);
}

TEST(TransformerGroups, WhatReadsAnotherInputDoesNotJoin) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const Transformer transformer = SmallBlocks(*model);
  const Program& program = transformer.program();
  uint32_t new_inputs = 0;
  for (StepId step = 1; step < program.steps.size(); ++step) {
    const std::string matrix = FirstMatrix(program.steps[step].label);
    const std::string before = FirstMatrix(program.steps[step - 1].label);
    const bool new_input = matrix != before && (matrix.find("attn_output") != std::string::npos ||
                                                matrix.find("ffn_down") != std::string::npos ||
                                                matrix.find("attn_q") != std::string::npos);
    EXPECT_FALSE(new_input && program.steps[step].joins_previous) << program.steps[step].label;
    if (new_input) ++new_inputs;
  }
  EXPECT_GE(new_inputs, 3 * model->config.layers.size());
}

// Reads overtake each other, so steps do, too; the logits must not show it.
TEST(TransformerGroups, StepsThatOvertakeLeaveTheLogitsAsTheyAre) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  std::vector<std::vector<float>> logits;
  bool overtook = false;
  for (const double reorder : {0.0, 0.7}) {
    auto transformer = std::make_unique<Transformer>(SmallBlocks(*model));
    PlanOptions plan_options;
    plan_options.shape = {.block_bytes = kSmallBlocks, .context_tokens = 64, .chunk_tokens = 4};
    plan_options.preferred_ring_bytes = 16 * kSmallBlocks;
    ModelPlan plan;
    EngineSetup setup;  // for the overhead of such a run
    setup.context_tokens = 64;
    setup.chunk_tokens = 4;
    const auto sized = OpenEngineWith(*model, setup);
    ASSERT_TRUE(sized.ok()) << sized.status();
    plan_options.overhead = (*sized)->plan().overhead;
    plan.plan = *MakePlanForResidentShare(transformer->program(), 0, plan_options);
    plan.transformer = std::move(transformer);
    EngineOptions options;
    options.faults = FaultOptions{.seed = 3, .reorder_share = reorder};
    options.trace_records = 1 << 16;
    const auto engine = Engine::Open(*model, std::move(plan), options);
    ASSERT_TRUE(engine.ok()) << engine.status();
    const std::unique_ptr<Session> session = (*engine)->NewSession();
    ASSERT_TRUE((*engine)->Forward(*session, {1, 2, 3, 4, 5, 6}, 1, false).ok());
    const absl::Span<const float> row = (*engine)->logits(0);
    logits.emplace_back(row.begin(), row.end());
    StepId last = 0;
    for (const Trace::Record& record : (*engine)->trace()->records()) {
      if (record.lane != Trace::Lane::kCompute) continue;
      overtook = overtook || (record.id < last && record.id != 0);
      last = record.id;
    }
  }
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_TRUE(overtook);
}

TEST(ComputeProbe, EveryStepHasATimeAndLikeStepsTheSame) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  const Transformer transformer = SmallBlocks(*model);
  ComputeProbeOptions options;
  options.threads = 2;
  options.position = 70;
  const auto step_ns = ProbeSteps(*model, transformer, options);
  ASSERT_TRUE(step_ns.ok()) << step_ns.status();
  ASSERT_EQ(step_ns->size(), transformer.program().steps.size());
  for (StepId a = 0; a < step_ns->size(); ++a) {
    EXPECT_GT((*step_ns)[a], 0) << transformer.program().steps[a].label;
    for (StepId b = 0; b < a; ++b) {
      if (transformer.StepShape(a) != transformer.StepShape(b)) continue;
      EXPECT_EQ((*step_ns)[a], (*step_ns)[b]);
    }
  }
}

TEST(ComputeProbe, AnIsaThatIsNoneIsRefused) {
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  ComputeProbeOptions options;
  options.isa = "Z80";
  EXPECT_FALSE(ProbeSteps(*model, SmallBlocks(*model), options).ok());
}

}  // namespace
}  // namespace weir
