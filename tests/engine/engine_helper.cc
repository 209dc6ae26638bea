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

std::unique_ptr<Model> LoadTiny() {
  absl::StatusOr<std::unique_ptr<Model>> model = LoadModel("tests/data/tiny.gguf");
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
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
  return absl::StrCat("resident ", resident_share, ", reader ", engine.reader, ", threads ",
                      engine.threads, ", chunk ", chunk_tokens, ", activations ",
                      static_cast<int>(activations),
                      engine.faults.has_value() ? ", with faults" : "");
}

absl::StatusOr<std::unique_ptr<Engine>> OpenEngineWith(const Model& model,
                                                       const EngineSetup& setup) {
  PlannerOptions planner;
  planner.resident_share = setup.resident_share;
  planner.context_tokens = setup.context_tokens;
  planner.chunk_tokens = setup.chunk_tokens;
  planner.logit_rows = setup.logit_rows;
  planner.threads = setup.engine.threads;
  planner.activations = setup.activations;
  WEIR_ASSIGN_OR_RETURN(ModelPlan plan, PlanModel(model, planner));
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
