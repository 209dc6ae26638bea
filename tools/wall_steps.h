// The measurements of `weir wall`, one after the other: what the journal has is not measured again,
// and the time left is told from what measurements of the same kind took.
#ifndef WEIR_TOOLS_WALL_STEPS_H_
#define WEIR_TOOLS_WALL_STEPS_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"
#include "tools/wall_journal.h"

namespace weir {

struct WallStep {
  std::string key;     // unique
  std::string group;   // steps of one group take about as long as each other
  double guess_s = 1;  // what one takes, as long as none of the group was measured
  std::function<absl::StatusOr<nlohmann::json>()> measure;
};

// By key. The first error ends it; what was measured is in the journal.
absl::StatusOr<std::map<std::string, nlohmann::json>> RunSteps(absl::Span<const WallStep> steps,
                                                               WallJournal* journal);

// Seconds of the steps from `next` on, by the seconds of one step of each group that is known.
double SecondsLeft(absl::Span<const WallStep> steps, size_t next,
                   const std::map<std::string, double>& group_s);

}  // namespace weir

#endif  // WEIR_TOOLS_WALL_STEPS_H_
