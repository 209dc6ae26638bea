// The grammar that settings of injected faults share: "name=value,name=value", each name at most
// once. io/fault_options.h (real readers) and tiering/sim_faults.h (the simulated disk) say which
// names there are. The Take functions leave what they are given as it was unless they return true.
#ifndef WEIR_IO_FAULT_SETTINGS_H_
#define WEIR_IO_FAULT_SETTINGS_H_

#include <cstdint>
#include <functional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weir {

// Takes the setting's value: kTaken, or the text of the error.
using TakeSetting =
    std::function<absl::string_view(absl::string_view name, absl::string_view value)>;

// Calls `take` for each setting in order, until one fails: InvalidArgument with the setting, the
// error and `advice`. Empty text has no settings.
absl::Status ParseFaultSettings(std::string_view text, absl::string_view advice,
                                const TakeSetting& take);

inline constexpr absl::string_view kTaken;  // empty
inline constexpr absl::string_view kBadShare = "the share must be 0% to 100%, or 0 to 1";
inline constexpr absl::string_view kBadSeed = "the seed must be a whole number that fits 64 bits";

bool TakeShare(absl::string_view text, double* share);                 // as ParseShare
bool TakeDuration(absl::string_view text, int64_t* duration_ns);       // as ParseDuration
bool TakeFactor(absl::string_view text, double most, double* factor);  // "x10": 1 to `most`

}  // namespace weir

#endif  // WEIR_IO_FAULT_SETTINGS_H_
