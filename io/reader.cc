#include "io/reader.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "io/thread_reader.h"
#include "io/uring_reader.h"

namespace weir {
namespace {

constexpr uint32_t kMaxCapacity = 65536;
constexpr uint32_t kMaxDepth = 4096;
constexpr uint64_t kChunkUnitBytes = 512;

absl::Status OutOfLimits(std::string_view name, uint64_t value, std::string_view limits) {
  return absl::InvalidArgumentError(
      absl::StrCat("reader: ", AbslView(name), " ", value, " is not possible: ", AbslView(limits)));
}

}  // namespace

int64_t ReaderOptions::CurrentTimeoutNs() const {
  const bool cancelled = cancel != nullptr && cancel->load(std::memory_order_relaxed);
  return cancelled ? std::min(read_timeout_ns, kCancelledReadTimeoutNs) : read_timeout_ns;
}

int64_t ReaderOptions::LongestSleepNs() const {
  constexpr int64_t kLookNs = 100'000'000;
  constexpr int64_t kHourNs = 3'600'000'000'000;  // far from what overflows a clock's type
  return cancel == nullptr ? kHourNs : kLookNs;
}

absl::Status ValidateReaderOptions(const ReaderOptions& options) {
  if (options.capacity == 0 || options.capacity > kMaxCapacity) {
    return OutOfLimits("capacity", options.capacity, "1 to 65536 operations");
  }
  if (options.depth == 0 || options.depth > kMaxDepth) {
    return OutOfLimits("depth", options.depth, "1 to 4096 reads in flight");
  }
  if (options.chunk_bytes == 0 || options.chunk_bytes > kGiB ||
      options.chunk_bytes % kChunkUnitBytes != 0) {
    return OutOfLimits("chunk size", options.chunk_bytes, "a multiple of 512 up to 1 GiB");
  }
  if (options.read_timeout_ns <= 0) {
    return absl::InvalidArgumentError("reader: the time that a read may take must be more than 0");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Reader>> MakeReader(std::string_view kind,
                                                   const ReaderOptions& options,
                                                   std::string* note) {
  return MakeReader(kind, options, note, &io_uring_queue_init_params);
}

absl::StatusOr<std::unique_ptr<Reader>> MakeReader(std::string_view kind,
                                                   const ReaderOptions& options, std::string* note,
                                                   UringSetup setup) {
  note->clear();
  WEIR_RETURN_IF_ERROR(ValidateReaderOptions(options));
  if (kind == "threads") return ThreadReader::Create(options);
  if (kind != "uring" && kind != "auto") {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown reader \"", AbslView(kind), "\"; known: auto, uring, threads"));
  }
  absl::StatusOr<std::unique_ptr<Reader>> uring = UringReader::Create(options, setup);
  if (uring.ok()) return uring;
  if (kind == "uring") {
    return absl::Status(uring.status().code(),
                        absl::StrCat(uring.status().message(), "; use --reader threads instead"));
  }
  *note = absl::StrCat(uring.status().message(), ", so reads go through threads.");
  return ThreadReader::Create(options);
}

}  // namespace weir
