#include "io/fault_options.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "io/base.h"
#include "io/fault_settings.h"

namespace weir {
namespace {

constexpr double kMaxSlowFactor = 1000;

constexpr absl::string_view kAdvice =
    "Write for example seed=7,short=5%,spike=5%:20ms,eio=1%,unplug_at=500; known: seed, short, "
    "again, spike, eio, eio_forever, eio_at, reorder, stuck, stuck_at, slow, slow_from, "
    "unplug_at.";
constexpr absl::string_view kBadNumber = "it must be the number of an operation";

absl::string_view TakeSpike(absl::string_view value, FaultOptions* options) {
  const std::vector<absl::string_view> parts = absl::StrSplit(value, ':');
  if (parts.size() > 2 || !TakeShare(parts[0], &options->spike_share)) return kBadShare;
  if (parts.size() == 2 && !TakeDuration(parts[1], &options->spike_ns)) {
    return "the time must be a number and ns, us, ms or s, at most an hour";
  }
  return kTaken;
}

// "P:xF" of slow and "N:xF" of slow_from.
absl::string_view TakeSlow(absl::string_view name, absl::string_view value, FaultOptions* options) {
  const bool is_share = name == "slow";
  const std::vector<absl::string_view> parts = absl::StrSplit(value, ':');
  const bool is_good = is_share ? TakeShare(parts[0], &options->slow_share)
                                : absl::SimpleAtoi(parts[0], &options->slow_from);
  if (parts.size() > 2 || !is_good) return is_share ? kBadShare : kBadNumber;
  double* const factor = is_share ? &options->slow_factor : &options->slow_from_factor;
  if (parts.size() == 1 || TakeFactor(parts[1], kMaxSlowFactor, factor)) return kTaken;
  return "the factor must be x1 to x1000";
}

// "name=N" of those that count operations; null when `name` is none of them.
uint64_t* OpNumber(absl::string_view name, FaultOptions* options) {
  if (name == "eio_at") return &options->eio_at;
  if (name == "stuck_at") return &options->stuck_at;
  if (name == "unplug_at") return &options->unplug_at;
  return nullptr;
}

absl::string_view TakeOne(absl::string_view name, absl::string_view value, FaultOptions* options) {
  if (name == "seed") {
    return absl::SimpleAtoi(value, &options->seed) ? kTaken : kBadSeed;
  }
  if (name == "spike") return TakeSpike(value, options);
  if (name == "slow" || name == "slow_from") return TakeSlow(name, value, options);
  if (uint64_t* const number = OpNumber(name, options)) {
    return absl::SimpleAtoi(value, number) ? kTaken : kBadNumber;
  }
  double* share = nullptr;
  if (name == "short") share = &options->short_share;
  if (name == "again") share = &options->again_share;
  if (name == "eio") share = &options->eio_share;
  if (name == "eio_forever") share = &options->eio_forever_share;
  if (name == "reorder") share = &options->reorder_share;
  if (name == "stuck") share = &options->stuck_share;
  if (share == nullptr) return "unknown name";
  return TakeShare(value, share) ? kTaken : kBadShare;
}

}  // namespace

absl::StatusOr<FaultOptions> ParseFaultOptions(std::string_view text) {
  FaultOptions options;
  WEIR_RETURN_IF_ERROR(
      ParseFaultSettings(text, kAdvice, [&](absl::string_view name, absl::string_view value) {
        return TakeOne(name, value, &options);
      }));
  return options;
}

}  // namespace weir
