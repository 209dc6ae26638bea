// SIGINT and SIGTERM as a flag that long work polls, so that a run ends with its footer and a clean
// process.
#ifndef WEIR_TOOLS_INTERRUPT_H_
#define WEIR_TOOLS_INTERRUPT_H_

#include <atomic>

#include "absl/status/status.h"
#include "tools/exit_codes.h"

namespace weir {

// From now on the first signal sets the flag; a second one ends the process at once. So does the
// end of kPatienceS after the first, wherever the process hangs then: whoever ends a program does
// not want to wait for a disk, a pipe or a file server.
inline constexpr unsigned kPatienceS = 8;
void CatchInterrupts();

// Set by the signals.
std::atomic<bool>& InterruptFlag();
bool Interrupted();
// Forgets an interrupt that was handled (chat: Ctrl-C ends one answer only).
void ClearInterrupt();
// kInterrupted or kTerminated, by the last signal.
ExitCode InterruptExitCode();
// Cancelled, with the exit code, once interrupted: for the places between parts of long work.
absl::Status CheckInterrupted();

}  // namespace weir

#endif  // WEIR_TOOLS_INTERRUPT_H_
