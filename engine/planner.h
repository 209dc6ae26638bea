// Planner: from a model and a budget to a Program and a Plan. Chooses what the user left open:
// context, tokens per pass, block size.
#ifndef WEIR_ENGINE_PLANNER_H_
#define WEIR_ENGINE_PLANNER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/accelerator.h"
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
  // When chosen: no more than this, and no more than suits the device.
  uint32_t max_chunk_tokens = 4096;
  uint32_t logit_rows = 1;
  uint32_t threads = 1;  // their scratch memory counts
  ActivationFormat activations = ActivationFormat::kQ16;
  KvFormats kv;                 // kept as float16 by a CUDA device
  bool reads_ahead = true;      // RunShape's; false: every matrix is a block, too
  double disk_bytes_per_s = 0;  // decides the ring's size; 0: not known
  uint64_t block_bytes = 0;     // 0: chosen

  // Given with `dram_bytes` or a saved plan that has an accelerator's part.
  AcceleratorOptions accelerator;
  uint64_t hbm_bytes = 0;       // with an accelerator, but for a saved plan
  double link_bytes_per_s = 0;  // decides the device ring's size; 0: not known
  InPlace in_place = InPlace::kAuto;
};

// Most tokens of a pass whose products the CPU may compute in place: reading the weights is what
// that takes, and few more tokens cost it little.
inline constexpr uint32_t kInPlaceTokens = 4;

inline constexpr uint32_t kDefaultContextTokens = 4096;

// The ring that streamed blocks pass through: what the disk delivers while the thread that reads is
// kept from running for some milliseconds, and no more: a larger one falls out of caches
// (docs/performance.md).
uint64_t RingBytes(double disk_bytes_per_s);

// The same on the accelerator; enough for a fast link where the rate is not known (0).
uint64_t DeviceRingBytes(double link_bytes_per_s);

struct ModelPlan {
  std::unique_ptr<Transformer> transformer;  // refers to the model
  Plan plan;
  // What the plan was made with, so that ceilings may decide more of it; a saved plan has none.
  std::optional<PlanOptions> options;
};

absl::StatusOr<ModelPlan> PlanModel(const Model& model, const PlannerOptions& options);

// With an accelerator and InPlace::kAuto: decides with these ceilings what the CPU multiplies in
// place. The program stays as it is.
void ChooseInPlace(const Ceilings& ceilings, ModelPlan* plan);

}  // namespace weir

#endif  // WEIR_ENGINE_PLANNER_H_
