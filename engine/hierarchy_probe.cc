#include "engine/hierarchy_probe.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/rate_for.h"
#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/cpu_topology.h"
#include "kernels/host_memory.h"
#include "kernels/memory_passes.h"

namespace weir {
namespace {

constexpr uint64_t kLeastMemoryBytes = 256 * kMiB;
constexpr uint64_t kLeastCurveBytes = 4 * kKiB;
constexpr uint64_t kPageBytes = 4 * kKiB;
// As in `weir probe memory`: the processor's own prefetchers are then not the limit.
constexpr uint64_t kAheadBytes = 32 * kKiB;
constexpr uint64_t kCallBytes = 256 * kKiB;    // passes between two looks at the clock
constexpr uint64_t kCallLoads = 4096;          // loads between two
constexpr uint64_t kMostWarmLoads = 1 << 20;   // caches hold no more lines
constexpr double kLinkNs = 60, kLoadNs = 150;  // of a line that is far: for the progress
constexpr int64_t kClockNs = 1'000'000;        // of counting additions, beside each latency
constexpr MemoryPass kPasses[kMemoryPasses] = {MemoryPass::kRead, MemoryPass::kWrite,
                                               MemoryPass::kCopy};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Of lines that are `bytes` in all.
uint64_t WarmLoads(uint64_t bytes) { return std::min(bytes / 64, kMostWarmLoads); }

// What one core measures alone. Filled by worker 0 of a team; a kernel gets its address.
struct LatencyCell {
  absl::Span<uint8_t> lines;
  int64_t limit_ns = 0;
  double ns = 0;
  double clock_hz = 0;

  void Measure(bool first) {
    // All that may be near is near then.
    const void* line = FollowLines(lines.data(), first ? WarmLoads(lines.size()) : 0);
    const double loads_per_s = RateFor(limit_ns, [&] {
      line = FollowLines(line, kCallLoads);
      return kCallLoads;
    });
    WEIR_CHECK(line != nullptr);
    ns = 1e9 / loads_per_s;
    clock_hz = RateFor(kClockNs, [] { return AddInTurn(kCallLoads) != 0 ? kCallLoads : 0; });
  }
};

// Passes of some workers over parts of one memory.
struct BandwidthCell {
  MemoryPass pass = MemoryPass::kRead;
  uint8_t* memory = nullptr;
  uint64_t stride_bytes = 0;  // from worker to worker
  uint64_t part_bytes = 0;
  uint64_t ahead_bytes = 0;
  int64_t limit_ns = 0;
  uint32_t workers = 1;             // the first so many
  std::vector<double> bytes_per_s;  // by worker

  void Measure(uint32_t worker) {
    const absl::Span<uint8_t> part(memory + worker * stride_bytes, part_bytes);
    const auto rounds = static_cast<uint32_t>(std::max<uint64_t>(1, kCallBytes / part_bytes));
    RunMemoryPass(pass, part, 1, ahead_bytes);  // near now
    bytes_per_s[worker] =
        RateFor(limit_ns, [&] { return RunMemoryPass(pass, part, rounds, ahead_bytes); });
  }
};

class HierarchyProbe {
 public:
  HierarchyProbe(const HierarchyProbeOptions& options, const HierarchyProgress& progress)
      : options_(options), progress_(progress) {}

  absl::StatusOr<CpuHierarchy> Run() {
    WEIR_RETURN_IF_ERROR(Open());
    for (const uint64_t bytes : CurveBytes()) WEIR_RETURN_IF_ERROR(MeasureLatency(bytes));
    TellSteps();
    found_.clock_hz = Median(clocks_);
    for (int round = 0; round < options_.rounds; ++round) {
      for (size_t i = 0; i < found_.levels.size(); ++i) {
        WEIR_RETURN_IF_ERROR(MeasureBandwidth(i));
      }
    }
    for (size_t i = 0; i < found_.levels.size(); ++i) {
      for (int pass = 0; pass < kMemoryPasses; ++pass) {
        found_.levels[i].one_core[pass] = SpreadOfRates(rates_[i][0][pass]);
        found_.levels[i].all_cores[pass] = SpreadOfRates(rates_[i][1][pass]);
      }
    }
    return std::move(found_);
  }

 private:
  absl::Status Open() {
    const std::vector<HardwareThread> usable = UsableThreads();
    found_.threads = std::max(1u, CountCores(usable));
    for (const LevelPlan& plan : PlanLevels(CpuCaches(usable.empty() ? 0 : usable[0].number))) {
      MemoryLevel level;
      level.plan = plan;
      found_.levels.push_back(level);
    }
    rates_.resize(found_.levels.size());
    WEIR_ASSIGN_OR_RETURN(device_, MakeCpuDevice({.threads = found_.threads}));
    stream_ = device_->NewStream();
    // Room for each worker's own part of any cache, too.
    memory_bytes_ = found_.levels.back().plan.probe_bytes;
    WEIR_ASSIGN_OR_RETURN(memory_, MapHostMemory(memory_bytes_, kPageBytes));
    TouchZeroPages(memory_->data(), memory_bytes_);
    for (const uint64_t bytes : CurveBytes()) expected_ns_ += LatencyNs(bytes);
    expected_ns_ += BandwidthNs() * static_cast<double>(found_.levels.size() * kMemoryPasses * 2) *
                    options_.rounds;
    return absl::OkStatus();
  }

  // Half an octave apart, and what stands for the levels.
  std::set<uint64_t> CurveBytes() const {
    std::set<uint64_t> all;
    for (double bytes = kLeastCurveBytes; bytes < static_cast<double>(memory_bytes_);
         bytes *= std::sqrt(2.0)) {
      all.insert(AlignDown(static_cast<uint64_t>(bytes), 64));
    }
    for (const MemoryLevel& level : found_.levels) all.insert(level.plan.probe_bytes);
    return all;
  }

  // What measurements take, about.
  double LatencyNs(uint64_t bytes) const {
    const double lines = static_cast<double>(bytes) / 64;
    return options_.rounds * static_cast<double>(options_.cell_ns + kClockNs) + lines * kLinkNs +
           static_cast<double>(WarmLoads(bytes)) * kLoadNs;
  }
  double BandwidthNs() const { return static_cast<double>(options_.cell_ns); }

  absl::Status Tell(double ns) {
    done_ns_ += ns;
    if (progress_ && !progress_(std::min(1.0, done_ns_ / expected_ns_))) {
      return absl::CancelledError("interrupted");
    }
    return absl::OkStatus();
  }

  // Runs `fn` on every worker, each on its own core, and waits.
  template <typename Fn>
  void OnTeam(const Fn& fn) {
    static_cast<CpuStream&>(*stream_).Launch(fn);
    stream_->Wait(stream_->Record());
  }

  absl::Status MeasureLatency(uint64_t bytes) {
    LatencyCell cell = {{memory_->data(), bytes}, options_.cell_ns};
    LinkLines(cell.lines, options_.seed);
    std::vector<double> ns, cycles;
    for (int round = 0; round < options_.rounds; ++round) {
      OnTeam([&cell = cell, round](uint32_t worker, uint32_t, CpuStream&) {
        if (worker == 0) cell.Measure(round == 0);
      });
      ns.push_back(cell.ns);
      cycles.push_back(cell.ns * cell.clock_hz * 1e-9);
      clocks_.push_back(cell.clock_hz);
    }
    found_.curve.push_back({bytes, Median(ns), Median(cycles)});
    for (MemoryLevel& level : found_.levels) {
      if (level.plan.probe_bytes != bytes) continue;
      level.latency_ns = Median(ns);
      level.latency_cycles = Median(cycles);
      level.low_latency_ns = *std::min_element(ns.begin(), ns.end());
      level.high_latency_ns = *std::max_element(ns.begin(), ns.end());
    }
    return Tell(LatencyNs(bytes));
  }

  void TellSteps() {
    for (size_t i = 0; i + 1 < found_.levels.size(); ++i) {
      MemoryLevel& level = found_.levels[i];
      level.step_bytes =
          StepBytes(found_.curve, level.latency_cycles, found_.levels[i + 1].latency_cycles);
    }
  }

  // One round of one level.
  absl::Status MeasureBandwidth(size_t index) {
    const LevelPlan& plan = found_.levels[index].plan;
    const bool is_memory = plan.capacity_bytes == 0;
    for (int all = 0; all < 2; ++all) {
      const uint32_t workers = all ? found_.threads : 1;
      BandwidthCell cell;
      cell.memory = memory_->data();
      cell.stride_bytes = AlignDown(memory_bytes_ / found_.threads, kPageBytes);
      cell.part_bytes = std::min(AlignDown(PartBytes(plan, workers), kKiB),
                                 workers > 1 ? cell.stride_bytes : memory_bytes_);
      cell.ahead_bytes = is_memory ? kAheadBytes : 0;
      cell.limit_ns = options_.cell_ns;
      cell.workers = workers;
      cell.bytes_per_s.resize(workers);
      for (int pass = 0; pass < kMemoryPasses; ++pass) {
        cell.pass = kPasses[pass];
        OnTeam([&cell = cell](uint32_t worker, uint32_t, CpuStream& self) {
          self.Barrier();  // all are awake
          if (worker < cell.workers) cell.Measure(worker);
        });
        double sum = 0;
        for (const double rate : cell.bytes_per_s) sum += rate;
        rates_[index][static_cast<size_t>(all)][pass].push_back(sum);
        WEIR_RETURN_IF_ERROR(Tell(BandwidthNs()));
      }
    }
    return absl::OkStatus();
  }

  // Of one of `workers` that go over a level's memory together: where they share a cache, so little
  // that it has room for all, but not so little that a nearer cache has it.
  static uint64_t PartBytes(const LevelPlan& plan, uint32_t workers) {
    if (plan.capacity_bytes == 0) return plan.probe_bytes / workers;
    if (workers == 1 || plan.shared_threads < 2) return plan.probe_bytes;
    const uint64_t share = plan.capacity_bytes / 2 / std::min(workers, plan.shared_threads);
    return std::clamp(share, plan.probe_bytes / 2, plan.probe_bytes);
  }

  using Rates = std::array<std::vector<double>, kMemoryPasses>;

  const HierarchyProbeOptions& options_;
  const HierarchyProgress& progress_;
  CpuHierarchy found_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Buffer> memory_;
  uint64_t memory_bytes_ = 0;
  std::vector<double> clocks_;
  std::vector<std::array<Rates, 2>> rates_;  // by level: of one core, of all
  double expected_ns_ = 0, done_ns_ = 0;
};

}  // namespace

std::vector<LevelPlan> PlanLevels(const std::vector<CacheLevel>& caches) {
  std::vector<LevelPlan> levels;
  uint64_t before_bytes = 0;
  for (const CacheLevel& cache : caches) {
    if (cache.bytes < 2 * before_bytes) continue;
    uint64_t bytes = cache.bytes / 2;
    if (before_bytes > 0) bytes = std::min(bytes, 4 * before_bytes);
    // More than the nearer cache holds, lest that is what is measured.
    bytes = std::max(bytes, std::min(cache.bytes * 3 / 4, 2 * before_bytes));
    levels.push_back({absl::StrCat("L", cache.level), cache.bytes, cache.shared_threads,
                      AlignDown(bytes, kKiB)});
    before_bytes = cache.bytes;
  }
  levels.push_back({"DRAM", 0, 0, std::max(kLeastMemoryBytes, AlignUp(4 * before_bytes, kMiB))});
  return levels;
}

uint64_t StepBytes(const std::vector<LatencyPoint>& curve, double cycles, double next_cycles) {
  if (!(next_cycles > cycles && cycles > 0)) return 0;
  const double between = std::sqrt(cycles * next_cycles);
  for (size_t i = 0; i + 1 < curve.size(); ++i) {
    const double low = curve[i].cycles, high = curve[i + 1].cycles;
    if (!(low <= between && between < high)) continue;
    const double share = std::log(between / low) / std::log(high / low);
    return static_cast<uint64_t>(
        static_cast<double>(curve[i].bytes) *
        std::pow(static_cast<double>(curve[i + 1].bytes) / static_cast<double>(curve[i].bytes),
                 share));
  }
  return 0;
}

absl::StatusOr<CpuHierarchy> ProbeHierarchy(const HierarchyProbeOptions& options,
                                            const HierarchyProgress& progress) {
  if (options.cell_ns <= 0 || options.rounds < 1) {
    return absl::InvalidArgumentError(absl::StrCat("hierarchy probe: ", options.rounds,
                                                   " rounds of ", options.cell_ns,
                                                   " ns are not possible"));
  }
  return HierarchyProbe(options, progress).Run();
}

}  // namespace weir
