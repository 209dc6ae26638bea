#include "tiering/sim_faults.h"

#include <array>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "io/base.h"
#include "io/quantities.h"

namespace weir {
namespace {

constexpr double kMaxFactor = 1e6;

absl::Status BadFault(absl::string_view setting, absl::string_view reason) {
  return absl::InvalidArgumentError(
      absl::StrCat("fault setting \"", setting, "\": ", reason,
                   ". Write for example seed=7,spike=5%:20ms,slow=5%:x10,stuck_at=300; known: "
                   "seed, short, again, spike, eio, eio_forever, eio_at, reorder, late, slow, "
                   "stuck, stuck_at, slow_from, unplug_at, jitter, throttle, cancel_at"));
}

bool TakeShare(absl::string_view text, double* share) {
  const absl::StatusOr<double> parsed = ParseShare({text.data(), text.size()});
  if (parsed.ok()) *share = *parsed;
  return parsed.ok();
}

bool TakeTime(absl::string_view text, int64_t* time_ns) {
  const absl::StatusOr<int64_t> parsed = ParseDuration({text.data(), text.size()});
  if (parsed.ok()) *time_ns = *parsed;
  return parsed.ok();
}

// "x10".
bool TakeFactor(absl::string_view text, double* factor) {
  double value = 0;
  if (!absl::ConsumePrefix(&text, "x") || !absl::SimpleAtod(text, &value)) return false;
  if (!(value >= 1 && value <= kMaxFactor)) return false;
  *factor = value;
  return true;
}

struct Named {
  absl::string_view name;
  double SimFaults::*share;
};
constexpr std::array<Named, 7> kShares = {{{"short", &SimFaults::short_share},
                                           {"again", &SimFaults::again_share},
                                           {"eio", &SimFaults::eio_share},
                                           {"eio_forever", &SimFaults::eio_forever_share},
                                           {"reorder", &SimFaults::reorder_share},
                                           {"stuck", &SimFaults::stuck_share},
                                           {"jitter", &SimFaults::jitter_share}}};

struct Counted {
  absl::string_view name;
  std::optional<uint64_t> SimFaults::*number;
};
constexpr std::array<Counted, 4> kNumbers = {{{"eio_at", &SimFaults::eio_at},
                                              {"stuck_at", &SimFaults::stuck_at},
                                              {"unplug_at", &SimFaults::unplug_at},
                                              {"cancel_at", &SimFaults::cancel_at_event}}};

// "P[:TIME]".
bool TakeShareAndTime(const std::vector<absl::string_view>& parts, double* share,
                      int64_t* time_ns) {
  return parts.size() <= 2 && TakeShare(parts[0], share) &&
         (parts.size() < 2 || TakeTime(parts[1], time_ns));
}

bool TakeSlowFrom(const std::vector<absl::string_view>& parts, SimFaults* faults) {
  uint64_t number = 0;
  if (parts.size() > 2 || !absl::SimpleAtoi(parts[0], &number)) return false;
  faults->slow_from = number;
  return parts.size() < 2 || TakeFactor(parts[1], &faults->slow_from_factor);
}

bool TakeThrottle(const std::vector<absl::string_view>& parts, SimFaults* faults) {
  int64_t at_ns = 0;
  if (parts.size() > 3 || !TakeTime(parts[0], &at_ns)) return false;
  faults->throttle_at_ns = at_ns;
  if (parts.size() > 1 && !TakeFactor(parts[1], &faults->throttle_factor)) return false;
  return parts.size() < 3 ||
         (TakeTime(parts[2], &faults->throttle_for_ns) && faults->throttle_for_ns > 0);
}

absl::Status ParseSetting(absl::string_view setting, absl::string_view name,
                          absl::string_view value, SimFaults* faults) {
  const std::vector<absl::string_view> parts = absl::StrSplit(value, ':');
  for (const Named& named : kShares) {
    if (name != named.name) continue;
    if (TakeShare(value, &(faults->*named.share))) return absl::OkStatus();
    return BadFault(setting, "the share must be 0% to 100%, or 0 to 1");
  }
  for (const Counted& counted : kNumbers) {
    uint64_t number = 0;
    if (name != counted.name) continue;
    if (!absl::SimpleAtoi(value, &number)) return BadFault(setting, "a whole number is expected");
    faults->*counted.number = number;
    return absl::OkStatus();
  }
  if (name == "seed") {
    if (absl::SimpleAtoi(value, &faults->seed)) return absl::OkStatus();
    return BadFault(setting, "the seed must be a whole number that fits 64 bits");
  }
  if (name == "spike" || name == "late") {
    const bool is_spike = name == "spike";
    if (TakeShareAndTime(parts, is_spike ? &faults->spike_share : &faults->late_share,
                         is_spike ? &faults->spike_ns : &faults->late_ns)) {
      return absl::OkStatus();
    }
    return BadFault(setting, "a share, or a share and a time such as 5%:20ms, is expected");
  }
  if (name == "slow") {
    if (parts.size() <= 2 && TakeShare(parts[0], &faults->slow_share) &&
        (parts.size() < 2 || TakeFactor(parts[1], &faults->slow_factor))) {
      return absl::OkStatus();
    }
    return BadFault(setting, "a share, or a share and a factor such as 5%:x10, is expected");
  }
  if (name == "slow_from") {
    if (TakeSlowFrom(parts, faults)) return absl::OkStatus();
    return BadFault(setting, "a number, or a number and a factor such as 100:x10, is expected");
  }
  if (name == "throttle") {
    if (TakeThrottle(parts, faults)) return absl::OkStatus();
    return BadFault(setting,
                    "a time, a factor and for how long, such as 2s:x10:500ms, is expected");
  }
  return BadFault(setting, "unknown name");
}

}  // namespace

absl::StatusOr<SimFaults> ParseSimFaults(std::string_view text) {
  SimFaults faults;
  if (text.empty()) return faults;
  std::vector<absl::string_view> seen;
  for (absl::string_view setting : absl::StrSplit(AbslView(text), ',')) {
    const std::vector<absl::string_view> sides = absl::StrSplit(setting, absl::MaxSplits('=', 1));
    if (sides.size() != 2) return BadFault(setting, "it is not name=value");
    for (const absl::string_view earlier : seen) {
      if (earlier == sides[0]) return BadFault(setting, "given twice");
    }
    seen.push_back(sides[0]);
    WEIR_RETURN_IF_ERROR(ParseSetting(setting, sides[0], sides[1], &faults));
  }
  return faults;
}

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
uint64_t MixBits(uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

double DrawShare(const SimFaults& faults, uint64_t transfer, uint64_t attempt, SimDraw what) {
  const uint64_t key = MixBits(MixBits(faults.seed) ^ MixBits(transfer + 1)) + 64 * attempt;
  return static_cast<double>(MixBits(key ^ static_cast<uint64_t>(what)) >> 11) * 0x1p-53;
}

}  // namespace weir
