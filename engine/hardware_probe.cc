#include "engine/hardware_probe.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>

#include "absl/strings/str_cat.h"
#include "io/clock.h"
#include "io/reader.h"
#include "io/split_mix.h"
#include "kernels/host_memory.h"
#include "kernels/memory_limits.h"

namespace weir {
namespace {

constexpr uint64_t kPageBytes = 4096;  // file alignments divide it
constexpr int64_t kQuickProbeNs = 80'000'000;
constexpr uint64_t kLatencyReads = 16;
constexpr double kNearlyFastest = 0.97;
constexpr uint64_t kMaxMemoryBytes = 2 * kGiB;
constexpr size_t kMaxLatencies = 65536;  // kept for the percentiles: the first so many
// The kernel counts whole pages and readahead, so small differences mean nothing.
constexpr double kCounterTolerance = 0.02;

// As the engine takes it (huge pages where there are any), and touched: page faults are no part of
// the disk's time.
absl::StatusOr<std::unique_ptr<Buffer>> TakeMemory(const char* what, uint64_t bytes) {
  absl::StatusOr<std::unique_ptr<Buffer>> memory = MapHostMemory(bytes, kPageBytes);
  if (!memory.ok()) {
    return absl::Status(memory.status().code(),
                        absl::StrCat(what, ": ", memory.status().message()));
  }
  TouchZeroPages((*memory)->data(), bytes);
  return memory;
}

// Keeps `depth` reads in flight, through the file as the options say and one after another through
// the memory.
class ProbeReads {
 public:
  ProbeReads(const File& file, const DiskProbeOptions& options, uint64_t block_bytes,
             Reader* reader, absl::Span<uint8_t> memory)
      : file_(file), options_(options), block_bytes_(block_bytes), reader_(reader) {
    const uint64_t start_bytes = options.start_bytes % file.size_bytes();
    next_bytes_ = AlignDown(start_bytes, options.is_random ? block_bytes : file.alignment_bytes());
    random_ = MixBits(options.seed ^ start_bytes);
    ops_.resize(memory.size() / block_bytes);
    for (size_t i = 0; i < ops_.size(); ++i) {
      ops_[i].file = &file;
      ops_[i].buffer = memory.data() + i * block_bytes;
      idle_.push_back(&ops_[i]);
    }
    done_.resize(options.depth);
    latencies_ns_.reserve(kMaxLatencies);
  }

  absl::Status Run() {
    start_ns_ = clock_.NowNs();
    for (uint32_t i = 0; i < options_.depth; ++i) StartNext();
    while (reader_->in_flight() > 0) {
      const size_t count = reader_->Wait(absl::MakeSpan(done_), -1);
      for (size_t i = 0; i < count; ++i) {
        WEIR_RETURN_IF_ERROR(Account(*done_[i]));
        idle_.push_back(done_[i]);
        StartNext();
      }
    }
    return absl::OkStatus();
  }

  uint64_t read_bytes() const { return read_bytes_; }
  uint64_t next_bytes() const { return next_bytes_; }
  double seconds() const { return static_cast<double>(last_done_ns_ - start_ns_) * 1e-9; }

  int64_t LatencyNs(double share) {
    if (latencies_ns_.empty()) return 0;
    const double last = static_cast<double>(latencies_ns_.size() - 1);
    const auto at = latencies_ns_.begin() + static_cast<ptrdiff_t>(share * last);
    std::nth_element(latencies_ns_.begin(), at, latencies_ns_.end());
    return *at;
  }

 private:
  bool MayGoOn() const {
    if (options_.limit_bytes > 0 && asked_bytes_ >= options_.limit_bytes) return false;
    return options_.limit_ns <= 0 || clock_.NowNs() - start_ns_ < options_.limit_ns;
  }

  void StartNext() {
    if (asked_bytes_ > 0 && !MayGoOn()) return;
    ReadOp* const op = idle_.front();
    idle_.pop_front();
    op->offset_bytes = next_bytes_;
    op->required_bytes = std::min(block_bytes_, file_.size_bytes() - next_bytes_);
    op->bytes = AlignUp(op->required_bytes, file_.alignment_bytes());
    asked_bytes_ += op->required_bytes;
    next_bytes_ = NextBytes(*op);
    reader_->Submit(op);
  }

  uint64_t NextBytes(const ReadOp& op) {
    if (options_.is_random) {
      return SplitMix64(&random_) % CeilDiv(file_.size_bytes(), block_bytes_) * block_bytes_;
    }
    const uint64_t next_bytes = op.offset_bytes + op.bytes;
    return next_bytes < file_.size_bytes() ? next_bytes : 0;
  }

  absl::Status Account(const ReadOp& op) {
    WEIR_RETURN_IF_ERROR(op.status);
    read_bytes_ += op.got_bytes;
    last_done_ns_ = std::max(last_done_ns_, op.done_ns);
    if (latencies_ns_.size() < kMaxLatencies) latencies_ns_.push_back(op.done_ns - op.submit_ns);
    return absl::OkStatus();
  }

  const RealClock clock_;
  const File& file_;
  const DiskProbeOptions& options_;
  const uint64_t block_bytes_;
  Reader* const reader_;
  std::vector<ReadOp> ops_;
  std::deque<ReadOp*> idle_;  // the one that was used longest ago first
  std::vector<ReadOp*> done_;
  std::vector<int64_t> latencies_ns_;
  uint64_t next_bytes_ = 0;
  uint64_t random_ = 0;
  uint64_t asked_bytes_ = 0;
  uint64_t read_bytes_ = 0;
  int64_t start_ns_ = 0;
  int64_t last_done_ns_ = 0;
};

absl::Status CheckOptions(const File& file, const DiskProbeOptions& options) {
  if (file.size_bytes() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(), " is empty: there is nothing to measure"));
  }
  if (options.limit_bytes == 0 && options.limit_ns <= 0) {
    return absl::InvalidArgumentError("disk probe: neither bytes nor time are limited");
  }
  uint64_t memory_bytes = 0;
  if (options.block_bytes == 0 || options.depth == 0 ||
      !CheckedMul(options.block_bytes, options.depth, &memory_bytes) ||
      std::max(memory_bytes, options.footprint_bytes) > kMaxMemoryBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "disk probe: ", options.depth, " reads of ", options.block_bytes,
        " bytes in flight are not possible: at least 1 of each, at most 2 GiB together"));
  }
  return absl::OkStatus();
}

// Whole blocks.
uint64_t FootprintBytes(const File& file, const DiskProbeOptions& options) {
  const uint64_t block_bytes = AlignUp(options.block_bytes, file.alignment_bytes());
  return std::max<uint64_t>(options.depth, CeilDiv(options.footprint_bytes, block_bytes)) *
         block_bytes;
}

void AddSentence(std::string* note, absl::string_view sentence) {
  if (!note->empty()) note->push_back(' ');
  absl::StrAppend(note, sentence);
}

void CompareWithKernel(DiskProbeResult* result) {
  if (!result->kernel_read_bytes) {
    AddSentence(&result->note, "The kernel's read counter (/proc/self/io) is unavailable.");
    return;
  }
  const double own = static_cast<double>(result->read_bytes);
  const double kernels = static_cast<double>(*result->kernel_read_bytes);
  if (std::abs(kernels - own) <= kCounterTolerance * own) return;
  AddSentence(&result->note,
              absl::StrCat("The kernel counted ", *result->kernel_read_bytes,
                           " bytes from storage where ", result->read_bytes, " were read."));
}

}  // namespace

absl::StatusOr<DiskProbeResult> ProbeDisk(const File& file, const DiskProbeOptions& options,
                                          absl::Span<uint8_t> memory) {
  WEIR_RETURN_IF_ERROR(CheckOptions(file, options));
  DiskProbeResult result;
  result.block_bytes = AlignUp(options.block_bytes, file.alignment_bytes());
  result.depth = options.depth;
  result.is_direct = file.is_direct();
  std::unique_ptr<Buffer> owned;
  uint8_t* buffer = memory.data();
  const uint64_t needed_bytes = FootprintBytes(file, options);
  if (memory.empty()) {
    WEIR_ASSIGN_OR_RETURN(owned, TakeMemory("disk probe", needed_bytes));
    buffer = owned->data();
  } else {
    WEIR_CHECK(memory.size() >= needed_bytes);
  }
  ReaderOptions reader_options;
  reader_options.capacity = reader_options.depth = options.depth;
  reader_options.chunk_bytes = result.block_bytes;
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Reader> reader,
                        MakeReader(options.reader, reader_options, &result.note));
  result.reader = std::string(reader->name());
  if (!file.is_direct()) {
    AddSentence(&result.note, absl::StrCat("Reads are buffered, so the page cache may take part: ",
                                           file.buffered_reason(), "."));
  }
  const std::optional<uint64_t> kernel_before = ReadProcessCounters().disk_read_bytes;
  ProbeReads reads(file, options, result.block_bytes, reader.get(),
                   absl::MakeSpan(buffer, needed_bytes));
  const absl::Status status = reads.Run();
  reader.reset();  // after a failure others may still be in flight into `reads`
  WEIR_RETURN_IF_ERROR(status);
  const std::optional<uint64_t> kernel_after = ReadProcessCounters().disk_read_bytes;
  if (kernel_before && kernel_after) result.kernel_read_bytes = *kernel_after - *kernel_before;
  result.read_bytes = reads.read_bytes();
  result.seconds = reads.seconds();
  result.bytes_per_s = static_cast<double>(result.read_bytes) / std::max(result.seconds, 1e-9);
  result.p50_latency_ns = reads.LatencyNs(0.50);
  result.p99_latency_ns = reads.LatencyNs(0.99);
  result.end_bytes = reads.next_bytes();
  CompareWithKernel(&result);
  return result;
}

absl::StatusOr<DiskProbeResult> ProbeDiskQuickly(const File& file, const DiskProbeOptions& options,
                                                 absl::Span<uint8_t> memory) {
  WEIR_RETURN_IF_ERROR(CheckOptions(file, options));
  std::unique_ptr<Buffer> owned;
  absl::Span<uint8_t> span = memory;
  if (memory.empty()) {
    const uint64_t memory_bytes = FootprintBytes(file, options);
    WEIR_ASSIGN_OR_RETURN(owned, TakeMemory("disk probe", memory_bytes));
    span = absl::MakeSpan(owned->data(), memory_bytes);
  }
  DiskProbeOptions part = options;
  part.start_bytes = file.size_bytes() / 3;
  part.limit_bytes = 0;
  part.limit_ns = kQuickProbeNs;
  WEIR_ASSIGN_OR_RETURN(const DiskProbeResult first, ProbeDisk(file, part, span));
  part.limit_bytes = first.read_bytes;
  part.limit_ns = 2 * kQuickProbeNs;  // only if it has become slower
  return ProbeDisk(file, part, span);
}

absl::StatusOr<int64_t> ProbeDiskLatencyNs(const File& file, const std::string& reader,
                                           uint64_t bytes) {
  DiskProbeOptions single;
  single.reader = reader;
  single.block_bytes = bytes;
  single.depth = 1;
  single.limit_bytes = kLatencyReads * bytes;
  single.limit_ns = kQuickProbeNs;
  WEIR_ASSIGN_OR_RETURN(const DiskProbeResult result, ProbeDisk(file, single));
  return result.p50_latency_ns;
}

absl::StatusOr<std::vector<DiskSweepCell>> SweepDisk(const File& file,
                                                     const DiskSweepOptions& options,
                                                     const SweepProgress& progress) {
  std::vector<DiskProbeOptions> cells;
  uint64_t memory_bytes = 0;
  for (const std::string& reader : options.readers) {
    for (const uint64_t block_bytes : options.block_bytes) {
      for (const uint32_t depth : options.depths) {
        DiskProbeOptions cell;
        cell.reader = reader;
        cell.block_bytes = block_bytes;
        cell.depth = depth;
        cell.footprint_bytes = options.footprint_bytes;
        cell.is_random = options.is_random;
        cell.limit_ns = options.cell_ns;
        WEIR_RETURN_IF_ERROR(CheckOptions(file, cell));
        memory_bytes = std::max(memory_bytes, FootprintBytes(file, cell));
        cells.push_back(cell);
      }
    }
  }
  if (cells.empty() || options.rounds < 1) {
    return absl::InvalidArgumentError("disk sweep: nothing to measure");
  }
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> memory,
                        TakeMemory("disk sweep", memory_bytes));
  std::vector<std::vector<DiskProbeResult>> results(cells.size());
  const int total = static_cast<int>(cells.size()) * options.rounds;
  int done = 0;
  uint64_t start_bytes = 0;  // each probe goes on where the last one ended
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i < cells.size(); ++i) {
      cells[i].start_bytes = start_bytes;
      WEIR_ASSIGN_OR_RETURN(
          DiskProbeResult result,
          ProbeDisk(file, cells[i], absl::MakeSpan(memory->data(), memory_bytes)));
      start_bytes = result.end_bytes;
      results[i].push_back(result);
      ++done;
      if (progress && !progress(done, total, result)) {
        return absl::CancelledError("the disk sweep was interrupted");
      }
    }
  }
  std::vector<DiskSweepCell> table;
  for (std::vector<DiskProbeResult>& rounds : results) {
    std::sort(rounds.begin(), rounds.end(),
              [](const auto& a, const auto& b) { return a.bytes_per_s < b.bytes_per_s; });
    table.push_back(
        {rounds[rounds.size() / 2], rounds.front().bytes_per_s, rounds.back().bytes_per_s});
  }
  return table;
}

const DiskSweepCell* BestCell(absl::Span<const DiskSweepCell> cells, const std::string& reader,
                              uint64_t most_bytes) {
  const auto in_flight = [](const DiskSweepCell& cell) {
    return cell.median.block_bytes * cell.median.depth;
  };
  const DiskSweepCell* fastest = nullptr;
  for (const DiskSweepCell& cell : cells) {
    if (cell.median.reader != reader) continue;
    if (fastest == nullptr || cell.median.bytes_per_s > fastest->median.bytes_per_s) {
      fastest = &cell;
    }
  }
  const DiskSweepCell* best = fastest;
  for (const DiskSweepCell& cell : cells) {
    if (cell.median.reader != reader || in_flight(cell) > most_bytes) continue;
    if (cell.median.bytes_per_s < kNearlyFastest * fastest->median.bytes_per_s) continue;
    if (in_flight(*best) > most_bytes || in_flight(cell) > in_flight(*best)) best = &cell;
  }
  return best;
}

}  // namespace weir
