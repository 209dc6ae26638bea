#include "io/quantities.h"

#include <array>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr double kMaxDurationNs = 3600e9;

absl::Status Bad(std::string_view text, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat("'", AbslView(text), "' is not ", expected));
}

}  // namespace

absl::StatusOr<double> ParseShare(std::string_view text) {
  absl::string_view number = AbslView(text);
  const bool is_percentage = absl::ConsumeSuffix(&number, "%");
  double value = 0;
  const bool is_number = absl::SimpleAtod(number, &value);
  if (is_percentage) value /= 100;
  // Written so that NaN is refused too.
  if (!is_number || !(value >= 0 && value <= 1)) return Bad(text, "0% to 100%, or 0 to 1");
  return value;
}

absl::StatusOr<int64_t> ParseDuration(std::string_view text) {
  struct Unit {
    absl::string_view suffix;
    double ns;
  };
  // "s" last: the others end with it too.
  constexpr std::array<Unit, 4> kUnits = {{{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}};
  for (const Unit& unit : kUnits) {
    absl::string_view number = AbslView(text);
    if (!absl::ConsumeSuffix(&number, unit.suffix)) continue;
    double value = 0;
    if (!absl::SimpleAtod(number, &value)) break;
    if (!(value >= 0 && value * unit.ns <= kMaxDurationNs)) break;
    return static_cast<int64_t>(value * unit.ns);
  }
  return Bad(text, "a number and ns, us, ms or s, at most an hour");
}

absl::StatusOr<double> ParseRate(std::string_view text) {
  absl::string_view size = AbslView(text);
  if (absl::ConsumeSuffix(&size, "/s")) {
    const absl::StatusOr<uint64_t> bytes = ParseBytes({size.data(), size.size()});
    if (bytes.ok() && *bytes > 0) return static_cast<double>(*bytes);
  }
  return Bad(text, "a size per second above 0, such as 7GB/s or 900MiB/s");
}

}  // namespace weir
