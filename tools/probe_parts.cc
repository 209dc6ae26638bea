#include "tools/probe_parts.h"

#include "absl/strings/str_cat.h"
#include "tools/interrupt.h"

namespace weir {
namespace {

constexpr double kGb = 1e9;
constexpr int kMostRounds = 1000;

}  // namespace

absl::Status CheckProbeTimes(double seconds, double most_seconds, int rounds) {
  if (!(seconds > 0 && seconds <= most_seconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--seconds ", seconds, " is not possible: above 0, at most ", most_seconds));
  }
  if (rounds < 1 || rounds > kMostRounds) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rounds ", rounds, " is not possible: 1 to ", kMostRounds));
  }
  return absl::OkStatus();
}

absl::Status WithProbeExitCode(ExitCode code, const absl::Status& status) {
  return WithExitCode(absl::IsCancelled(status) ? InterruptExitCode() : code, status);
}

nlohmann::json WithRate(nlohmann::json fields, const RateSpread& rate) {
  fields["gb_per_s"] = rate.median_bytes_per_s / kGb;
  fields["low_gb_per_s"] = rate.low_bytes_per_s / kGb;
  fields["high_gb_per_s"] = rate.high_bytes_per_s / kGb;
  return fields;
}

}  // namespace weir
