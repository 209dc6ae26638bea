// What `weir wall` measures beside arms and passes: the machine's hierarchy, a training step, and
// the levers that move the wall.
#ifndef WEIR_TOOLS_WALL_EXTRAS_H_
#define WEIR_TOOLS_WALL_EXTRAS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "nlohmann/json.hpp"
#include "tools/model_options.h"
#include "tools/wall_report.h"
#include "tools/wall_steps.h"

namespace weir {

struct WallExtras {
  ModelOptions base;  // device, threads
  std::string prompt;
  uint32_t tokens = 8;               // of each arm of the precision ladder
  std::string scratch;               // folder for scratch files; empty: chosen
  std::string text;                  // scored by the precision ladder; empty: its own
  std::vector<std::string> skipped;  // of kWallExtraParts
};

inline constexpr const char* kWallExtraParts[] = {"hierarchy", "training", "levers", "precision"};

bool IsSkipped(const WallExtras& extras, const char* part);

// `model` and `extras` outlive the steps.
absl::StatusOr<std::vector<WallStep>> ExtraSteps(const Model& model, const WallExtras& extras);

// From what the steps found.
std::vector<WallSection> ExtraSections(const std::map<std::string, nlohmann::json>& values);

}  // namespace weir

#endif  // WEIR_TOOLS_WALL_EXTRAS_H_
