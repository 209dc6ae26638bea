// Shares, durations and rates as people write them in options. Sizes: ParseBytes in io/base.h.
#ifndef WEIR_IO_QUANTITIES_H_
#define WEIR_IO_QUANTITIES_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace weir {

// "5%" or "0.05", within [0, 1].
absl::StatusOr<double> ParseShare(std::string_view text);

// A number and ns, us, ms or s: "80us". Up to an hour, in nanoseconds.
absl::StatusOr<int64_t> ParseDuration(std::string_view text);

// A size and "/s": "7GB/s", "900MiB/s". More than 0, in bytes per second.
absl::StatusOr<double> ParseRate(std::string_view text);

}  // namespace weir

#endif  // WEIR_IO_QUANTITIES_H_
