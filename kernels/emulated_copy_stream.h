// The copy engine of an emulated accelerator: an in-order queue of copies, waits and notifications
// that a thread of its own works off. Private to kernels/.
#ifndef WEIR_KERNELS_EMULATED_COPY_STREAM_H_
#define WEIR_KERNELS_EMULATED_COPY_STREAM_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/device.h"
#include "kernels/emulated_link.h"
#include "kernels/wait_gate.h"

namespace weir {

class EmulatedCopyStream final : public Stream {
 public:
  // The links outlive the stream. Enqueuing more than `capacity` entries that have not run blocks
  // the host; nothing is allocated after construction.
  EmulatedCopyStream(EmulatedLink* in, EmulatedLink* out, uint32_t capacity);
  ~EmulatedCopyStream() override;

  DeviceKind kind() const override { return DeviceKind::kEmulated; }
  absl::Status status() const override { return status_; }
  Event Record() override { return Event{published_.load()}; }
  bool IsComplete(Event event) const override { return completed_.load() >= event.sequence; }
  void Wait(Event event) override;
  void NotifyWhenComplete(void (*notify)(void*), void* argument) override;
  void WaitFor(Stream& other, Event event) override;
  void CopyIn(uint8_t* device, const uint8_t* host, uint64_t bytes) override;
  void CopyOut(uint8_t* host, const uint8_t* device, uint64_t bytes) override;

 private:
  // One of the three, told by which pointer is set.
  struct Entry {
    EmulatedLink* link = nullptr;  // a copy
    uint8_t* to = nullptr;
    const uint8_t* from = nullptr;
    uint64_t bytes = 0;
    int64_t enqueued_ns = 0;
    Stream* other = nullptr;  // a wait
    Event event = {};
    void (*notify)(void*) = nullptr;  // a notification
    void* argument = nullptr;
  };

  static void* ThreadMain(void* stream);
  void Enqueue(const Entry& entry);
  void Work();
  void Run(const Entry& entry);
  void RunCopy(const Entry& copy);

  EmulatedLink* const in_;
  EmulatedLink* const out_;
  std::vector<Entry> ring_;  // entry number n lies at (n - 1) % capacity
  absl::Status status_;      // why there is no thread
  pthread_t thread_;
  // When the next copy may begin as far as this stream's order goes. The thread's own.
  int64_t ready_ns_ = 0;

  std::atomic<bool> stopping_{false};
  alignas(64) std::atomic<uint64_t> published_{0};  // entries in the ring so far
  alignas(64) std::atomic<uint64_t> completed_{0};  // entries that have run
  WaitGate work_gate_;
  WaitGate done_gate_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_EMULATED_COPY_STREAM_H_
