#include "kernels/device_thread.h"

#include <errno.h>
#include <immintrin.h>
#include <signal.h>
#include <time.h>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/clock.h"

namespace weir {
namespace {

// Shorter than what a sleep and a wake-up cost.
constexpr int64_t kSpinNs = 20'000;

}  // namespace

absl::Status StartDeviceThread(const std::string& name, void* (*run)(void*), void* argument,
                               pthread_t* thread) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  WEIR_CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);  // the new thread inherits it
  const int error = pthread_create(thread, nullptr, run, argument);
  WEIR_CHECK(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  if (error != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start thread ", name, ": errno ", error));
  }
  (void)pthread_setname_np(*thread, name.substr(0, 15).c_str());  // for people only
  return absl::OkStatus();
}

void JoinDeviceThread(pthread_t thread) { WEIR_CHECK(pthread_join(thread, nullptr) == 0); }

void SleepUntil(int64_t until_ns) {
  const RealClock clock;
  if (until_ns - clock.NowNs() > kSpinNs) {
    const timespec until = {.tv_sec = static_cast<time_t>(until_ns / 1'000'000'000),
                            .tv_nsec = static_cast<long>(until_ns % 1'000'000'000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
  }
  while (clock.NowNs() < until_ns) _mm_pause();
}

}  // namespace weir
