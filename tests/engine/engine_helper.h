// Opens small models and runs them greedily, for tests of the engine.
#ifndef WEIR_TESTS_ENGINE_ENGINE_HELPER_H_
#define WEIR_TESTS_ENGINE_ENGINE_HELPER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/planner.h"
#include "models/architecture.h"
#include "models/synthetic.h"

namespace weir {

// tests/data/tiny.gguf; a test fails where it cannot be opened.
std::unique_ptr<Model> LoadTiny();

// Six layers in mixed formats, with a short window where the architecture has windows.
SyntheticSpec SmallSpecOf(const Architecture& architecture);

// A synthetic model in a temporary folder, gone with this object.
class SyntheticFile {
 public:
  explicit SyntheticFile(const SyntheticSpec& spec);
  ~SyntheticFile();
  SyntheticFile(const SyntheticFile&) = delete;
  SyntheticFile& operator=(const SyntheticFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct EngineSetup {
  double resident_share = 0.5;
  uint32_t context_tokens = 256;
  uint32_t chunk_tokens = 16;
  uint32_t logit_rows = 1;
  ActivationFormat activations = ActivationFormat::kF32;
  KvFormats kv;
  bool reads_ahead = true;
  // With engine.accelerator: shares of the weights that either memory has room for beside the
  // least that a run takes; `resident_share` is not used then.
  double hbm_share = 0.5;
  double dram_share = 0.5;
  InPlace in_place = InPlace::kOff;
  EngineOptions engine;

  std::string Text() const;  // for messages
};

// An emulated accelerator behind a fast link.
AcceleratorOptions FastLink();

absl::StatusOr<ModelPlan> PlanWith(const Model& model, const EngineSetup& setup);
absl::StatusOr<std::unique_ptr<Engine>> OpenEngineWith(const Model& model,
                                                       const EngineSetup& setup);

// The prompt and then `count` greedy tokens in a new session.
absl::StatusOr<std::vector<TokenId>> Greedy(Engine& engine, const std::vector<TokenId>& prompt,
                                            size_t count);

}  // namespace weir

#endif  // WEIR_TESTS_ENGINE_ENGINE_HELPER_H_
