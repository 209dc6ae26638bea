// Planner: from a model and a budget to a Program and a Plan. Chooses what the user left open:
// context, tokens per pass, block size.
#ifndef WEIR_ENGINE_PLANNER_H_
#define WEIR_ENGINE_PLANNER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "engine/transformer.h"
#include "tiering/plan.h"

namespace weir {

struct PlannerOptions {
  // One of the two, or a saved plan.
  std::optional<uint64_t> dram_bytes;
  std::optional<double> resident_share;  // 0..1 of the weight bytes; the budget is what that takes
  std::string saved_plan_json;           // non-empty: taken as it is, when it fits the model
  std::string saved_plan_source;         // its file name, for messages

  uint32_t context_tokens =
      0;  // 0: the trained context, at most kDefaultContextTokens, less where the budget is small
  uint32_t min_context_tokens = 0;  // what the prompt and -n need; a smaller plan is refused
  uint32_t chunk_tokens = 0;        // 0: chosen by budget
  uint32_t max_chunk_tokens = 512;  // when chosen
  uint32_t logit_rows = 1;
  uint32_t threads = 1;  // their scratch memory counts
  ActivationFormat activations = ActivationFormat::kQ16;
  double disk_bytes_per_s = 0;  // decides the ring's size; 0: not known
};

inline constexpr uint32_t kDefaultContextTokens = 4096;

// The ring that streamed blocks pass through: what the disk delivers while the thread that reads is
// kept from running for some milliseconds, and no more: a larger one falls out of caches
// (docs/performance.md).
uint64_t RingBytes(double disk_bytes_per_s);

struct ModelPlan {
  std::unique_ptr<Transformer> transformer;  // refers to the model
  Plan plan;
};

absl::StatusOr<ModelPlan> PlanModel(const Model& model, const PlannerOptions& options);

// Bytes that one gathered embedding row takes in staging, at the worst alignment.
uint64_t RowStagingBytes(const Model& model);

}  // namespace weir

#endif  // WEIR_ENGINE_PLANNER_H_
