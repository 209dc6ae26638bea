#include "io/fault_options.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "io/base.h"
#include "io/quantities.h"

namespace weir {
namespace {

constexpr double kMaxSlowFactor = 1000;

absl::Status BadFault(absl::string_view setting, absl::string_view reason) {
  return absl::InvalidArgumentError(
      absl::StrCat("fault setting \"", setting, "\": ", reason,
                   ". Write for example seed=7,short=5%,spike=5%:20ms,eio=1%,unplug_at=500; "
                   "known: seed, short, again, spike, eio, eio_forever, eio_at, reorder, stuck, "
                   "stuck_at, slow, slow_from, unplug_at."));
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

bool TakeFactor(absl::string_view text, double* factor) {
  return absl::ConsumePrefix(&text, "x") && absl::SimpleAtod(text, factor) && *factor >= 1 &&
         *factor <= kMaxSlowFactor;
}

// "P:xF" of slow and "N:xF" of slow_from.
absl::Status ParseSlow(absl::string_view setting, absl::string_view name, absl::string_view value,
                       FaultOptions* options) {
  const bool is_share = name == "slow";
  const std::vector<absl::string_view> parts = absl::StrSplit(value, ':');
  const bool is_good = is_share ? TakeShare(parts[0], &options->slow_share)
                                : absl::SimpleAtoi(parts[0], &options->slow_from);
  if (parts.size() > 2 || !is_good) {
    return BadFault(setting, is_share ? "the share must be 0% to 100%, or 0 to 1"
                                      : "it must be the number of an operation");
  }
  double* const factor = is_share ? &options->slow_factor : &options->slow_from_factor;
  if (parts.size() == 1 || TakeFactor(parts[1], factor)) return absl::OkStatus();
  return BadFault(setting, "the factor must be x1 to x1000");
}

// "name=N" of those that count operations; null when `name` is none of them.
uint64_t* OpNumber(absl::string_view name, FaultOptions* options) {
  if (name == "eio_at") return &options->eio_at;
  if (name == "stuck_at") return &options->stuck_at;
  if (name == "unplug_at") return &options->unplug_at;
  return nullptr;
}

absl::Status ParseSetting(absl::string_view setting, absl::string_view name,
                          absl::string_view value, FaultOptions* options) {
  if (name == "seed") {
    if (absl::SimpleAtoi(value, &options->seed)) return absl::OkStatus();
    return BadFault(setting, "the seed must be a whole number that fits 64 bits");
  }
  if (name == "spike") return ParseSpike(setting, value, options);
  if (name == "slow" || name == "slow_from") return ParseSlow(setting, name, value, options);
  if (uint64_t* const number = OpNumber(name, options)) {
    if (absl::SimpleAtoi(value, number)) return absl::OkStatus();
    return BadFault(setting, "it must be the number of an operation");
  }
  double* share = nullptr;
  if (name == "short") share = &options->short_share;
  if (name == "again") share = &options->again_share;
  if (name == "eio") share = &options->eio_share;
  if (name == "eio_forever") share = &options->eio_forever_share;
  if (name == "reorder") share = &options->reorder_share;
  if (name == "stuck") share = &options->stuck_share;
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
