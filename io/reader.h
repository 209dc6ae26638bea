// Reader: asynchronous reads of file ranges into the caller's memory. The one way weights come off
// a disk. Implementations: UringReader, ThreadReader, FaultReader (wraps another).
//
// Contract (tests/io/reader_contract_test.cc runs it against every implementation):
//  * A ReadOp and its buffer belong to the caller, but are the Reader's from Submit until Wait
//    hands the op back; every submitted op is handed back exactly once, in any order.
//  * Submit never blocks on I/O. Neither Submit nor Wait allocates, but for the message of a failed
//    op. A Reader holds at most capacity() ops, finished ones included until Wait hands them back;
//    Submit to a full one is a bug of the caller (checked): ask `in_flight() < capacity()`.
//  * Large ops may be split into chunk reads and short reads are resumed inside: an op is done only
//    when `bytes` arrived, the file ended at or after `required_bytes`, or it failed. The bytes
//    before got_bytes are the file's; those after it are unspecified.
//  * EINTR, EAGAIN and EIO are retried a bounded number of times (io/retry_policy.h); what is left
//    is reported in `status` with file, offset, bytes wanted and bytes got. A file that ends before
//    `required_bytes` is OutOfRange.
//  * A read that the kernel has not answered after read_timeout_ns is cancelled if the kernel lets
//    it, and its op fails with DeadlineExceeded. One that cannot be cancelled may still write to
//    its buffer: it counts as stuck() until the kernel answers. Until stuck() is 0 again nothing
//    else is read (ops come back with the same error) and the buffers of failed ops must stay as
//    they are.
//  * Pages that a buffered file's reads left in the page cache are given back to the kernel.
//  * One thread calls Submit and Wait. Wake alone may be called from any thread.
//  * The destructor waits for (or cancels) what is in flight, stuck reads included, however long
//    that takes; no buffer is touched after it. Who cannot wait destroys the Reader, and then the
//    buffers, on another thread.
#ifndef WEIR_IO_READER_H_
#define WEIR_IO_READER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/base.h"
#include "io/file.h"

namespace weir {

struct ReadOp {
  // Filled in by the caller.
  const File* file = nullptr;
  uint64_t offset_bytes = 0;    // multiple of file->alignment_bytes() when the file is direct
  uint8_t* buffer = nullptr;    // likewise aligned; `bytes` long
  uint64_t bytes = 0;           // likewise a multiple
  uint64_t required_bytes = 0;  // <= bytes; fewer than `bytes` may arrive only at the file's end
  uint64_t tag = 0;             // the caller's, untouched

  // Filled in by the Reader before Wait hands the op back.
  absl::Status status;
  uint64_t got_bytes = 0;
  int64_t submit_ns = 0;  // CLOCK_MONOTONIC
  int64_t done_ns = 0;

  void* reader_state = nullptr;  // the Reader's own while in flight
};

struct ReaderStats {
  uint64_t ops_done = 0;
  uint64_t bytes_read = 0;   // as returned by the kernel
  uint64_t short_reads = 0;  // resumed
  uint64_t retries = 0;      // after EAGAIN, EINTR or EIO
  uint64_t failures = 0;     // ops handed back with an error
  uint64_t cpu_ns = 0;       // CPU time of the Reader's own threads, where it has some
};

// Disks recover from link resets and failovers within half a minute; after a minute none does.
inline constexpr int64_t kDefaultReadTimeoutNs = 60'000'000'000;
inline constexpr int64_t kCancelledReadTimeoutNs = 2'000'000'000;

struct ReaderOptions {
  uint32_t capacity = 64;           // ops in flight at most; 1 to 65536
  uint64_t chunk_bytes = 1 * kMiB;  // larger ops are split into reads of this size, rounded up to
                                    // the file's alignment; a multiple of 512, at most 1 GiB
  uint32_t depth = 32;              // chunk reads in flight at most; 1 to 4096
  int64_t read_timeout_ns = kDefaultReadTimeoutNs;  // of one chunk read; more than 0
  // While set, a chunk read has kCancelledReadTimeoutNs at most: whoever wants to end does not wait
  // for a disk that hangs. Wait looks at it ten times a second. May be null; outlives the Reader.
  const std::atomic<bool>* cancel = nullptr;

  // What holds now.
  int64_t CurrentTimeoutNs() const;
  // How long Wait may sleep without a look at `cancel`.
  int64_t LongestSleepNs() const;
};

class Reader {
 public:
  virtual ~Reader() = default;

  virtual std::string_view name() const = 0;  // "uring", "threads", "fault(uring)"
  virtual uint32_t capacity() const = 0;
  virtual uint32_t in_flight() const = 0;
  // Reads that were given up and may still write to memory. Looks at what came back meanwhile.
  virtual uint32_t stuck() = 0;

  virtual void Submit(ReadOp* op) = 0;
  // Hands back up to done.size() finished ops and returns their number. Blocks until there is at
  // least one, Wake is called, or timeout_ns has passed (0 polls, negative waits for ever); then 0.
  // Returns 0 before the timeout only after Wake. `done` is not empty.
  virtual size_t Wait(absl::Span<ReadOp*> done, int64_t timeout_ns) = 0;
  // From any thread: makes the present, or else the next, Wait return. Wakes are not counted.
  virtual void Wake() = 0;

  virtual ReaderStats stats() const = 0;
};

// "auto" tries io_uring and falls back to threads; `*note` then holds one sentence that says why,
// and is cleared otherwise. "uring" and "threads" are taken at their word or refused. Options out
// of range are InvalidArgument.
absl::StatusOr<std::unique_ptr<Reader>> MakeReader(std::string_view kind,
                                                   const ReaderOptions& options, std::string* note);

// What MakeReader and the constructors of readers accept.
absl::Status ValidateReaderOptions(const ReaderOptions& options);

}  // namespace weir

#endif  // WEIR_IO_READER_H_
