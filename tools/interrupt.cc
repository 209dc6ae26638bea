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

void OnSignal(int signal_number) {
  last_signal.store(signal_number);
  if (interrupted.exchange(true)) _exit(128 + signal_number);
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
  signal(SIGPIPE, SIG_IGN);  // a closed stdout is an error of fwrite, reported as such
}

std::atomic<bool>& InterruptFlag() { return interrupted; }
bool Interrupted() { return interrupted.load(std::memory_order_relaxed); }
void ClearInterrupt() { interrupted.store(false); }

ExitCode InterruptExitCode() {
  return last_signal.load() == SIGTERM ? ExitCode::kTerminated : ExitCode::kInterrupted;
}

}  // namespace weir
