#include "tools/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <cstring>

namespace weir {
namespace {

// Signal handlers have no argument to carry state: the one place with variables of static storage.
std::atomic<bool> interrupted{false};
std::atomic<int> last_signal{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

std::atomic<bool> stderr_is_terminal{false};

// Only what a signal handler may call. A line of progress may stand there, half written.
[[noreturn]] void EndNow() {
  if (stderr_is_terminal.load()) (void)!write(STDERR_FILENO, "\n", 1);
  _exit(128 + last_signal.load());
}

void OnSignal(int signal_number) {
  if (signal_number == SIGALRM) EndNow();
  last_signal.store(signal_number);
  if (interrupted.exchange(true)) EndNow();
  alarm(kPatienceS);
}

}  // namespace

void CatchInterrupts() {
  struct sigaction action;
  std::memset(&action, 0, sizeof(action));
  action.sa_handler = &OnSignal;
  sigemptyset(&action.sa_mask);
  // No SA_RESTART: a blocking read of the user's input must return.
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGALRM, &action, nullptr);
  stderr_is_terminal.store(isatty(STDERR_FILENO) == 1);
  signal(SIGPIPE, SIG_IGN);  // a closed stdout is an error of fwrite, reported as such
}

std::atomic<bool>& InterruptFlag() { return interrupted; }
bool Interrupted() { return interrupted.load(std::memory_order_relaxed); }
void ClearInterrupt() {
  alarm(0);
  interrupted.store(false);
}

ExitCode InterruptExitCode() {
  return last_signal.load() == SIGTERM ? ExitCode::kTerminated : ExitCode::kInterrupted;
}

absl::Status CheckInterrupted() {
  if (!Interrupted()) return absl::OkStatus();
  return WithExitCode(InterruptExitCode(), absl::CancelledError("interrupted"));
}

}  // namespace weir
