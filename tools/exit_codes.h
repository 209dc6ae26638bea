// Exit codes of `weir`, documented in the README. A status carries its code from where it is known
// (which phase failed) to main.
#ifndef WEIR_TOOLS_EXIT_CODES_H_
#define WEIR_TOOLS_EXIT_CODES_H_

#include "absl/status/status.h"

namespace weir {

enum class ExitCode : int {
  kOk = 0,
  kInternal = 1,       // our own failure
  kUsage = 2,          // an option or its value
  kBadModel = 3,       // missing, unreadable, not a model, unknown architecture
  kBudget = 4,         // the DRAM budget cannot work
  kIo = 5,             // reading failed while running
  kOutput = 6,         // a result could not be written
  kContext = 7,        // the prompt does not fit
  kDevice = 8,         // the compute device is not there or cannot be used
  kInterrupted = 130,  // SIGINT
  kTerminated = 143,   // SIGTERM
};

// `status` with the code attached; an OK status stays OK. One that has a code already keeps it.
absl::Status WithExitCode(ExitCode code, absl::Status status);

// Prints "weir: message" to stderr when not OK, and returns the process's exit code.
int ReportStatus(const absl::Status& status);

}  // namespace weir

#endif  // WEIR_TOOLS_EXIT_CODES_H_
