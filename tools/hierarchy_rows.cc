#include "tools/hierarchy_rows.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/planner.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr char kRandomOneLevel[] = "disk, 4 KiB random, depth 1";
constexpr char kRandomDeepLevel[] = "disk, 4 KiB random, depth 64";
constexpr char kColdLevel[] = "disk, buffered, cold";
constexpr char kHotLevel[] = "disk, buffered, hot";
constexpr const char* kPassNames[kMemoryPasses] = {"read", "write", "copy"};
constexpr char kNotMeasuredHere[] = "not measured";

void AddReason(const std::string& why, HierarchyRow* row) {
  if (why.empty()) return;
  absl::StrAppend(&row->missing, row->missing.empty() ? "" : "; ", why);
}

HierarchyRow MissingRow(const std::string& level, const std::string& why) {
  HierarchyRow row;
  row.level = level;
  row.missing = why;
  return row;
}

// Rates of one level; each is held against the nearer level's, if there is one.
PassRates AcceptedRates(const std::array<RateSpread, kMemoryPasses>& rates,
                        const std::array<RateSpread, kMemoryPasses>* nearer,
                        const std::string& nearer_name, const char* whose, HierarchyRow* row) {
  PassRates accepted;
  const std::array<std::optional<double>*, kMemoryPasses> places = {&accepted.read, &accepted.write,
                                                                    &accepted.copy};
  for (int pass = 0; pass < kMemoryPasses; ++pass) {
    const std::string why = nearer == nullptr
                                ? ""
                                : RefuseBeyondNearer(absl::StrCat(kPassNames[pass], " of ", whose),
                                                     rates[pass], nearer_name, (*nearer)[pass]);
    AddReason(why, row);
    if (why.empty() && rates[pass].median_bytes_per_s > 0) {
      *places[pass] = rates[pass].median_bytes_per_s;
    }
  }
  return accepted;
}

std::string RefuseCell(const DiskSweepCell& cell, const std::optional<PcieLink>& link,
                       const RateSpread& dram_read) {
  const DiskProbeResult& median = cell.median;
  std::string why = RefuseByKernelCount(median.read_bytes, median.kernel_read_bytes);
  if (why.empty()) why = RefuseBeyondLink(median.bytes_per_s, link);
  if (why.empty()) {
    why = RefuseBeyondNearer("read",
                             {median.bytes_per_s, cell.low_bytes_per_s, cell.high_bytes_per_s},
                             kDramLevel, dram_read);
  }
  return why;
}

std::string CellText(const DiskProbeResult& cell) {
  return absl::StrCat(FormatBytes(cell.block_bytes), " x ", cell.depth, ", ", cell.reader,
                      cell.kernel_read_bytes ? "" : ", the kernel does not count");
}

// The row of small reads, `depth` in flight.
HierarchyRow RandomRow(const char* level, uint32_t depth, const DiskLevels& levels,
                       const RateSpread& dram_read) {
  HierarchyRow row;
  row.level = level;
  for (const DiskSweepCell& cell : levels.random) {
    if (cell.median.depth != depth) continue;
    row.missing = RefuseCell(cell, levels.link, dram_read);
    if (!row.missing.empty()) return row;
    row.latency_ns = static_cast<double>(cell.median.p50_latency_ns);
    row.all_cores.read = cell.median.bytes_per_s;
    row.note = CellText(cell.median);
    return row;
  }
  row.missing = levels.buffered_reason.empty() ? kNotMeasuredHere : levels.buffered_reason;
  return row;
}

HierarchyRow SequentialRow(const DiskLevels& levels, const RateSpread& dram_read,
                           const HierarchyRow& random) {
  HierarchyRow row;
  row.level = kDiskLevel;
  std::string why;
  const std::vector<DiskSweepCell> cells =
      AcceptedCells(levels.sequential, levels.link, dram_read, &why);
  if (!cells.empty()) {
    const DiskSweepCell& best = *BestCell(cells, cells[0].median.reader, RingBytes(0));
    row.all_cores.read = best.median.bytes_per_s;
    row.note = absl::StrCat(CellText(best.median), ", O_DIRECT; latency: 4 KiB anywhere, alone");
  } else {
    row.missing = !why.empty()                      ? why
                  : !levels.buffered_reason.empty() ? levels.buffered_reason
                                                    : kNotMeasuredHere;
  }
  row.latency_ns = random.latency_ns;
  if (!row.latency_ns && row.missing.empty()) row.missing = random.missing;
  return row;
}

HierarchyRow BufferedRow(const char* level, const BufferedReads& reads, const std::string& refused,
                         uint64_t block_bytes) {
  HierarchyRow row = MissingRow(level, refused);
  if (!refused.empty()) return row;
  row.all_cores.read = reads.rate.median_bytes_per_s;
  row.note = absl::StrFormat("%s, one thread; %.1f %% of the pages were in the page cache",
                             FormatBytes(block_bytes), 100 * reads.cached_share);
  return row;
}

// Copies of a kind: the fastest, and how long the smallest takes alone.
HierarchyRow CopyRow(const std::string& level, const GpuProbe& probe, CopyDirection direction,
                     bool is_pinned, const std::optional<PcieLink>& link) {
  HierarchyRow row;
  row.level = level;
  const CopyCell* fastest = nullptr;
  const CopyCell* smallest = nullptr;
  for (const CopyCell& cell : probe.result.copies) {
    if (cell.is_pinned != is_pinned || cell.probe.direction != direction) continue;
    if (fastest == nullptr || cell.rate.median_bytes_per_s > fastest->rate.median_bytes_per_s) {
      fastest = &cell;
    }
    const bool is_alone = cell.probe.mode == CopyMode::kOneAtATime;
    if (is_alone && (smallest == nullptr || cell.probe.bytes < smallest->probe.bytes)) {
      smallest = &cell;
    }
  }
  if (fastest == nullptr || smallest == nullptr) return MissingRow(level, kNotMeasuredHere);
  const double rate = fastest->rate.median_bytes_per_s;
  row.missing = RefuseBeyondLink(rate, link);
  if (!row.missing.empty()) return row;
  (direction == CopyDirection::kToDevice ? row.all_cores.read : row.all_cores.write) = rate;
  row.latency_ns =
      1e9 * static_cast<double>(smallest->probe.bytes) / smallest->rate.median_bytes_per_s;
  row.note = absl::StrCat(FormatBytes(fastest->probe.bytes), ", ",
                          std::string(CopyModeName(fastest->probe.mode)),
                          "; latency: ", FormatBytes(smallest->probe.bytes), " alone",
                          link ? absl::StrCat("; ", PcieText(*link)) : "");
  return row;
}

}  // namespace

std::vector<HierarchyRow> CpuRows(const CpuHierarchy& hierarchy) {
  std::vector<HierarchyRow> rows;
  const MemoryLevel* nearer = nullptr;
  for (const MemoryLevel& level : hierarchy.levels) {
    HierarchyRow row;
    row.level = level.plan.name;
    if (level.plan.capacity_bytes > 0) row.capacity_bytes = level.plan.capacity_bytes;
    row.latency_ns = level.latency_ns;
    row.cycles = level.latency_cycles;
    const std::string name = nearer != nullptr ? nearer->plan.name : "";
    row.one_core =
        AcceptedRates(level.one_core, nearer ? &nearer->one_core : nullptr, name, "one core", &row);
    row.all_cores = AcceptedRates(level.all_cores, nearer ? &nearer->all_cores : nullptr, name,
                                  "all cores", &row);
    nearer = &level;
    rows.push_back(std::move(row));
  }
  RelateToL1(hierarchy.clock_hz, &rows);
  return rows;
}

void AddMissingLevels(std::vector<HierarchyRow>* rows) {
  size_t at = 0;
  for (const char* const level : {"L1", "L2", "L3"}) {
    if (FindRow(*rows, level) == nullptr) {
      rows->insert(rows->begin() + static_cast<ptrdiff_t>(at),
                   MissingRow(level, "this machine tells of no such cache"));
    }
    ++at;
  }
}

HierarchyRow RemoteRow(const NodeChoice& choice, const NodeMemoryFigures& figures,
                       const RateSpread& near_read) {
  WEIR_CHECK(choice.pair.has_value());
  HierarchyRow row;
  row.level = kRemoteDramLevel;
  row.latency_ns = figures.latency_ns;
  row.missing = RefuseBeyondNearer("read of one core", figures.read, kDramLevel, near_read);
  if (row.missing.empty()) row.one_core.read = figures.read.median_bytes_per_s;
  row.note = absl::StrCat("a core of node ", choice.pair->near, ", memory of node ",
                          choice.pair->far, ", distance ", choice.pair->distance);
  return row;
}

HierarchyRow NoRemoteRow(const std::string& why) { return MissingRow(kRemoteDramLevel, why); }

std::vector<DiskSweepCell> AcceptedCells(const std::vector<DiskSweepCell>& cells,
                                         const std::optional<PcieLink>& link,
                                         const RateSpread& dram_read, std::string* why) {
  std::vector<DiskSweepCell> accepted;
  for (const DiskSweepCell& cell : cells) {
    const std::string refused = RefuseCell(cell, link, dram_read);
    if (refused.empty()) accepted.push_back(cell);
    if (!refused.empty()) *why = refused;
  }
  return accepted;
}

std::vector<HierarchyRow> DiskRows(const DiskLevels& levels, const RateSpread& dram_read) {
  const HierarchyRow one = RandomRow(kRandomOneLevel, 1, levels, dram_read);
  std::vector<HierarchyRow> rows = {SequentialRow(levels, dram_read, one), one,
                                    RandomRow(kRandomDeepLevel, kDeepReads, levels, dram_read)};
  if (!levels.buffered.ok()) {
    const std::string why(levels.buffered.status().message());
    rows.push_back(MissingRow(kColdLevel, why));
    rows.push_back(MissingRow(kHotLevel, why));
    return rows;
  }
  const BufferedReads& cold = levels.buffered->cold;
  const BufferedReads& hot = levels.buffered->hot;
  const uint64_t block_bytes = levels.buffered->block_bytes;
  rows.push_back(BufferedRow(kColdLevel, cold,
                             RefuseCold(cold.read_bytes, cold.kernel_read_bytes, cold.cached_share),
                             block_bytes));
  rows.push_back(BufferedRow(kHotLevel, hot,
                             RefuseHot(hot.read_bytes, hot.kernel_read_bytes, hot.cached_share),
                             block_bytes));
  return rows;
}

std::vector<HierarchyRow> NoDiskRows(const std::string& why) {
  std::vector<HierarchyRow> rows;
  for (const char* const level :
       {kDiskLevel, kRandomOneLevel, kRandomDeepLevel, kColdLevel, kHotLevel}) {
    rows.push_back(MissingRow(level, why));
  }
  return rows;
}

std::vector<HierarchyRow> GpuRows(const GpuProbe& probe, const std::optional<PcieLink>& link) {
  const auto named = [&](const std::string& level) {
    return probe.is_emulated ? absl::StrCat("emulated link", level.substr(4)) : level;
  };
  std::vector<HierarchyRow> rows;
  for (const bool is_pinned : {true, false}) {
    const std::string kind = is_pinned ? "" : ", pageable";
    rows.push_back(
        CopyRow(named(kPcieInLevel) + kind, probe, CopyDirection::kToDevice, is_pinned, link));
    rows.push_back(
        CopyRow(named(kPcieOutLevel) + kind, probe, CopyDirection::kToHost, is_pinned, link));
  }
  const double both = probe.result.both_ways.median_bytes_per_s;
  HierarchyRow both_ways = MissingRow(named(kPcieBothLevel), RefuseBeyondLink(both, link, 2));
  if (both_ways.missing.empty()) both_ways.all_cores.copy = both;
  both_ways.note = absl::StrCat(FormatBytes(probe.options.both_ways_bytes), ", queued, the sum");
  rows.push_back(std::move(both_ways));
  if (probe.is_emulated) return rows;
  rows.push_back(MissingRow("PCIe, zero-copy", kNotMeasuredHere));
  rows.push_back(MissingRow("GPU L1 and shared memory", kNotMeasuredHere));
  rows.push_back(MissingRow("GPU L2", kNotMeasuredHere));
  HierarchyRow memory = MissingRow(kDeviceMemoryLevel, "latency not measured");
  memory.capacity_bytes = probe.memory.total_bytes;
  if (probe.result.device_read) {
    memory.all_cores.read = probe.result.device_read->median_bytes_per_s;
  }
  rows.push_back(std::move(memory));
  return rows;
}

std::vector<HierarchyRow> NoGpuRows(const std::string& why, const std::string& details) {
  std::vector<HierarchyRow> rows;
  for (const char* const level : {kPcieInLevel, kPcieOutLevel, kPcieBothLevel, "PCIe, zero-copy",
                                  "GPU L1 and shared memory", "GPU L2", kDeviceMemoryLevel}) {
    rows.push_back(MissingRow(level, why));
  }
  rows.front().note = details;
  return rows;
}

}  // namespace weir
