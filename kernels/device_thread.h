// Threads of a device: workers, copy engines, watchers.
#ifndef WEIR_KERNELS_DEVICE_THREAD_H_
#define WEIR_KERNELS_DEVICE_THREAD_H_

#include <pthread.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace weir {

// Starts a thread that runs `run(argument)`, to be joined by the caller. Signals stay with the
// program's own threads. `name` (at most 15 characters are kept) is what tools show.
// ResourceExhausted when the system has no thread left.
absl::Status StartDeviceThread(const std::string& name, void* (*run)(void*), void* argument,
                               pthread_t* thread);
void JoinDeviceThread(pthread_t thread);

// Returns when CLOCK_MONOTONIC is at least `until_ns`. The last microseconds are spun away, longer
// waits are slept.
void SleepUntil(int64_t until_ns);

}  // namespace weir

#endif  // WEIR_KERNELS_DEVICE_THREAD_H_
