// What the commands of `weir probe` share.
#ifndef WEIR_TOOLS_PROBE_PARTS_H_
#define WEIR_TOOLS_PROBE_PARTS_H_

#include "absl/status/status.h"
#include "engine/device_probe.h"
#include "nlohmann/json.hpp"
#include "tools/exit_codes.h"

namespace weir {

// InvalidArgument names the option: --seconds above 0 and at most `most_seconds`, --rounds from 1
// to 1000.
absl::Status CheckProbeTimes(double seconds, double most_seconds, int rounds);

// What a measurement ended with: an interrupt's own code, else `code`.
absl::Status WithProbeExitCode(ExitCode code, const absl::Status& status);

// `fields` with "gb_per_s", "low_gb_per_s", "high_gb_per_s": the median round's and the extremes,
// in 10^9 bytes.
nlohmann::json WithRate(nlohmann::json fields, const RateSpread& rate);

}  // namespace weir

#endif  // WEIR_TOOLS_PROBE_PARTS_H_
