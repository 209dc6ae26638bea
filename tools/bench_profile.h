// BenchProfile: collects what `weir bench --profile` shows, repetition by repetition, and measures
// the ceilings beside it.
#ifndef WEIR_TOOLS_BENCH_PROFILE_H_
#define WEIR_TOOLS_BENCH_PROFILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/op_profile.h"
#include "tools/generate.h"
#include "tools/planned_run.h"
#include "tools/profile_report.h"

namespace weir {

// Refuses devices whose ops are not timed.
absl::Status CheckProfiled(const PlannedRun& run);

// One thread.
class BenchProfile {
 public:
  BenchProfile(uint32_t threads, std::string isa);

  // Measures what a ceiling needs (a fifth of a second), with memory beside the run's budget:
  // before the engine opens and after it is gone.
  absl::Status MeasureBefore();
  absl::Status MeasureAfter();

  // For EngineOptions::profile.
  OpProfile* ops() { return &ops_; }

  // A repetition: before Generate, at each of its tokens, and behind it. Nothing is allocated.
  void Begin(Engine& engine);
  void OnToken(Engine& engine);
  void End(Engine& engine);
  // Adds the repetition that ended to what is shown.
  void Count(const Generation& generation);

  // What there is of it: a table of the prompts, one of the tokens after the first.
  std::string Text(ActivationFormat activations, bool with_prompt) const;
  nlohmann::json Json(ActivationFormat activations, bool with_prompt) const;

 private:
  absl::StatusOr<double> MeasureDram();

  OpProfile ops_;
  ProfileCeilings ceilings_;
  PhaseProfile prompts_;
  PhaseProfile tokens_;
  OpCounts begin_;
  OpCounts first_token_;
  OpCounts latest_;
  bool has_token_ = false;
};

}  // namespace weir

#endif  // WEIR_TOOLS_BENCH_PROFILE_H_
