#include "io/fault_settings.h"

#include <algorithm>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "io/base.h"
#include "io/quantities.h"

namespace weir {

absl::Status ParseFaultSettings(std::string_view text, absl::string_view advice,
                                const TakeSetting& take) {
  if (text.empty()) return absl::OkStatus();
  std::vector<absl::string_view> seen;
  for (const absl::string_view setting : absl::StrSplit(AbslView(text), ',')) {
    const std::vector<absl::string_view> sides = absl::StrSplit(setting, absl::MaxSplits('=', 1));
    absl::string_view reason = kTaken;
    if (sides.size() != 2) {
      reason = "it is not name=value";
    } else if (std::find(seen.begin(), seen.end(), sides[0]) != seen.end()) {
      reason = "given twice";
    } else {
      seen.push_back(sides[0]);
      reason = take(sides[0], sides[1]);
    }
    if (reason == kTaken) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("fault setting \"", setting, "\": ", reason, ". ", advice));
  }
  return absl::OkStatus();
}

bool TakeShare(absl::string_view text, double* share) {
  const absl::StatusOr<double> parsed = ParseShare({text.data(), text.size()});
  if (parsed.ok()) *share = *parsed;
  return parsed.ok();
}

bool TakeDuration(absl::string_view text, int64_t* duration_ns) {
  const absl::StatusOr<int64_t> parsed = ParseDuration({text.data(), text.size()});
  if (parsed.ok()) *duration_ns = *parsed;
  return parsed.ok();
}

bool TakeFactor(absl::string_view text, double most, double* factor) {
  double value = 0;
  if (!absl::ConsumePrefix(&text, "x") || !absl::SimpleAtod(text, &value)) return false;
  if (!(value >= 1 && value <= most)) return false;
  *factor = value;
  return true;
}

}  // namespace weir
