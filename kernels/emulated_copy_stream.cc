#include "kernels/emulated_copy_stream.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/clock.h"
#include "kernels/device_thread.h"

namespace weir {
namespace {

constexpr int kNice = -10;

}  // namespace

EmulatedCopyStream::EmulatedCopyStream(EmulatedLink* in, EmulatedLink* out, uint32_t capacity)
    : in_(in), out_(out), ring_(capacity) {
  const absl::Status started =
      StartDeviceThread("weir-emu-copy", &EmulatedCopyStream::ThreadMain, this, &thread_);
  if (started.ok()) return;
  status_ = absl::ResourceExhaustedError(
      absl::StrCat(started.message(), " of the emulated device's copy engine. Use fewer threads."));
}

EmulatedCopyStream::~EmulatedCopyStream() {
  if (!status_.ok()) return;
  stopping_.store(true);  // the thread empties the ring first
  work_gate_.WakeAll();
  JoinDeviceThread(thread_);
}

void EmulatedCopyStream::Wait(Event event) {
  WEIR_CHECK(event.sequence <= published_.load());  // else of another stream: it might never come
  done_gate_.Wait([&] { return IsComplete(event); }, 0);
}

void EmulatedCopyStream::NotifyWhenComplete(void (*notify)(void*), void* argument) {
  Enqueue({.notify = notify, .argument = argument});
}

void EmulatedCopyStream::WaitFor(Stream& other, Event event) {
  if (&other == this || other.IsComplete(event)) return;
  Enqueue({.other = &other, .event = event});
}

void EmulatedCopyStream::CopyIn(uint8_t* device, const uint8_t* host, uint64_t bytes) {
  Enqueue({.link = in_,
           .to = device,
           .from = host,
           .bytes = bytes,
           .enqueued_ns = RealClock().NowNs()});
}

void EmulatedCopyStream::CopyOut(uint8_t* host, const uint8_t* device, uint64_t bytes) {
  Enqueue({.link = out_,
           .to = host,
           .from = device,
           .bytes = bytes,
           .enqueued_ns = RealClock().NowNs()});
}

void EmulatedCopyStream::Enqueue(const Entry& entry) {
  const uint64_t number = published_.load() + 1;
  if (!status_.ok()) {  // nobody would run it
    published_.store(number);
    completed_.store(number);
    if (entry.notify != nullptr) entry.notify(entry.argument);
    return;
  }
  if (number > ring_.size()) Wait(Event{number - ring_.size()});  // the entry that lay here before
  ring_[(number - 1) % ring_.size()] = entry;
  published_.store(number);
  work_gate_.WakeAll();
}

void* EmulatedCopyStream::ThreadMain(void* stream) {
  // By default the kernel lets every sleep last 50 us longer than asked.
  (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  // A copy engine of a real device does not compete with kernels for a core. Only a privileged
  // process may ask; another one loses some exactness while every core is busy.
  (void)setpriority(PRIO_PROCESS, 0, kNice);
  static_cast<EmulatedCopyStream*>(stream)->Work();
  return nullptr;
}

void EmulatedCopyStream::Work() {
  for (uint64_t next = 0;; ++next) {
    work_gate_.Wait([&] { return published_.load() > next || stopping_.load(); }, 0);
    if (published_.load() == next) return;
    Run(ring_[next % ring_.size()]);
    completed_.store(next + 1);
    done_gate_.WakeAll();
  }
}

void EmulatedCopyStream::Run(const Entry& entry) {
  if (entry.link != nullptr) {
    RunCopy(entry);
  } else if (entry.notify != nullptr) {
    entry.notify(entry.argument);
  } else if (!entry.other->IsComplete(entry.event)) {
    entry.other->Wait(entry.event);
    ready_ns_ = std::max(ready_ns_, RealClock().NowNs());
  }
  // A wait whose event came while the copy before it was still on its way costs nothing: this
  // thread cannot tell since when, and taking now for it would leave a gap on the link.
}

void EmulatedCopyStream::RunCopy(const Entry& copy) {
  const LinkWindow window = copy.link->Reserve(copy.bytes, std::max(copy.enqueued_ns, ready_ns_));
  ready_ns_ = window.end_ns;
  if (copy.bytes != 0) std::memcpy(copy.to, copy.from, copy.bytes);
  SleepUntil(window.arrival_ns);
}

}  // namespace weir
