#include "tiering/sim_faults.h"

#include <array>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "io/base.h"
#include "io/fault_settings.h"
#include "io/split_mix.h"

namespace weir {
namespace {

constexpr double kMaxFactor = 1e6;

constexpr absl::string_view kAdvice =
    "Write for example seed=7,spike=5%:20ms,slow=5%:x10,stuck_at=300; known: seed, short, again, "
    "spike, eio, eio_forever, eio_at, reorder, late, slow, stuck, stuck_at, slow_from, unplug_at, "
    "jitter, throttle, cancel_at";

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
         (parts.size() < 2 || TakeDuration(parts[1], time_ns));
}

bool TakeSlowFrom(const std::vector<absl::string_view>& parts, SimFaults* faults) {
  uint64_t number = 0;
  if (parts.size() > 2 || !absl::SimpleAtoi(parts[0], &number)) return false;
  faults->slow_from = number;
  return parts.size() < 2 || TakeFactor(parts[1], kMaxFactor, &faults->slow_from_factor);
}

bool TakeThrottle(const std::vector<absl::string_view>& parts, SimFaults* faults) {
  int64_t at_ns = 0;
  if (parts.size() > 3 || !TakeDuration(parts[0], &at_ns)) return false;
  faults->throttle_at_ns = at_ns;
  if (parts.size() > 1 && !TakeFactor(parts[1], kMaxFactor, &faults->throttle_factor)) return false;
  return parts.size() < 3 ||
         (TakeDuration(parts[2], &faults->throttle_for_ns) && faults->throttle_for_ns > 0);
}

absl::string_view TakeOne(absl::string_view name, absl::string_view value, SimFaults* faults) {
  const std::vector<absl::string_view> parts = absl::StrSplit(value, ':');
  for (const Named& named : kShares) {
    if (name != named.name) continue;
    return TakeShare(value, &(faults->*named.share)) ? kTaken : kBadShare;
  }
  for (const Counted& counted : kNumbers) {
    uint64_t number = 0;
    if (name != counted.name) continue;
    if (!absl::SimpleAtoi(value, &number)) return "a whole number is expected";
    faults->*counted.number = number;
    return kTaken;
  }
  if (name == "seed") {
    return absl::SimpleAtoi(value, &faults->seed) ? kTaken : kBadSeed;
  }
  if (name == "spike" || name == "late") {
    const bool is_spike = name == "spike";
    if (TakeShareAndTime(parts, is_spike ? &faults->spike_share : &faults->late_share,
                         is_spike ? &faults->spike_ns : &faults->late_ns)) {
      return kTaken;
    }
    return "a share, or a share and a time such as 5%:20ms, is expected";
  }
  if (name == "slow") {
    if (parts.size() <= 2 && TakeShare(parts[0], &faults->slow_share) &&
        (parts.size() < 2 || TakeFactor(parts[1], kMaxFactor, &faults->slow_factor))) {
      return kTaken;
    }
    return "a share, or a share and a factor such as 5%:x10, is expected";
  }
  if (name == "slow_from") {
    if (TakeSlowFrom(parts, faults)) return kTaken;
    return "a number, or a number and a factor such as 100:x10, is expected";
  }
  if (name == "throttle") {
    if (TakeThrottle(parts, faults)) return kTaken;
    return "a time, a factor and for how long, such as 2s:x10:500ms, is expected";
  }
  return "unknown name";
}

}  // namespace

absl::StatusOr<SimFaults> ParseSimFaults(std::string_view text) {
  SimFaults faults;
  WEIR_RETURN_IF_ERROR(
      ParseFaultSettings(text, kAdvice, [&](absl::string_view name, absl::string_view value) {
        return TakeOne(name, value, &faults);
      }));
  return faults;
}

double DrawShare(const SimFaults& faults, uint64_t transfer, uint64_t attempt, SimDraw what) {
  const uint64_t key = MixBits(MixBits(faults.seed) ^ MixBits(transfer + 1)) + 64 * attempt;
  return UnitInterval(MixBits(key ^ static_cast<uint64_t>(what)));
}

}  // namespace weir
