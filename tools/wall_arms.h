// The arms of `weir wall`: one model, generating the same tokens, with its parameters in one place
// after the other.
#ifndef WEIR_TOOLS_WALL_ARMS_H_
#define WEIR_TOOLS_WALL_ARMS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "nlohmann/json.hpp"
#include "tools/model_options.h"
#include "tools/planned_run.h"
#include "tools/wall_report.h"

namespace weir {

struct WallArmSpec {
  std::string name;
  ModelOptions options;
};

// Of a prompt and `tokens` after the first that is generated.
ContextNeeds NeedsOf(absl::Span<const TokenId> prompt, uint32_t tokens);

// Where the parameters are, from the fastest place to the slowest: the first arm has them resident,
// the last reads them literally. On the CPU shares of them are in DRAM; with an accelerator (that
// `base` asks for) they are in its memory, in DRAM, copied or multiplied there, and on disk. Plans
// once, to know the least budgets.
absl::StatusOr<std::vector<WallArmSpec>> WallArms(const Model& model, const ModelOptions& base,
                                                  const ContextNeeds& needs);

// The arm of that name, which is there (checked).
const WallArmSpec& FindArm(const std::vector<WallArmSpec>& arms, const std::string& name);

// An engine, with the ceilings that a prediction is made from.
struct OpenedArm {
  PlannedRun run;
  std::unique_ptr<Engine> engine;
};

// `measures`: the ceilings.
absl::StatusOr<OpenedArm> OpenArm(const Model& model, const ModelOptions& options,
                                  const ContextNeeds& needs, bool measures);

// What one run of an arm found. Rates and shares are of generating, after the first token.
struct WallSample {
  std::vector<TokenId> tokens;
  std::string device;
  double weight_bytes = 0;  // of a pass
  double tokens_per_s = 0;
  double predicted_tokens_per_s = 0;
  double bytes_per_token = 0;       // read from disk
  double link_bytes_per_token = 0;  // copied to the accelerator
  double disk_share = 0;            // of the ceiling
  double link_share = 0;
  double compute_share = 0;  // of the time: a step was running
  double disk_stall_share = 0;
  double copy_stall_share = 0;
  double disk_bytes_per_s = 0;  // the ceilings
  double link_bytes_per_s = 0;
  double compute_s = 0;  // of a pass, as rehearsed
};

nlohmann::json ToJson(const WallSample& sample);
// DataLoss for what ToJson did not write.
absl::StatusOr<WallSample> WallSampleFrom(const nlohmann::json& json);

// Opens the arm, measures its ceilings and generates `tokens` after the first. Cancelled when
// interrupted. `trace`, if not null and the arm's options name a trace file: its text.
absl::StatusOr<WallSample> MeasureArm(const Model& model, const WallArmSpec& arm,
                                      absl::Span<const TokenId> prompt, uint32_t tokens,
                                      std::string* trace = nullptr);

}  // namespace weir

#endif  // WEIR_TOOLS_WALL_ARMS_H_
