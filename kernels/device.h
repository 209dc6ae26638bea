// Device, Stream, Event, Buffer: where kernels run, without any idea of a model.
//
// A Stream is an in-order queue of kernels and copies that run asynchronously to the host. Ops
// (kernels/ops.h) take a Stream and return at once. Two streams are ordered only through events.
// Contract test: tests/kernels/device_contract_test.cc, run against every Device.
#ifndef WEIR_KERNELS_DEVICE_H_
#define WEIR_KERNELS_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "io/base.h"

namespace weir {

enum class DeviceKind : uint8_t { kCpu, kCuda };

// Memory of a device, owned. The address never changes; freed on destruction, which the owner must
// delay until no stream uses it.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual uint8_t* data() const = 0;  // device address; on the CPU device, ordinary memory
  virtual uint64_t size_bytes() const = 0;
};

// A point in a stream, as a value: `stream`'s work up to and including number `sequence`.
struct Event {
  uint64_t sequence = 0;  // 0 is the beginning: always complete
};

class Stream {
 public:
  virtual ~Stream() = default;  // waits for all work
  virtual DeviceKind kind() const = 0;

  // Marks the work enqueued so far.
  virtual Event Record() = 0;
  // True when everything up to `event` has run. Never blocks. Any thread.
  virtual bool IsComplete(Event event) const = 0;
  // Blocks the caller until then.
  virtual void Wait(Event event) = 0;
  // Runs `notify(argument)` on a thread of the device's when the work enqueued so far has run. It
  // must be short, must not block and must not enqueue: it is there to wake an event loop.
  virtual void NotifyWhenComplete(void (*notify)(void*), void* argument) = 0;
};

// When the pages of new memory are taken from the system.
enum class Touch : uint8_t {
  kNow,         // before Allocate returns: nothing waits for a page later
  kAtFirstUse,  // as the memory is written: for much memory that reads fill one after the other
};

class Device {
 public:
  virtual ~Device() = default;  // after its streams and buffers
  virtual DeviceKind kind() const = 0;
  virtual std::string name() const = 0;  // "cpu (2 threads, AVX3_DL)"

  // `alignment_bytes` is a power of two. The memory reads as zeros. With ResourceExhausted the
  // message says what was asked and what is free.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(uint64_t bytes, uint64_t alignment_bytes,
                                                           Touch touch) = 0;
  virtual std::unique_ptr<Stream> NewStream() = 0;
};

}  // namespace weir

#endif  // WEIR_KERNELS_DEVICE_H_
