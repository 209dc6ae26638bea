// The precision ladder of `weir wall`: the same weights in another format, resident and on disk,
// and how likely the model then finds a text.
#ifndef WEIR_TOOLS_WALL_PRECISION_H_
#define WEIR_TOOLS_WALL_PRECISION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "nlohmann/json.hpp"
#include "tools/levers_report.h"
#include "tools/model_options.h"

namespace weir {

struct PrecisionOptions {
  ModelOptions base;           // device, threads
  std::string scratch_folder;  // takes the whole model in that format
  std::string prompt;
  uint32_t tokens = 8;  // of each arm
  std::string text;     // that is scored; empty: one of some 150 words
};

inline constexpr const char* kPrecisionFormats[] = {"F32", "BF16", "Q8_0", "Q4_K"};

// As JSON, for the journal: a row of "precision", or {"format", "skipped": why} where disk or
// memory have no room for it. Other errors carry their exit code. The scratch file has no name any
// more while the model runs: nothing stays behind.
absl::StatusOr<nlohmann::json> MeasurePrecision(const Model& model, const std::string& format,
                                                const PrecisionOptions& options);

// The rows that were not skipped; a sentence for each that was, into `notes`.
std::vector<PrecisionLever> PrecisionRows(const std::vector<nlohmann::json>& rows,
                                          std::string* notes);

}  // namespace weir

#endif  // WEIR_TOOLS_WALL_PRECISION_H_
