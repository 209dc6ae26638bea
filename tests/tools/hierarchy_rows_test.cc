// From measurements to rows, from rows to verdicts and to text.
#include "tools/hierarchy_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/base.h"
#include "tools/hierarchy_claims.h"
#include "tools/hierarchy_report.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

RateSpread Rate(double gb_per_s) { return {gb_per_s * 1e9, gb_per_s * 1e9, gb_per_s * 1e9}; }

MemoryLevel Level(const char* name, uint64_t capacity, double cycles, double gb_per_s) {
  MemoryLevel level;
  level.plan = {name, capacity, 1, kMiB};
  level.latency_cycles = cycles;
  level.latency_ns = cycles / 4;
  level.one_core.fill(Rate(gb_per_s));
  level.all_cores.fill(Rate(2 * gb_per_s));
  return level;
}

CpuHierarchy Hierarchy() {
  CpuHierarchy hierarchy;
  hierarchy.threads = 2;
  hierarchy.clock_hz = 4e9;
  hierarchy.levels = {Level("L1", 32 * kKiB, 4, 200), Level("L2", 512 * kKiB, 12, 100),
                      Level("L3", 32 * kMiB, 48, 40), Level("DRAM", 0, 400, 20)};
  return hierarchy;
}

DiskSweepCell Cell(uint64_t block_bytes, uint32_t depth, double gb_per_s, double counted) {
  DiskSweepCell cell;
  cell.median.reader = "uring";
  cell.median.block_bytes = block_bytes;
  cell.median.depth = depth;
  cell.median.bytes_per_s = gb_per_s * 1e9;
  cell.median.read_bytes = kGiB;
  cell.median.kernel_read_bytes = static_cast<uint64_t>(counted * static_cast<double>(kGiB));
  cell.median.p50_latency_ns = 100'000;
  cell.low_bytes_per_s = cell.high_bytes_per_s = cell.median.bytes_per_s;
  return cell;
}

DiskLevels Disk() {
  DiskLevels levels;
  levels.sequential = {Cell(kMiB, 1, 1, 1), Cell(kMiB, 8, 3, 1)};
  levels.random = {Cell(4 * kKiB, 1, 0.04, 1), Cell(4 * kKiB, kDeepReads, 0.5, 1)};
  BufferedProbeResult buffered;
  buffered.block_bytes = kMiB;
  buffered.cold = {Rate(0.8), kGiB, kGiB, 0};
  buffered.hot = {Rate(9), kGiB, 0, 1};
  levels.buffered = buffered;
  return levels;
}

const HierarchyRow& Row(const std::vector<HierarchyRow>& rows, const std::string& level) {
  const HierarchyRow* const row = FindRow(rows, level);
  WEIR_CHECK(row != nullptr);
  return *row;
}

TEST(CpuRows, HoldWhatWasMeasured) {
  const std::vector<HierarchyRow> rows = CpuRows(Hierarchy());
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[1].capacity_bytes, 512 * kKiB);
  EXPECT_EQ(rows[1].cycles, 12);
  EXPECT_EQ(rows[1].times_l1, 3);
  EXPECT_EQ(rows[1].one_core.read, 100e9);
  EXPECT_EQ(rows[1].all_cores.copy, 200e9);
  EXPECT_FALSE(rows[3].capacity_bytes.has_value());
  for (const HierarchyRow& row : rows) EXPECT_EQ(row.missing, "");
}

TEST(CpuRows, MoreThanTheNearerLevelIsRefused) {
  CpuHierarchy hierarchy = Hierarchy();
  hierarchy.levels[2].all_cores[1] = Rate(230);  // L2 gave 200: beyond noise
  hierarchy.levels[3].one_core[0] = Rate(42);    // L3 gave 40: noise
  const std::vector<HierarchyRow> rows = CpuRows(hierarchy);
  EXPECT_FALSE(rows[2].all_cores.write.has_value());
  EXPECT_TRUE(rows[2].all_cores.read.has_value());
  EXPECT_THAT(rows[2].missing, HasSubstr("write of all cores refused: 230.00 GB/s, but L2"));
  EXPECT_EQ(rows[3].one_core.read, 42e9);
  EXPECT_EQ(rows[3].missing, "");
  EXPECT_THAT(RowsToText(rows), Not(HasSubstr(" 230.0 ")));
  EXPECT_THAT(RowsToText(rows), HasSubstr("L3: write of all cores refused"));
}

TEST(CpuRows, LevelsThatAreNotThereSaySo) {
  CpuHierarchy hierarchy = Hierarchy();
  hierarchy.levels.erase(hierarchy.levels.begin() + 1, hierarchy.levels.begin() + 3);
  std::vector<HierarchyRow> rows = CpuRows(hierarchy);
  AddMissingLevels(&rows);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[1].level, "L2");
  EXPECT_EQ(rows[2].level, "L3");
  EXPECT_FALSE(rows[2].has_figures());
  EXPECT_THAT(rows[2].missing, HasSubstr("no such cache"));
  EXPECT_EQ(rows[3].level, "DRAM");
  std::vector<HierarchyRow> none;
  AddMissingLevels(&none);
  EXPECT_EQ(none.size(), 3u);
}

TEST(RemoteRow, IsHeldAgainstNearMemory) {
  NodeChoice choice;
  choice.pair = NodePair{.near = 0, .far = 3, .distance = 21, .threads = {0}};
  const HierarchyRow row = RemoteRow(choice, {150, Rate(10)}, Rate(20));
  EXPECT_EQ(row.latency_ns, 150);
  EXPECT_EQ(row.one_core.read, 10e9);
  EXPECT_THAT(row.note, HasSubstr("memory of node 3, distance 21"));
  const HierarchyRow refused = RemoteRow(choice, {150, Rate(30)}, Rate(20));
  EXPECT_FALSE(refused.one_core.read.has_value());
  EXPECT_THAT(refused.missing, HasSubstr("refused"));
  EXPECT_EQ(NoRemoteRow("one node").missing, "one node");
}

TEST(DiskRows, BestOfTheSweepAndSmallReads) {
  const std::vector<HierarchyRow> rows = DiskRows(Disk(), Rate(40));
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[0].level, kDiskLevel);
  EXPECT_EQ(rows[0].all_cores.read, 3e9);
  EXPECT_EQ(rows[0].latency_ns, 100'000);
  EXPECT_THAT(rows[0].note, HasSubstr("1.0 MiB x 8, uring, O_DIRECT"));
  EXPECT_EQ(Row(rows, "disk, 4 KiB random, depth 1").all_cores.read, 0.04e9);
  EXPECT_EQ(Row(rows, "disk, 4 KiB random, depth 64").all_cores.read, 0.5e9);
  EXPECT_EQ(Row(rows, "disk, buffered, cold").all_cores.read, 0.8e9);
  EXPECT_THAT(Row(rows, "disk, buffered, cold").note, HasSubstr("0.0 % of the pages"));
  EXPECT_EQ(Row(rows, "disk, buffered, hot").all_cores.read, 9e9);
}

TEST(DiskRows, WhatTheKernelDidNotCountIsRefused) {
  DiskLevels levels = Disk();
  levels.sequential[1] = Cell(kMiB, 8, 30, 0.4);  // a cache answered
  levels.random[0] = Cell(4 * kKiB, 1, 4, 0);
  std::vector<HierarchyRow> rows = DiskRows(levels, Rate(40));
  EXPECT_EQ(rows[0].all_cores.read, 1e9) << "the next best that was from the disk";
  EXPECT_FALSE(rows[0].latency_ns.has_value());
  EXPECT_FALSE(rows[1].has_figures());
  EXPECT_THAT(rows[1].missing, HasSubstr("counted 0 bytes"));
  levels.sequential[0] = Cell(kMiB, 1, 1, 0.9);
  rows = DiskRows(levels, Rate(40));
  EXPECT_FALSE(rows[0].has_figures());
  EXPECT_THAT(rows[0].missing, HasSubstr("a cache answered"));
}

TEST(DiskRows, NoDiskIsFasterThanItsLinkOrMemory) {
  DiskLevels levels = Disk();
  levels.link = PcieLink{8, 2};  // 1.97 GB/s
  EXPECT_EQ(DiskRows(levels, Rate(40))[0].all_cores.read, 1e9);
  std::string why;
  EXPECT_EQ(AcceptedCells(levels.sequential, levels.link, Rate(40), &why).size(), 1u);
  EXPECT_THAT(why, HasSubstr("PCIe 3.0 x2 carries 1.97"));
  levels.link.reset();
  EXPECT_EQ(DiskRows(levels, Rate(2))[0].all_cores.read, 1e9) << "3 GB/s where DRAM gave 2";
}

TEST(DiskRows, WithoutDirectReadsNothingElseStandsForThem) {
  DiskLevels levels = Disk();
  levels.sequential.clear();
  levels.random.clear();
  levels.buffered_reason = "tmpfs refuses O_DIRECT";
  levels.buffered->cold.cached_share = 1;
  const std::vector<HierarchyRow> rows = DiskRows(levels, Rate(40));
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(rows[i].has_figures()) << i;
    EXPECT_EQ(rows[i].missing, "tmpfs refuses O_DIRECT") << i;
  }
  EXPECT_FALSE(rows[3].has_figures()) << "it was not cold";
  EXPECT_TRUE(rows[4].has_figures());
  EXPECT_EQ(NoDiskRows("no file").size(), rows.size());
  EXPECT_EQ(NoDiskRows("no file")[0].level, kDiskLevel);
}

GpuProbe Gpu() {
  GpuProbe probe;
  probe.memory = {80 * kGiB, 79 * kGiB};
  probe.options.both_ways_bytes = 16 * kMiB;
  for (const bool is_pinned : {true, false}) {
    for (const CopyDirection direction : {CopyDirection::kToDevice, CopyDirection::kToHost}) {
      for (const uint64_t bytes : {4 * kKiB, 8 * kMiB}) {
        CopyCell cell;
        cell.probe = {.bytes = bytes, .direction = direction, .mode = CopyMode::kOneAtATime};
        cell.is_pinned = is_pinned;
        cell.rate = Rate(bytes == 4 * kKiB ? 0.4096 : is_pinned ? 25 : 5);
        probe.result.copies.push_back(cell);
      }
    }
  }
  probe.result.both_ways = Rate(40);
  probe.result.device_read = Rate(2000);
  return probe;
}

TEST(GpuRows, CopiesBothWaysAndMemory) {
  const std::vector<HierarchyRow> rows = GpuRows(Gpu(), PcieLink{16, 16});
  const HierarchyRow& in = Row(rows, kPcieInLevel);
  EXPECT_EQ(in.all_cores.read, 25e9);
  EXPECT_NEAR(in.latency_ns.value(), 10'000, 1) << "4 KiB at 0.4096 GB/s";
  EXPECT_THAT(in.note, HasSubstr("PCIe 4.0 x16"));
  EXPECT_EQ(Row(rows, kPcieOutLevel).all_cores.write, 25e9);
  EXPECT_EQ(Row(rows, "PCIe to device, pageable").all_cores.read, 5e9);
  EXPECT_EQ(Row(rows, kPcieBothLevel).all_cores.copy, 40e9);
  EXPECT_EQ(Row(rows, kDeviceMemoryLevel).all_cores.read, 2000e9);
  EXPECT_EQ(Row(rows, kDeviceMemoryLevel).capacity_bytes, 80 * kGiB);
  EXPECT_THAT(Row(rows, "GPU L2").missing, HasSubstr("not measured"));
  EXPECT_THAT(Row(rows, "PCIe, zero-copy").missing, HasSubstr("not measured"));
}

TEST(GpuRows, MoreThanTheLinkCarriesIsRefused) {
  const std::vector<HierarchyRow> rows = GpuRows(Gpu(), PcieLink{8, 16});  // 15.75 GB/s each way
  EXPECT_FALSE(Row(rows, kPcieInLevel).has_figures());
  EXPECT_THAT(Row(rows, kPcieInLevel).missing, HasSubstr("PCIe 3.0 x16 carries 15.75"));
  EXPECT_FALSE(Row(rows, kPcieBothLevel).has_figures());
  EXPECT_TRUE(Row(rows, "PCIe to device, pageable").has_figures());
}

TEST(GpuRows, AnEmulatedLinkIsNoPcie) {
  GpuProbe probe = Gpu();
  probe.is_emulated = true;
  const std::vector<HierarchyRow> rows = GpuRows(probe, std::nullopt);
  EXPECT_EQ(FindRow(rows, kPcieInLevel), nullptr);
  EXPECT_EQ(FindRow(rows, kDeviceMemoryLevel), nullptr);
  EXPECT_EQ(Row(rows, "emulated link to device").all_cores.read, 25e9);
  EXPECT_TRUE(JudgeRows(rows).empty()) << "nothing here tells of a GPU";
}

const Verdict& Find(const std::vector<Verdict>& verdicts, const std::string& what) {
  for (const Verdict& verdict : verdicts) {
    if (verdict.claim.what == what) return verdict;
  }
  WEIR_CHECK(false);
  return verdicts.front();
}

TEST(JudgeRows, EveryLevelBesideWhatIsSaid) {
  std::vector<HierarchyRow> rows = CpuRows(Hierarchy());
  for (const HierarchyRow& row : DiskRows(Disk(), Rate(40))) rows.push_back(row);
  for (const HierarchyRow& row : GpuRows(Gpu(), std::nullopt)) rows.push_back(row);
  RelateToL1(4e9, &rows);
  const std::vector<Verdict> verdicts = JudgeRows(rows);
  EXPECT_EQ(VerdictText(Find(verdicts, "L1 answers in")), "holds");
  EXPECT_EQ(Find(verdicts, "disk answers in").measured, 400'000);
  EXPECT_EQ(VerdictText(Find(verdicts, "disk answers in")), "holds") << "and more";
  EXPECT_EQ(Find(verdicts, "disk is slower than L1 by about").measured, 100'000);
  EXPECT_EQ(VerdictText(Find(verdicts, "disk after DRAM, as each level, is slower by")),
            "10 times more");
  EXPECT_EQ(VerdictText(Find(verdicts, "DRAM delivers")), "holds");
  EXPECT_EQ(VerdictText(Find(verdicts, "GPU memory delivers")), "holds");
  EXPECT_EQ(VerdictText(Find(verdicts, "GPU memory answers in")), "not measured");
  EXPECT_EQ(Find(verdicts, "PCIe (4.0 x16) delivers, both ways together").measured, 40);
  EXPECT_EQ(Find(verdicts, "PCIe is slower than GPU memory by").measured, 50);
}

TEST(JudgeRows, WithoutAGpuItsClaimsAreNotMeasured) {
  std::vector<HierarchyRow> rows = CpuRows(Hierarchy());
  for (const HierarchyRow& row : NoDiskRows("no file")) rows.push_back(row);
  for (const HierarchyRow& row : NoGpuRows("no GPU", "the driver says why")) rows.push_back(row);
  const std::vector<Verdict> verdicts = JudgeRows(rows);
  EXPECT_EQ(Find(verdicts, "disk answers in").missing, "no file");
  EXPECT_EQ(Find(verdicts, "PCIe is slower than GPU memory by").missing, "no GPU");
  const nlohmann::json json = VerdictsToJson(verdicts);
  EXPECT_EQ(json.size(), verdicts.size());
  EXPECT_EQ(json.back()["verdict"], "not measured");
  EXPECT_TRUE(json.back()["measured"].is_null());
  EXPECT_TRUE(json.back()["high"].is_null()) << "and more";
  const std::string text = RowsToText(rows);
  EXPECT_NE(text.find("the driver says why"), std::string::npos);
  EXPECT_EQ(text.find("the driver says why"), text.rfind("the driver says why")) << "once";
}

TEST(RowsToText, FiguresNotesAndReasons) {
  std::vector<HierarchyRow> rows = CpuRows(Hierarchy());
  for (const HierarchyRow& row : DiskRows(Disk(), Rate(40))) rows.push_back(row);
  rows.push_back(NoRemoteRow("one node: all memory is equally near"));
  const std::string text = RowsToText(rows);
  EXPECT_THAT(text, HasSubstr("32.0 KiB"));
  EXPECT_THAT(text, HasSubstr("one node"));
  EXPECT_THAT(text, HasSubstr("disk: 1.0 MiB x 8, uring"));
  EXPECT_THAT(text, HasSubstr("   0.04 "));
  const nlohmann::json table = RowsToJson(rows);
  ASSERT_EQ(table.size(), rows.size());
  EXPECT_EQ(table[0]["one_core"]["read"], 200);
  EXPECT_TRUE(table[4]["one_core"].is_null());
  EXPECT_EQ(table[4]["all_cores"]["read"], 3);
  EXPECT_TRUE(table[4]["all_cores"]["write"].is_null());
  EXPECT_TRUE(table[4]["missing"].is_null());
  EXPECT_TRUE(table.back()["all_cores"].is_null());
}

}  // namespace
}  // namespace weir
