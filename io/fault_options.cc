// The grammar of ParseFaultOptions; see io/fault_reader.h.
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "io/base.h"
#include "io/fault_reader.h"
#include "io/quantities.h"

namespace weir {
namespace {

absl::Status BadFault(absl::string_view setting, absl::string_view reason) {
  return absl::InvalidArgumentError(
      absl::StrCat("fault setting \"", setting, "\": ", reason,
                   ". Write for example seed=7,short=5%,spike=5%:20ms,eio=1%,eio_forever=0; "
                   "known: seed, short, again, spike, eio, eio_forever, reorder."));
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

absl::Status ParseSpike(absl::string_view setting, absl::string_view value, FaultOptions* options) {
  const std::vector<absl::string_view> parts = absl::StrSplit(value, ':');
  if (parts.size() > 2 || !TakeShare(parts[0], &options->spike_share)) {
    return BadFault(setting, "the share must be 0% to 100%, or 0 to 1");
  }
  if (parts.size() == 2 && !TakeDuration(parts[1], &options->spike_ns)) {
    return BadFault(setting, "the time must be a number and ns, us, ms or s, at most an hour");
  }
  return absl::OkStatus();
}

absl::Status ParseSetting(absl::string_view setting, absl::string_view name,
                          absl::string_view value, FaultOptions* options) {
  if (name == "seed") {
    if (absl::SimpleAtoi(value, &options->seed)) return absl::OkStatus();
    return BadFault(setting, "the seed must be a whole number that fits 64 bits");
  }
  if (name == "spike") return ParseSpike(setting, value, options);
  double* share = nullptr;
  if (name == "short") share = &options->short_share;
  if (name == "again") share = &options->again_share;
  if (name == "eio") share = &options->eio_share;
  if (name == "eio_forever") share = &options->eio_forever_share;
  if (name == "reorder") share = &options->reorder_share;
  if (share == nullptr) return BadFault(setting, "unknown name");
  if (TakeShare(value, share)) return absl::OkStatus();
  return BadFault(setting, "the share must be 0% to 100%, or 0 to 1");
}

}  // namespace

absl::StatusOr<FaultOptions> ParseFaultOptions(std::string_view text) {
  FaultOptions options;
  if (text.empty()) return options;
  std::vector<absl::string_view> seen;
  for (absl::string_view setting : absl::StrSplit(AbslView(text), ',')) {
    const std::vector<absl::string_view> sides = absl::StrSplit(setting, absl::MaxSplits('=', 1));
    if (sides.size() != 2) return BadFault(setting, "it is not name=value");
    for (const absl::string_view earlier : seen) {
      if (earlier == sides[0]) return BadFault(setting, "given twice");
    }
    seen.push_back(sides[0]);
    WEIR_RETURN_IF_ERROR(ParseSetting(setting, sides[0], sides[1], &options));
  }
  return options;
}

}  // namespace weir
