#include "engine/mapped_probe.h"

#include <gtest/gtest.h>

#include <memory>

#include "engine/planner.h"
#include "io/file_mapping.h"
#include "tests/engine/engine_helper.h"

namespace weir {
namespace {

TEST(MappedProbe, TouchesEveryBlockOfThePass) {
  const std::unique_ptr<Model> model = LoadTiny();
  PlannerOptions planner;
  planner.resident_share = 0;
  const ModelPlan made = PlanModel(*model, planner).value();
  const Program& program = made.transformer->program();
  for (const uint32_t threads : {1u, 3u}) {
    const MappedProbeResult result = ProbeMapped(*model, program, threads).value();
    EXPECT_GE(result.bytes, program.payload_bytes());
    EXPECT_LE(result.bytes, 2 * model->files[0]->size_bytes()) << "padding at most";
    EXPECT_GT(result.seconds, 0);
    EXPECT_GE(result.cached_share, 0);
    EXPECT_LE(result.cached_share, 1);
    for (const Block& block : program.blocks) {
      if (block.kind != BlockKind::kWeights) continue;
      for (const Segment& segment : block.segments) {
        const auto touched = FileMapping::Open(*model->files[segment.file], segment.offset_bytes,
                                               segment.required_bytes)
                                 .value();
        EXPECT_EQ(touched->CachedShare().value(), 1) << block.label;
      }
    }
  }
  EXPECT_EQ(ProbeMapped(*model, program, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace weir
