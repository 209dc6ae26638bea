#include "kernels/cuda_watcher.h"

#include "kernels/device_thread.h"

namespace weir {

CudaWatcher::~CudaWatcher() {
  if (!is_started_) return;
  stopping_.store(true);  // the thread empties the ring first
  work_gate_.WakeAll();
  JoinDeviceThread(thread_);
}

absl::Status CudaWatcher::Start() {
  absl::Status started = StartDeviceThread("weir-cuda", &CudaWatcher::ThreadMain, this, &thread_);
  is_started_ = started.ok();
  return started;
}

void CudaWatcher::Notify(uint64_t sequence, void (*notify)(void*), void* argument) {
  const uint64_t number = published_.load();
  room_gate_.Wait([&] { return number - notified_.load() < kCapacity; }, 0);
  ring_[number % kCapacity] = {sequence, notify, argument};
  published_.store(number + 1);
  work_gate_.WakeAll();
}

void* CudaWatcher::ThreadMain(void* watcher) {
  static_cast<CudaWatcher*>(watcher)->Watch();
  return nullptr;
}

void CudaWatcher::Watch() {
  for (uint64_t next = 0;; ++next) {
    work_gate_.Wait([&] { return published_.load() > next || stopping_.load(); }, 0);
    if (published_.load() == next) return;
    const Entry entry = ring_[next % kCapacity];
    events_->Wait(entry.sequence);
    entry.notify(entry.argument);
    notified_.store(next + 1);
    room_gate_.WakeAll();
  }
}

}  // namespace weir
