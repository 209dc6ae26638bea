#include "io/retry_policy.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

ReadStep JudgeError(ReadProgress* progress, int error, ReaderStats* stats) {
  const bool is_busy = error == EINTR || error == EAGAIN;
  uint32_t* const used = is_busy ? &progress->busy_retries : &progress->eio_retries;
  const uint32_t allowed = is_busy ? kMaxBusyRetries : error == EIO ? kMaxEioRetries : 0;
  if (*used >= allowed) {
    progress->error = error;
    return ReadStep::kFailed;
  }
  ++*used;
  ++stats->retries;
  return ReadStep::kAgain;
}

}  // namespace

ReadProgress ReadProgress::Begin(const File& file, uint64_t offset_bytes, uint64_t bytes) {
  ReadProgress progress;
  progress.offset_bytes = offset_bytes;
  progress.bytes = bytes;
  progress.alignment_bytes = file.is_direct() ? file.alignment_bytes() : 1;
  progress.file_bytes = file.size_bytes();
  return progress;
}

ReadStep Advance(ReadProgress* progress, int64_t result, ReaderStats* stats) {
  if (result < 0) return JudgeError(progress, static_cast<int>(-result), stats);
  const uint64_t count = static_cast<uint64_t>(result);
  WEIR_CHECK(count <= progress->bytes - progress->resume_bytes);
  stats->bytes_read += count;
  const uint64_t end_bytes = progress->resume_bytes + count;
  // A direct read is resumed from an aligned place before the last byte, so bytes may repeat.
  const bool is_stuck = end_bytes <= progress->got_bytes;
  progress->got_bytes = std::max(progress->got_bytes, end_bytes);
  if (progress->got_bytes == progress->bytes) return ReadStep::kDone;
  if (is_stuck) return ReadStep::kDone;  // the end of the file, wherever it is now
  if (progress->offset_bytes + progress->got_bytes >= progress->file_bytes) return ReadStep::kDone;
  progress->resume_bytes = AlignDown(progress->got_bytes, progress->alignment_bytes);
  progress->busy_retries = 0;
  ++stats->short_reads;
  return ReadStep::kAgain;
}

absl::Status FinalStatus(const ReadOp& op, uint64_t got_bytes, int error, int64_t timeout_ns) {
  if (error == 0 && got_bytes >= op.required_bytes) return absl::OkStatus();
  const std::string where = absl::StrCat(op.file->path(), ": offset ", op.offset_bytes, ": wanted ",
                                         op.required_bytes, " bytes, got ", got_bytes);
  if (error == 0) {
    return absl::OutOfRangeError(
        absl::StrCat(where, ": the file ends there (it had ", op.file->size_bytes(),
                     " bytes when it was opened); it is incomplete or was cut while it was read"));
  }
  if (error == EIO) {
    return absl::DataLossError(absl::StrCat(where, ": ", strerror(error), ", also after ",
                                            kMaxEioRetries,
                                            " retries; look at the disk's health (dmesg)"));
  }
  if (error == kNoAnswer) {
    return absl::DeadlineExceededError(
        absl::StrCat(where, ": the disk has not answered for ", FormatDuration(timeout_ns),
                     "; look at its health and its link (dmesg), or wait longer with "
                     "--read-timeout"));
  }
  return absl::ErrnoToStatus(error, where);
}

}  // namespace weir
