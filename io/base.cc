#include "io/base.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weir {
namespace {

struct Unit {
  std::string_view name;
  uint64_t bytes;
};

constexpr uint64_t kTiB = uint64_t{1} << 40;
constexpr std::array<Unit, 14> kUnits = {{{"", 1},
                                          {"b", 1},
                                          {"k", kKiB},
                                          {"kib", kKiB},
                                          {"kb", 1000},
                                          {"m", kMiB},
                                          {"mib", kMiB},
                                          {"mb", 1000 * 1000},
                                          {"g", kGiB},
                                          {"gib", kGiB},
                                          {"gb", 1000 * 1000 * 1000},
                                          {"t", kTiB},
                                          {"tib", kTiB},
                                          {"tb", uint64_t{1000} * 1000 * 1000 * 1000}}};

absl::Status BadSize(std::string_view text, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat("\"", AbslView(text),
                                                 "\" is not a size in bytes: ", reason,
                                                 ". Write for example 4096, 400MiB or 1.5G."));
}

std::string_view TakeDigits(std::string_view* text) {
  size_t count = 0;
  while (count < text->size() && absl::ascii_isdigit((*text)[count])) ++count;
  const std::string_view digits = text->substr(0, count);
  text->remove_prefix(count);
  return digits;
}

}  // namespace

void CheckFailed(const char* file, int line, const char* expression) {
  std::fprintf(stderr, "%s:%d: check failed: %s\nThis is a bug in weir: please report it.\n", file,
               line, expression);
  std::fflush(stderr);
  std::abort();
}

absl::StatusOr<uint64_t> ParseBytes(std::string_view text) {
  std::string_view rest = text;
  const std::string_view whole_digits = TakeDigits(&rest);
  if (whole_digits.empty()) return BadSize(text, "it does not begin with a digit");
  std::string_view fraction_digits;
  if (!rest.empty() && rest.front() == '.') {
    rest.remove_prefix(1);
    fraction_digits = TakeDigits(&rest);
    if (fraction_digits.empty()) return BadSize(text, "no digit follows the point");
  }
  if (rest.size() > 1 && rest.front() == ' ') rest.remove_prefix(1);
  const std::string name = absl::AsciiStrToLower(AbslView(rest));
  uint64_t unit_bytes = 0;
  for (const Unit& unit : kUnits) {
    if (unit.name == name) unit_bytes = unit.bytes;
  }
  if (unit_bytes == 0) return BadSize(text, absl::StrCat("unknown unit \"", name, "\""));
  if (unit_bytes == 1 && !fraction_digits.empty()) {
    return BadSize(text, "a fraction needs a unit such as MiB");
  }
  uint64_t whole = 0;
  if (!absl::SimpleAtoi(AbslView(whole_digits), &whole))
    return BadSize(text, "it does not fit 64 bits");
  double fraction = 0;
  if (!fraction_digits.empty()) {
    if (!absl::SimpleAtod(absl::StrCat("0.", AbslView(fraction_digits)), &fraction)) {
      return BadSize(text, "its fraction cannot be read");
    }
  }
  // fraction < 1 (or rounds to it) and unit <= 2^40, so the product is exact to a byte.
  const uint64_t fraction_bytes =
      static_cast<uint64_t>(std::floor(fraction * static_cast<double>(unit_bytes)));
  uint64_t bytes = 0;
  if (!CheckedMul(whole, unit_bytes, &bytes) || !CheckedAdd(bytes, fraction_bytes, &bytes)) {
    return BadSize(text, "it does not fit 64 bits");
  }
  return bytes;
}

std::string FormatDuration(int64_t duration_ns) {
  const auto ns = static_cast<double>(duration_ns);
  if (duration_ns < 1'000) return absl::StrCat(duration_ns, " ns");
  if (duration_ns < 1'000'000) return absl::StrFormat("%.4g us", ns * 1e-3);
  if (duration_ns < 1'000'000'000) return absl::StrFormat("%.4g ms", ns * 1e-6);
  return absl::StrFormat("%.4g s", ns * 1e-9);
}

std::string FormatBytes(uint64_t bytes) {
  constexpr std::array<const char*, 5> kNames = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < kKiB) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  // 1023.95 would be printed as 1024.0 of the smaller unit.
  while (value >= 1023.95 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kNames[unit]);
}

}  // namespace weir
