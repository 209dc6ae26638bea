// What the links of this machine deliver, measured the way the engine uses them: the disk through
// the project's own Reader at the engine's block size and depth, DRAM by threads that read it,
// arithmetic by the kernels' own instructions.
// Related: kernels/memory_limits.h (how much memory there is), engine/saved_ceilings.h (keeping
// what was measured). These calls block for about the time they are given.
#ifndef WEIR_ENGINE_HARDWARE_PROBE_H_
#define WEIR_ENGINE_HARDWARE_PROBE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/base.h"
#include "io/file.h"
#include "kernels/arithmetic_peak.h"

namespace weir {

struct DiskProbeOptions {
  std::string reader = "auto";      // as MakeReader takes it
  uint64_t block_bytes = 1 * kMiB;  // of each read; rounded up to the file's alignment
  uint32_t depth = 8;               // reads in flight
  // Memory that the reads go through in turn, as they go through an engine's ring; at least, and by
  // default, what is in flight. It counts: small rings stay in caches, even in those of a host.
  uint64_t footprint_bytes = 0;
  uint64_t start_bytes = 0;  // of the first read; rounded down, modulo the file's size
  // Each read is of a block of the file chosen at random, the first one at the start; `seed` and
  // start decide which. Otherwise reading goes on sequentially, from the start again after the end.
  bool is_random = false;
  uint64_t seed = 1;
  // Until one of the two is reached; 0: no such limit. Not both 0.
  uint64_t limit_bytes = 0;
  int64_t limit_ns = 1'000'000'000;
};

struct DiskProbeResult {
  std::string reader;        // Reader::name()
  bool is_direct = false;    // otherwise the page cache takes part
  uint64_t block_bytes = 0;  // after rounding
  uint32_t depth = 0;
  uint64_t read_bytes = 0;
  double seconds = 0;  // from the first submission to the last completion
  double bytes_per_s = 0;
  int64_t p50_latency_ns = 0;  // of one block, from submission to completion
  int64_t p99_latency_ns = 0;
  // What the kernel counted as fetched from storage meanwhile, by the whole process; absent where
  // /proc/self/io cannot be read.
  std::optional<uint64_t> kernel_read_bytes;
  uint64_t end_bytes = 0;  // where the next sequential read would start
  std::string note;        // what a reader of the figure must know; empty or whole sentences
};

// `memory` receives the reads: at least the footprint, aligned to the file's alignment and touched
// before; empty: memory is taken for this call. Errors: an empty file, options out of range, any
// failed read.
absl::StatusOr<DiskProbeResult> ProbeDisk(const File& file, const DiskProbeOptions& options,
                                          absl::Span<uint8_t> memory = {});

// About 150 ms, for use right before a run, which will read the same bytes again and again: a part
// of the file is read twice, and the second time counts. (The first may fill the caches of a
// virtual or remote disk's host.) The options' start and limits are not used.
// `memory` as in ProbeDisk.
absl::StatusOr<DiskProbeResult> ProbeDiskQuickly(const File& file, const DiskProbeOptions& options,
                                                 absl::Span<uint8_t> memory = {});

// The median time of a few single reads of `bytes`, one after the other.
absl::StatusOr<int64_t> ProbeDiskLatencyNs(const File& file, const std::string& reader,
                                           uint64_t bytes);

struct DiskSweepOptions {
  std::vector<std::string> readers = {"auto"};
  std::vector<uint64_t> block_bytes = {256 * kKiB, 1 * kMiB, 4 * kMiB};
  std::vector<uint32_t> depths = {1, 4, 16, 32};
  uint64_t footprint_bytes = 0;   // as in DiskProbeOptions, for every combination
  bool is_random = false;         // likewise
  int64_t cell_ns = 300'000'000;  // for one combination in one round
  // Every round visits all combinations, so that a disk that changes its pace changes it for all.
  int rounds = 3;
};

struct DiskSweepCell {
  DiskProbeResult median;      // the round whose rate is the median
  double low_bytes_per_s = 0;  // of the slowest and the fastest round
  double high_bytes_per_s = 0;
};

// Called after each probe with how many of how many are over; false ends the sweep (Cancelled).
using SweepProgress = std::function<bool(int done, int total, const DiskProbeResult& last)>;

// Cells in the order readers, block sizes, depths, the last changing fastest.
absl::StatusOr<std::vector<DiskSweepCell>> SweepDisk(const File& file,
                                                     const DiskSweepOptions& options,
                                                     const SweepProgress& progress);

// The reads that suit the disk best, of one reader: among the combinations within 3 % of the
// fastest the one with the most bytes in flight, which are slack when the thread that reads is
// late; but no more than `most_bytes`, unless there is nothing else. Null without a cell of that
// reader.
const DiskSweepCell* BestCell(absl::Span<const DiskSweepCell> cells, const std::string& reader,
                              uint64_t most_bytes);

// Of the first CPU, as /sys/devices/system/cpu/cpu0/cache tells; 0 where it does not. In a virtual
// machine it is the host's, shared with others. `root` as in io/system_files.h.
uint64_t LastLevelCacheBytes(const std::string& root = "");

struct MemoryProbeResult {
  uint32_t threads = 0;
  uint64_t read_bytes = 0;
  double seconds = 0;
  double bytes_per_s = 0;
};

// Reads `memory` over and over with `threads` threads, each its own part, for about `limit_ns`.
// The memory must be touched before, and be several times larger than the caches, or they are
// what is measured. Allocates nothing but the threads.
absl::StatusOr<MemoryProbeResult> ProbeMemoryRead(absl::Span<const uint8_t> memory,
                                                  uint32_t threads, int64_t limit_ns = 50'000'000);

// The rate of kernels/arithmetic_peak.h, operations a second of all `threads` together, for about
// `limit_ns` on a CPU device that is made for it. Errors as MakeCpuDevice.
absl::StatusOr<double> ProbeArithmetic(Arithmetic arithmetic, uint32_t threads,
                                       const std::string& isa, int64_t limit_ns = 50'000'000);

}  // namespace weir

#endif  // WEIR_ENGINE_HARDWARE_PROBE_H_
