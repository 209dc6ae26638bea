// What reading a file through the page cache delivers: cold, when the kernel has to fetch it from
// the disk, and hot, when it has it all. The page cache is emptied of the file before, and asked
// whether it was.
#ifndef WEIR_ENGINE_BUFFERED_PROBE_H_
#define WEIR_ENGINE_BUFFERED_PROBE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/device_probe.h"

namespace weir {

struct BufferedProbeOptions {
  int64_t limit_ns = 300'000'000;    // of reading cold in one round; what was read is read hot
  uint64_t most_bytes = 1024 << 20;  // in one round
  int rounds = 3;
};

struct BufferedReads {
  RateSpread rate;
  uint64_t read_bytes = 0;  // in all rounds
  // What the kernel counted as fetched from storage meanwhile, by the whole process; absent where
  // /proc/self/io cannot be read.
  std::optional<uint64_t> kernel_read_bytes;
  // Of the file's pages those that the page cache had before: the most of the rounds when cold, the
  // least when hot. mincore tells (man 2 mincore), and says "all" to who may not write the file.
  double cached_share = 0;
};

struct BufferedProbeResult {
  uint64_t block_bytes = 0;  // of each read
  BufferedReads cold, hot;
};

// One thread reads on through the file, in each round from where it stopped. Called now and then:
// false ends it (Cancelled). Errors: a file that cannot be opened, mapped or read; an empty one.
absl::StatusOr<BufferedProbeResult> ProbeBuffered(const std::string& path,
                                                  const BufferedProbeOptions& options,
                                                  const std::function<bool()>& go_on);

}  // namespace weir

#endif  // WEIR_ENGINE_BUFFERED_PROBE_H_
