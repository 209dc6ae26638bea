// What to do with the result of one read attempt: the one place where short reads, interrupted
// reads and device errors are judged. Pure; every Reader goes through it.
//
// The policy: a short read is resumed where it ended; EINTR and EAGAIN are repeated at once, up to
// kMaxBusyRetries times without a byte in between; EIO is repeated kMaxEioRetries times for each
// read, because a path failover or a link reset often clears it; any other error is final, and so
// is a read without an answer. A read that returns 0, or that reaches the file's known size, is at
// the end of the file.
#ifndef WEIR_IO_RETRY_POLICY_H_
#define WEIR_IO_RETRY_POLICY_H_

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"
#include "io/file.h"
#include "io/reader.h"

namespace weir {

inline constexpr uint32_t kMaxEioRetries = 4;
inline constexpr uint32_t kMaxBusyRetries = 10000;

// How far one contiguous read has come. A value; the memory is somebody else's.
struct ReadProgress {
  // For `file`, of `bytes` from `offset_bytes` on.
  static ReadProgress Begin(const File& file, uint64_t offset_bytes, uint64_t bytes);

  uint64_t offset_bytes = 0;     // in the file
  uint64_t bytes = 0;            // asked for
  uint64_t alignment_bytes = 1;  // of resumed reads; 1 when the file is buffered
  uint64_t file_bytes = 0;       // the file's size when it was opened
  uint64_t got_bytes = 0;        // contiguous from the start
  uint64_t resume_bytes = 0;     // where the next attempt starts: got_bytes aligned down
  uint32_t busy_retries = 0;     // since the last byte
  uint32_t eio_retries = 0;      // in all
  int error = 0;                 // the errno that ended it
};

enum class ReadStep {
  kDone,   // everything arrived, or the file ended
  kAgain,  // read [resume_bytes, bytes) next
  kFailed  // `error` says why
};

// `result` is what read(2) or a completion gave for the range [resume_bytes, bytes): a count, or
// a negative errno. Counts bytes, short reads and retries in `stats`.
ReadStep Advance(ReadProgress* progress, int64_t result, ReaderStats* stats);

// The error of a read that was given up after its timeout.
inline constexpr int kNoAnswer = ETIMEDOUT;

// The status of an op of which `got_bytes` contiguous bytes arrived before `error` (0: before the
// end of the file). OK when the required bytes are there. `timeout_ns` is how long kNoAnswer took.
absl::Status FinalStatus(const ReadOp& op, uint64_t got_bytes, int error, int64_t timeout_ns);

}  // namespace weir

#endif  // WEIR_IO_RETRY_POLICY_H_
