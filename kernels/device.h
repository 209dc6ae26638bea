// Device, Stream, Event, Buffer: where kernels run, without any idea of a model.
//
// A Stream is an in-order queue of kernels and copies that run asynchronously to the host. Ops
// (kernels/ops.h) take a Stream and return at once. Two streams are ordered only through events
// (WaitFor), also across devices.
//
// An accelerator is a device with memory of its own, which host threads must not touch: bytes get
// there and back by CopyIn and CopyOut. On the CPU device both are plain copies.
// A stream is used by one host thread at a time; IsComplete, Wait and status by any. WaitFor and
// the like use both streams.
//
// A device that fails while it runs (status) completes whatever is enqueued, so that nobody waits
// for ever; the results mean nothing then.
// Contract test: tests/kernels/device_contract_test.cc, run against every Device.
#ifndef WEIR_KERNELS_DEVICE_H_
#define WEIR_KERNELS_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/base.h"

namespace weir {

// Whose ops run on a stream (kernels/ops.h). An emulated accelerator computes on streams of the CPU
// kind; its own kind is that of its copy streams, on which no op runs.
enum class DeviceKind : uint8_t { kCpu, kCuda, kEmulated };

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

// Work that was recorded on a stream, to be run there again and again for the cost of one call: a
// CUDA graph. Owned; destroyed before its device, when none of its runs is under way.
class Graph {
 public:
  virtual ~Graph() = default;
};

class Stream {
 public:
  virtual ~Stream() = default;  // waits for all work
  virtual DeviceKind kind() const = 0;
  // Of the stream since it was made: OK, or why it could not be made, or what failed later. Look
  // after waiting and before using what was waited for. Any thread; cheap.
  virtual absl::Status status() const { return absl::OkStatus(); }

  // Marks the work enqueued so far.
  virtual Event Record() = 0;
  // True when everything up to `event` has run. Never blocks. Any thread.
  virtual bool IsComplete(Event event) const = 0;
  // Blocks the caller until then.
  virtual void Wait(Event event) = 0;
  // Runs `notify(argument)` on a thread of the device's when the work enqueued so far has run. It
  // must be short, must not block and must not enqueue: it is there to wake an event loop.
  virtual void NotifyWhenComplete(void (*notify)(void*), void* argument) = 0;

  // What is enqueued here from now on begins only when `event` of `other` is complete. `other` is a
  // stream of any device and outlives that work. Does not block the caller.
  virtual void WaitFor(Stream& other, Event event) = 0;

  // Copies in the stream's order. `host` memory should be pinned (Device::Pin) and then lie in one
  // pinned range as a whole: from other memory a CUDA device copies slowly and may block the
  // caller. Both must stay valid until it has run.
  virtual void CopyIn(uint8_t* device, const uint8_t* host, uint64_t bytes) = 0;
  virtual void CopyOut(uint8_t* host, const uint8_t* device, uint64_t bytes) = 0;

  // Whether the stream has graphs; the other two calls are for such streams only.
  virtual bool has_graphs() const { return false; }
  // Records what `enqueue` enqueues on this stream instead of running it: ops, whose arguments stay
  // as they are, and which have run before in this program (code that is loaded at first use cannot
  // be recorded). `enqueue` calls nothing else of the stream. Null when the device has failed.
  virtual std::unique_ptr<Graph> RecordGraph(absl::FunctionRef<void()>) {
    WEIR_CHECK(has_graphs());
    return nullptr;
  }
  // Enqueues it as a whole. It is this stream's.
  virtual void RunGraph(const Graph&) { WEIR_CHECK(has_graphs()); }
};

// Host memory that a device's copy engine reaches directly, as long as this lives. Does not own the
// memory, which must outlive it.
class PinnedRange {
 public:
  virtual ~PinnedRange() = default;
};

// Of a device's own memory, within the budget it was made with; on the CPU device the machine's,
// and what this process may still take.
struct DeviceMemory {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
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
  // Of kernels and of copies.
  virtual std::unique_ptr<Stream> NewStream() = 0;
  // Of copies alone, which run beside the kernels of other streams. No op may be called on it.
  virtual std::unique_ptr<Stream> NewCopyStream() = 0;
  // Makes [data, data + bytes) fast to copy from and to. Blocks for the time that pinning takes,
  // which is short for huge pages that are there already and long for pages that it has to make;
  // any thread. AlreadyExists when a part of it is pinned already. The device outlives the range.
  virtual absl::StatusOr<std::unique_ptr<PinnedRange>> Pin(uint8_t* data, uint64_t bytes) = 0;
  virtual DeviceMemory memory() const = 0;
};

}  // namespace weir

#endif  // WEIR_KERNELS_DEVICE_H_
