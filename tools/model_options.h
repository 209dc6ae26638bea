// Options and set-up that every command which runs a model shares: what to open, within which
// budget, how. Long work reports progress to stderr.
#ifndef WEIR_TOOLS_MODEL_OPTIONS_H_
#define WEIR_TOOLS_MODEL_OPTIONS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/planner.h"

namespace weir {

// As given; texts are parsed by OpenModel and MakePlannerOptions, which name the option in errors.
struct ModelOptions {
  std::string model;
  std::string dram;      // SIZE
  std::string resident;  // PERCENT
  std::string plan_file;
  std::string reader = "auto";
  std::string read_size;    // SIZE; empty: as probed, or a default
  uint32_t read_depth = 0;  // 0: likewise
  std::string faults;
  std::string read_timeout = "60s";  // TIME
  std::string activations = "q16";
  std::string isa;
  uint32_t threads = 0;  // 0: as many as this process may use
  uint32_t context_tokens = 0;
  uint32_t chunk_tokens = 0;
  std::string json_path;
  std::string trace_path;
  // The plan is for hardware that is not here (`weir simulate`): this machine's limits do not
  // apply, and this is its disk's rate, 0 where it is this machine's.
  bool is_elsewhere = false;
  double elsewhere_disk_bytes_per_s = 0;
};

// MODEL, --dram, --resident, --plan, -c, -b: what decides a plan.
void AddPlanOptions(CLI::App& command, ModelOptions* options);
// The above, and --reader, --read-timeout, --faults: what decides a run.
void AddRunOptions(CLI::App& command, ModelOptions* options);

absl::StatusOr<std::unique_ptr<Model>> OpenModel(const ModelOptions& options);

// What a run needs of the context beyond -c.
struct ContextNeeds {
  uint32_t min_context_tokens = 0;
  uint32_t prompt_tokens = 0;  // 0: not known; a chunk need not be larger
  uint32_t logit_rows = 1;
};

// Refuses a budget that this machine cannot honour, unless the plan is for another. Nothing is
// measured: the plan has no prediction.
absl::StatusOr<ModelPlan> PlanFromOptions(const Model& model, const ModelOptions& options,
                                          const ContextNeeds& needs);

struct MeasuredCeilings {
  Ceilings ceilings;
  std::string disk_note;  // where the disk's ceiling comes from
};

// Measures the ceilings (a fraction of a second), for commands that show a prediction, and makes
// the plan's from them. `position`: how many tokens the context holds in the middle of the run.
absl::StatusOr<MeasuredCeilings> MeasureCeilings(const Model& model, const ModelOptions& options,
                                                 uint32_t position, ModelPlan* plan);

// The same for a run: compute before its engine opens, since that takes memory of the budget for a
// moment; then the disk, through the engine's own ring.
absl::StatusOr<Ceilings> MeasureCompute(const Model& model, const ModelOptions& options,
                                        uint32_t position, const ModelPlan& plan);
absl::Status MeasureDiskOf(Engine& engine, const Model& model, const ModelOptions& options,
                           Ceilings* ceilings);

// Prints what differs from what was asked (buffered reads, threads instead of io_uring) to stderr.
absl::StatusOr<std::unique_ptr<Engine>> OpenEngine(const Model& model, ModelPlan plan,
                                                   const ModelOptions& options);

uint32_t ThreadsFrom(const ModelOptions& options);

}  // namespace weir

#endif  // WEIR_TOOLS_MODEL_OPTIONS_H_
