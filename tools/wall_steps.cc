#include "tools/wall_steps.h"

#include <utility>

#include "io/base.h"
#include "io/clock.h"
#include "tools/interrupt.h"
#include "tools/progress.h"

namespace weir {

double SecondsLeft(absl::Span<const WallStep> steps, size_t next,
                   const std::map<std::string, double>& group_s) {
  double left_s = 0;
  for (size_t i = next; i < steps.size(); ++i) {
    const auto known = group_s.find(steps[i].group);
    left_s += known == group_s.end() ? steps[i].guess_s : known->second;
  }
  return left_s;
}

absl::StatusOr<std::map<std::string, nlohmann::json>> RunSteps(absl::Span<const WallStep> steps,
                                                               WallJournal* journal) {
  std::map<std::string, nlohmann::json> values;
  std::map<std::string, double> group_s;
  std::vector<WallStep> missing;
  for (const WallStep& step : steps) {
    if (const nlohmann::json* const found = journal->Find(step.key)) {
      values[step.key] = *found;
    } else {
      missing.push_back(step);
    }
  }
  ProgressLine line("wall");
  const RealClock clock;
  const int64_t begin_ns = clock.NowNs();
  for (size_t i = 0; i < missing.size(); ++i) {
    WEIR_RETURN_IF_ERROR(CheckInterrupted());
    const int64_t step_begin_ns = clock.NowNs();
    WEIR_ASSIGN_OR_RETURN(nlohmann::json value, missing[i].measure());
    const int64_t now_ns = clock.NowNs();
    group_s[missing[i].group] = static_cast<double>(now_ns - step_begin_ns) * 1e-9;
    WEIR_RETURN_IF_ERROR(journal->Add(missing[i].key, value));
    values[missing[i].key] = std::move(value);
    const double past_s = static_cast<double>(now_ns - begin_ns) * 1e-9;
    line.Update(past_s / (past_s + SecondsLeft(missing, i + 1, group_s)), 0);
  }
  line.Finish();
  return values;
}

}  // namespace weir
