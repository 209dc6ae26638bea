#include "tests/engine/engine_helper.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/sampler.h"
#include "gtest/gtest.h"
#include "io/base.h"

namespace weir {
namespace {

// Of the accelerator's plans: the tiny model's matrices are cut into several.
constexpr uint64_t kTestBlockBytes = 16 << 10;

}  // namespace

std::unique_ptr<Model> LoadTiny() {
  absl::StatusOr<std::unique_ptr<Model>> model = LoadModel("tests/data/tiny.gguf");
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
}

SyntheticSpec SmallSpecOf(const Architecture& architecture) {
  SyntheticSpec spec;
  spec.architecture = std::string(architecture.name);
  spec.format = "mixed";
  if (architecture.window_rule != WindowRule::kNever) spec.window = 16;
  spec.layers = 6;
  return spec;
}

SyntheticFile::SyntheticFile(const SyntheticSpec& spec) {
  std::string path = absl::StrCat(testing::TempDir(), "/weir_synthetic_XXXXXX");
  const int descriptor = mkstemp(path.data());
  EXPECT_GE(descriptor, 0);
  close(descriptor);
  path_ = path;
  GgufWriteOptions options;
  options.overwrite = true;
  options.sync = false;
  const absl::StatusOr<uint64_t> size = WriteSynthetic(path_, spec, options);
  EXPECT_TRUE(size.ok()) << size.status();
}

SyntheticFile::~SyntheticFile() { std::remove(path_.c_str()); }

std::string EngineSetup::Text() const {
  const std::string budget = engine.accelerator.is_used()
                                 ? absl::StrCat("hbm ", hbm_share, ", dram ", dram_share,
                                                ", in place ", static_cast<int>(in_place))
                                 : absl::StrCat("resident ", resident_share);
  return absl::StrCat(budget, ", reader ", engine.reader, ", threads ", engine.threads, ", chunk ",
                      chunk_tokens, ", activations ", static_cast<int>(activations), ", keys ",
                      std::string(KvFormatName(kv.keys)), ", values ",
                      std::string(KvFormatName(kv.values)), reads_ahead ? "" : ", in turn",
                      engine.faults.has_value() ? ", with faults" : "");
}

AcceleratorOptions FastLink() {
  return {.kind = AcceleratorKind::kEmulated, .h2d_bytes_per_s = 100e9, .latency_ns = 1000};
}

namespace {

// The least that such a run takes, from the refusal of one that is given nothing.
struct Floors {
  uint64_t dram_bytes = 0;
  uint64_t hbm_bytes = 0;
};
Floors FloorsOf(const Model& model, PlannerOptions planner) {
  planner.dram_bytes = uint64_t{1} << 40;
  planner.hbm_bytes = 256 * kMiB;  // a GPU's scratch grows with it
  planner.block_bytes = kTestBlockBytes;
  const absl::StatusOr<ModelPlan> plan = PlanModel(model, planner);
  EXPECT_TRUE(plan.ok()) << plan.status();
  const Program& program = plan->transformer->program();
  return {AcceleratorDramFloorBytes(program, *plan->options),
          HbmFloorBytes(program, *plan->options)};
}

}  // namespace

absl::StatusOr<ModelPlan> PlanWith(const Model& model, const EngineSetup& setup) {
  PlannerOptions planner;
  planner.context_tokens = setup.context_tokens;
  planner.chunk_tokens = setup.chunk_tokens;
  planner.logit_rows = setup.logit_rows;
  planner.threads = setup.engine.threads;
  planner.activations = setup.activations;
  planner.kv = setup.kv;
  planner.reads_ahead = setup.reads_ahead;
  planner.accelerator = setup.engine.accelerator;
  planner.in_place = setup.in_place;
  if (!planner.accelerator.is_used()) {
    planner.resident_share = setup.resident_share;
    return PlanModel(model, planner);
  }
  const auto weights = static_cast<double>(model.index.tensor_bytes());
  const Floors floors = FloorsOf(model, planner);
  planner.block_bytes = kTestBlockBytes;
  planner.dram_bytes = floors.dram_bytes + static_cast<uint64_t>(setup.dram_share * weights);
  planner.hbm_bytes = floors.hbm_bytes + static_cast<uint64_t>(setup.hbm_share * weights);
  return PlanModel(model, planner);
}

absl::StatusOr<std::unique_ptr<Engine>> OpenEngineWith(const Model& model,
                                                       const EngineSetup& setup) {
  WEIR_ASSIGN_OR_RETURN(ModelPlan plan, PlanWith(model, setup));
  return Engine::Open(model, std::move(plan), setup.engine);
}

absl::StatusOr<std::vector<TokenId>> Greedy(Engine& engine, const std::vector<TokenId>& prompt,
                                            size_t count) {
  const std::unique_ptr<Session> session = engine.NewSession();
  std::vector<TokenId> made;
  WEIR_RETURN_IF_ERROR(engine.Forward(*session, prompt, 1, true));
  while (made.size() < count) {
    const TokenId next = ArgMax(engine.logits(0));
    made.push_back(next);
    if (made.size() == count) break;
    WEIR_RETURN_IF_ERROR(engine.Forward(*session, {next}, 1, made.size() + 1 < count));
  }
  return made;
}

}  // namespace weir
