// Checks, status macros, integer helpers and units: what every other file may assume.
//
// Failures come in three kinds. The outside world (files, options, devices) is reported as
// absl::Status with numbers in it. Transient I/O is retried in one place (io/retry_policy.h). Our
// own bugs abort through WEIR_CHECK, in every build type.
#ifndef WEIR_IO_BASE_H_
#define WEIR_IO_BASE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weir {

inline constexpr uint64_t kKiB = uint64_t{1} << 10;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;

// Prints the expression and where it stands, then aborts. Never returns.
[[noreturn]] void CheckFailed(const char* file, int line, const char* expression);

// `alignment` is a power of two.
constexpr uint64_t AlignDown(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}
constexpr uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return AlignDown(value + alignment - 1, alignment);
}
constexpr uint64_t CeilDiv(uint64_t value, uint64_t divisor) {
  return value / divisor + (value % divisor != 0 ? 1 : 0);
}

// Sums and products of numbers that come from outside: false on overflow, `*result` untouched.
[[nodiscard]] inline bool CheckedAdd(uint64_t a, uint64_t b, uint64_t* result) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return false;
  *result = sum;
  return true;
}
[[nodiscard]] inline bool CheckedMul(uint64_t a, uint64_t b, uint64_t* result) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return false;
  *result = product;
  return true;
}

// "400MiB", "1.5GiB", "2G", "4096" -> bytes. K, M, G and T with or without "iB" are powers of
// 1024 (as fio and llama.cpp's users expect); "KB", "MB", "GB", "TB" are powers of 1000. Case and
// one space before the unit do not matter; a fraction of a byte is cut off. Refused: signs,
// exponents, a fraction without a unit, what does not fit 64 bits.
absl::StatusOr<uint64_t> ParseBytes(std::string_view text);

// Abseil's string functions, built by the distribution for C++14, do not take std::string_view.
inline absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }

// 419430400 -> "400.0 MiB".
std::string FormatBytes(uint64_t bytes);
// 1500000000 -> "1.5 s".
std::string FormatDuration(int64_t duration_ns);

}  // namespace weir

#define WEIR_CHECK(condition)                   \
  (__builtin_expect(!!(condition), 1) ? (void)0 \
                                      : ::weir::CheckFailed(__FILE__, __LINE__, #condition))

#define WEIR_RETURN_IF_ERROR(expression)         \
  do {                                           \
    absl::Status weir_status_ = (expression);    \
    if (!weir_status_.ok()) return weir_status_; \
  } while (false)

#define WEIR_CONCAT_INNER_(a, b) a##b
#define WEIR_CONCAT_(a, b) WEIR_CONCAT_INNER_(a, b)
#define WEIR_ASSIGN_OR_RETURN(lhs, expression) \
  WEIR_ASSIGN_OR_RETURN_IMPL_(WEIR_CONCAT_(weir_status_or_, __LINE__), lhs, expression)
#define WEIR_ASSIGN_OR_RETURN_IMPL_(status_or, lhs, expression) \
  auto status_or = (expression);                                \
  if (!status_or.ok()) return std::move(status_or).status();    \
  lhs = *std::move(status_or)

#endif  // WEIR_IO_BASE_H_
