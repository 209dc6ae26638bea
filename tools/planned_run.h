// A run before its engine opens: the device, the plan, and the ceilings that a prediction is made
// from.
#ifndef WEIR_TOOLS_PLANNED_RUN_H_
#define WEIR_TOOLS_PLANNED_RUN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/planner.h"
#include "tools/device_options.h"
#include "tools/disk_ceiling.h"
#include "tools/model_options.h"

namespace weir {

// What a run needs of the context beyond -c.
struct ContextNeeds {
  uint32_t min_context_tokens = 0;
  uint32_t prompt_tokens = 0;  // 0: not known; a chunk need not be larger
  uint32_t logit_rows = 1;
  uint32_t position = 128;  // tokens that the context holds in the middle of the run
};

struct PlannedRun {
  ContextNeeds needs;
  ChosenDevice device;
  ModelPlan made;
  // Of each row the host takes so many of the largest logits (Sampler::candidates); 0: all.
  uint32_t top_logits = 0;
  // For EngineOptions::profile: null, or of who asked for it.
  OpProfile* profile = nullptr;
  // Empty where nothing was measured. Of the CPU, or of the accelerator, the CPU beside it and
  // their link.
  Ceilings ceilings;

  bool has_accelerator() const { return made.plan.accelerator.has_value(); }
};

// Refuses a budget that this machine cannot honour, unless the plan is for another. Measures
// compute and link (a fraction of a second) only where the plan depends on them: whether the CPU's
// share of the work pays. The plan has no prediction.
absl::StatusOr<PlannedRun> PlanFromOptions(const Model& model, const ModelOptions& options,
                                           const ContextNeeds& needs);

// Rehearses compute, unless the plan needed it already. For a run: before its engine opens, since
// that takes memory of the budget for a moment.
absl::Status MeasureCompute(const Model& model, const ModelOptions& options, PlannedRun* run);

// Measures what is missing of the ceilings, for commands that show a prediction, and makes the
// plan's from them. Returns where the disk's ceiling comes from.
absl::StatusOr<std::string> MeasureCeilings(const Model& model, const ModelOptions& options,
                                            PlannedRun* run);

// The disk, as an engine reads it and through its own memory, between passes.
absl::StatusOr<DiskFigures> MeasureDiskOf(Engine& engine, const Model& model,
                                          const ModelOptions& options);

// For a run whose engine is open: the disk, and the link to the accelerator, through the engine's
// own memory.
absl::Status MeasureLinksOf(Engine& engine, const Model& model, const ModelOptions& options,
                            Ceilings* ceilings);

}  // namespace weir

#endif  // WEIR_TOOLS_PLANNED_RUN_H_
