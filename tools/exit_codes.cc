#include "tools/exit_codes.h"

#include <cstdio>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr char kPayload[] = "weir/exit_code";

// For a status that nobody attached a code to.
ExitCode DefaultCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return ExitCode::kUsage;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kUnimplemented:
      return ExitCode::kBadModel;
    case absl::StatusCode::kResourceExhausted:
      return ExitCode::kBudget;
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kIo;
    case absl::StatusCode::kOutOfRange:
      return ExitCode::kContext;
    case absl::StatusCode::kCancelled:
      return ExitCode::kInterrupted;
    default:
      return ExitCode::kInternal;
  }
}

}  // namespace

absl::Status WithExitCode(ExitCode code, absl::Status status) {
  if (status.ok() || status.GetPayload(kPayload).has_value()) return status;
  status.SetPayload(kPayload, absl::Cord(absl::StrCat(static_cast<int>(code))));
  return status;
}

int ReportStatus(const absl::Status& status) {
  if (status.ok()) return static_cast<int>(ExitCode::kOk);
  const std::string message(status.message());
  std::fprintf(stderr, "weir: %s\n", message.c_str());
  int code = static_cast<int>(DefaultCode(status));
  const auto payload = status.GetPayload(kPayload);
  if (payload.has_value()) (void)absl::SimpleAtoi(std::string(*payload), &code);
  return code;
}

}  // namespace weir
