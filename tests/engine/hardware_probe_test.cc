#include "engine/hardware_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/saved_ceilings.h"
#include "io/base.h"
#include "io/system_files.h"
#include "tests/io/fake_root_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kFileBytes = 2 * kMiB + 777;

class DiskProbe : public ::testing::Test {
 protected:
  void SetUp() override {
    root_.Write("/data", std::string(kFileBytes, 'w'));
    sync();
    auto file = File::Open(root_.path() + "/data", FileMode::kDirectOrBuffered);
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    options_.reader = "threads";
    options_.block_bytes = 64 * kKiB;
    options_.depth = 4;
  }

  FakeRoot root_;
  std::unique_ptr<File> file_;
  DiskProbeOptions options_;
};

TEST_F(DiskProbe, ReadsTheBytesAskedFor) {
  for (const char* reader : {"threads", "auto"}) {
    options_.reader = reader;
    options_.limit_bytes = kFileBytes;
    options_.limit_ns = 0;
    const auto result = ProbeDisk(*file_, options_);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->read_bytes, kFileBytes) << "once through, the odd end included";
    EXPECT_EQ(result->end_bytes, 0u) << "round the end of the file";
    EXPECT_EQ(result->block_bytes, 64 * kKiB);
    EXPECT_EQ(result->depth, 4u);
    EXPECT_EQ(result->is_direct, file_->is_direct());
    EXPECT_GT(result->seconds, 0);
    EXPECT_NEAR(result->bytes_per_s * result->seconds, kFileBytes, 1);
    EXPECT_GT(result->p50_latency_ns, 0);
    EXPECT_GE(result->p99_latency_ns, result->p50_latency_ns);
    if (result->is_direct && result->kernel_read_bytes) {
      EXPECT_GE(*result->kernel_read_bytes, kFileBytes);
    }
    if (!result->is_direct) {
      EXPECT_THAT(result->note, HasSubstr("buffered"));
    }
  }
}

TEST_F(DiskProbe, WrapsRoundAndGoesOn) {
  options_.start_bytes = kFileBytes - 1;
  options_.limit_bytes = 3 * kFileBytes;
  const auto result = ProbeDisk(*file_, options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GE(result->read_bytes, 3 * kFileBytes);
  EXPECT_LT(result->read_bytes, 3 * kFileBytes + 64 * kKiB);
  EXPECT_EQ(result->end_bytes % file_->alignment_bytes(), 0u);
}

// 33 blocks of 64 KiB, the last of 777 bytes: some are read twice, some never.
TEST_F(DiskProbe, RandomReadsAreOfBlocksOfTheFile) {
  options_.is_random = true;
  options_.limit_bytes = 4 * kFileBytes;
  options_.limit_ns = 0;
  const auto result = ProbeDisk(*file_, options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GE(result->read_bytes, 4 * kFileBytes);
  EXPECT_EQ(result->end_bytes % options_.block_bytes, 0u);
  EXPECT_LT(result->end_bytes, kFileBytes);
  const auto again = ProbeDisk(*file_, options_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->end_bytes, result->end_bytes) << "the same seed, the same blocks";
  EXPECT_EQ(again->read_bytes, result->read_bytes);
  options_.seed = 2;
  const auto other = ProbeDisk(*file_, options_);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_NE(other->end_bytes, result->end_bytes);
}

TEST_F(DiskProbe, TimeLimitAlone) {
  options_.limit_bytes = 0;
  options_.limit_ns = 20'000'000;
  const auto result = ProbeDisk(*file_, options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->read_bytes, 0u);
}

TEST_F(DiskProbe, QuicklyReadsTheSameBytesTwiceAndTellsOfTheSecondTime) {
  options_.depth = 4;
  options_.footprint_bytes = kMiB;
  const auto result = ProbeDiskQuickly(*file_, options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->read_bytes, 0u);
  EXPECT_GT(result->bytes_per_s, 0);
}

TEST_F(DiskProbe, ReadsGoThroughTheWholeFootprint) {
  options_.depth = 2;
  options_.footprint_bytes = 256 * kKiB;
  options_.limit_bytes = kMiB;
  std::unique_ptr<uint8_t, void (*)(void*)> memory(
      static_cast<uint8_t*>(std::aligned_alloc(64 * kKiB, 256 * kKiB)), &std::free);
  std::fill_n(memory.get(), 256 * kKiB, uint8_t{0});
  const auto result = ProbeDisk(*file_, options_, absl::MakeSpan(memory.get(), 256 * kKiB));
  ASSERT_TRUE(result.ok()) << result.status();
  for (uint64_t at = 0; at < 256 * kKiB; at += 4096) ASSERT_EQ(memory.get()[at], 'w') << at;
}

TEST_F(DiskProbe, LatencyOfSingleReads) {
  const auto latency_ns = ProbeDiskLatencyNs(*file_, "threads", 4096);
  ASSERT_TRUE(latency_ns.ok()) << latency_ns.status();
  EXPECT_GT(*latency_ns, 0);
  EXPECT_FALSE(ProbeDiskLatencyNs(*file_, "floppy", 4096).ok());
}

TEST_F(DiskProbe, CallersMemory) {
  std::unique_ptr<uint8_t, void (*)(void*)> memory(
      static_cast<uint8_t*>(std::aligned_alloc(64 * kKiB, 256 * kKiB)), &std::free);
  options_.limit_bytes = kMiB;
  const auto result = ProbeDisk(*file_, options_, absl::MakeSpan(memory.get(), 256 * kKiB));
  ASSERT_TRUE(result.ok()) << result.status();
  for (uint64_t at = 0; at < 256 * kKiB; at += 4096) ASSERT_EQ(memory.get()[at], 'w');
}

TEST_F(DiskProbe, Refusals) {
  for (int i = 0; i < 5; ++i) {
    DiskProbeOptions options = options_;
    if (i == 0) options.depth = 0;
    if (i == 1) options.block_bytes = 0;
    if (i == 2) options.block_bytes = uint64_t{1} << 62;
    if (i == 3) options.limit_ns = 0;
    if (i == 4) options.reader = "floppy";
    EXPECT_EQ(ProbeDisk(*file_, options).status().code(), absl::StatusCode::kInvalidArgument) << i;
  }
  root_.Write("/empty", "");
  const auto empty = File::Open(root_.path() + "/empty", FileMode::kDirectOrBuffered);
  ASSERT_TRUE(empty.ok());
  EXPECT_THAT(std::string(ProbeDisk(**empty, options_).status().message()), HasSubstr("is empty"));
}

TEST_F(DiskProbe, CutFileIsAnErrorNotAHang) {
  ASSERT_EQ(truncate(file_->path().c_str(), 100 * 1000), 0);
  options_.limit_bytes = kFileBytes;
  const auto result = ProbeDisk(*file_, options_);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kOutOfRange) << result.status();
}

TEST_F(DiskProbe, SweepVisitsEveryCellInEveryRound) {
  DiskSweepOptions sweep;
  sweep.readers = {"threads", "auto"};
  sweep.block_bytes = {16 * kKiB, 64 * kKiB};
  sweep.depths = {1, 3};
  sweep.cell_ns = 1'000'000;
  int calls = 0;
  const auto cells = SweepDisk(*file_, sweep, [&](int done, int total, const DiskProbeResult&) {
    EXPECT_EQ(done, ++calls);
    EXPECT_EQ(total, 24);
    return true;
  });
  ASSERT_TRUE(cells.ok()) << cells.status();
  EXPECT_EQ(calls, 24);
  ASSERT_EQ(cells->size(), 8u);
  EXPECT_EQ((*cells)[0].median.reader, "threads");
  EXPECT_EQ((*cells)[1].median.depth, 3u);
  EXPECT_EQ((*cells)[2].median.block_bytes, 64 * kKiB);
  for (const DiskSweepCell& cell : *cells) {
    EXPECT_LE(cell.low_bytes_per_s, cell.median.bytes_per_s);
    EXPECT_GE(cell.high_bytes_per_s, cell.median.bytes_per_s);
  }
  const auto stopped =
      SweepDisk(*file_, sweep, [](int done, int, const DiskProbeResult&) { return done < 2; });
  EXPECT_EQ(stopped.status().code(), absl::StatusCode::kCancelled);
}

TEST(LastLevelCache, IsTheOneOfTheHighestLevel) {
  const FakeRoot root;
  EXPECT_EQ(LastLevelCacheBytes(root.path()), 0u) << "nothing is known";
  const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index";
  const auto add = [&](int index, const std::string& level, const std::string& size) {
    root.Write(absl::StrCat(folder, index, "/level"), level + "\n");
    root.Write(absl::StrCat(folder, index, "/size"), size + "\n");
  };
  add(0, "1", "48K");
  add(1, "3", "266240K");
  add(2, "2", "524288K");
  EXPECT_EQ(LastLevelCacheBytes(root.path()), 260 * kMiB);
}

TEST(MemoryProbe, CountsWhatItReads) {
  const std::vector<uint8_t> memory(4 * kMiB, 3);
  for (const uint32_t threads : {1u, 2u, 3u}) {
    const auto result = ProbeMemoryRead(memory, threads, 5'000'000);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->threads, threads);
    EXPECT_GE(result->read_bytes, threads * 256 * kKiB);
    EXPECT_GE(result->seconds, 0.005);
    EXPECT_NEAR(result->bytes_per_s * result->seconds, result->read_bytes, 1);
  }
  EXPECT_FALSE(ProbeMemoryRead(memory, 0).ok());
  EXPECT_FALSE(ProbeMemoryRead(absl::MakeSpan(memory).subspan(0, 100), 2).ok());
}

DiskSweepCell Cell(const std::string& reader, uint64_t block_bytes, uint32_t depth,
                   double bytes_per_s) {
  DiskSweepCell cell;
  cell.median.reader = reader;
  cell.median.block_bytes = block_bytes;
  cell.median.depth = depth;
  cell.median.bytes_per_s = bytes_per_s;
  return cell;
}

TEST(BestCell, TheMostInFlightAmongTheFastestOfAReader) {
  const std::vector<DiskSweepCell> cells = {
      Cell("uring", kMiB, 1, 2.0e9),   Cell("uring", kMiB, 4, 3.0e9),
      Cell("uring", kMiB, 16, 2.95e9), Cell("uring", kMiB, 32, 2.5e9),
      Cell("threads", kMiB, 4, 5e9),
  };
  EXPECT_EQ(BestCell(cells, "uring", 24 * kMiB), &cells[2]);
  EXPECT_EQ(BestCell(cells, "uring", 8 * kMiB), &cells[1]);
  EXPECT_EQ(BestCell(cells, "uring", kMiB), &cells[1]) << "all that are fast have more in flight";
  EXPECT_EQ(BestCell(cells, "threads", kMiB), &cells[4]);
  EXPECT_EQ(BestCell(cells, "floppy", kMiB), nullptr);
}

DiskCeiling Ceiling(const std::string& name, uint64_t block_bytes, double bytes_per_s) {
  DiskCeiling ceiling;
  ceiling.disk = {"259:2", name, "Fast Disk", "ext4"};
  ceiling.reader = "uring";
  ceiling.block_bytes = block_bytes;
  ceiling.depth = 8;
  ceiling.bytes_per_s = bytes_per_s;
  ceiling.measured_unix_s = 1718000000;
  return ceiling;
}

TEST(SavedCeilings, RoundTripAndReplacement) {
  FakeRoot root;
  const std::string path = root.path() + "/ceilings.json";
  EXPECT_TRUE(LoadCeilings(path).disks.empty());
  EXPECT_EQ(LoadCeilings(path).note, "");
  ASSERT_TRUE(StoreCeiling(path, Ceiling("nvme0n1p2", kMiB, 3e9)).ok());
  ASSERT_TRUE(StoreCeiling(path, Ceiling("nvme0n1p2", 4 * kMiB, 3.5e9)).ok());
  ASSERT_TRUE(StoreCeiling(path, Ceiling("nvme0n1p2", kMiB, 2.5e9)).ok());
  const SavedCeilings saved = LoadCeilings(path);
  EXPECT_EQ(saved.note, "");
  EXPECT_EQ(saved.disks.size(), 1u);
  const auto found = FindCeiling(saved, Ceiling("nvme0n1p2", kMiB, 0));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->bytes_per_s, 2.5e9);
  EXPECT_EQ(found->measured_unix_s, 1718000000);
  EXPECT_FALSE(FindCeiling(saved, Ceiling("sda", kMiB, 0)).has_value());
}

TEST(SavedCeilings, CorruptFilesAreIgnoredWithANoteAndRewritten) {
  FakeRoot root;
  const std::string path = root.path() + "/ceilings.json";
  for (const char* text :
       {"", "{", "[]", "null", "\xff\xfe", "{\"version\":2,\"disks\":[]}", "{\"version\":1}",
        "{\"version\":1,\"disks\":[1]}", "{\"version\":1,\"disks\":[{\"device\":7}]}",
        "{\"version\":\"1\",\"disks\":{}}"}) {
    root.Write("/ceilings.json", text);
    const SavedCeilings saved = LoadCeilings(path);
    EXPECT_TRUE(saved.disks.empty()) << text;
    EXPECT_THAT(saved.note, HasSubstr("ignored")) << text;
    ASSERT_TRUE(StoreCeiling(path, Ceiling("vda", kMiB, 1e9)).ok());
    EXPECT_EQ(LoadCeilings(path).disks.size(), 1u);
    EXPECT_EQ(LoadCeilings(path).note, "");
  }
}

TEST(SavedCeilings, UnwritablePathIsAnError) {
  EXPECT_EQ(StoreCeiling("/no/such/folder/x.json", Ceiling("vda", kMiB, 1e9)).code(),
            absl::StatusCode::kNotFound);
}

TEST(DescribeDevice, PartitionsDisksAndFileSystemsWithoutOne) {
  FakeRoot root;
  root.Write("/sys/devices/pci0/nvme0n1/device/model", "Fast Disk 9000   \n");
  root.MakeFolder("/sys/devices/pci0/nvme0n1/nvme0n1p2");
  root.Link("/sys/dev/block/259:0", "../../devices/pci0/nvme0n1");
  root.Link("/sys/dev/block/259:2", "../../devices/pci0/nvme0n1/nvme0n1p2");
  root.Write("/proc/self/mountinfo",
             "1 0 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n"
             "2 1 0:31 / /home rw - btrfs /dev/sdb rw\n");
  const DiskIdentity partition = DescribeDevice("259:2", root.path());
  EXPECT_EQ(partition.name, "nvme0n1p2");
  EXPECT_EQ(partition.model, "Fast Disk 9000");
  EXPECT_EQ(partition.file_system, "ext4");
  const DiskIdentity disk = DescribeDevice("259:0", root.path());
  EXPECT_EQ(disk.name, "nvme0n1");
  EXPECT_EQ(disk.model, "Fast Disk 9000");
  EXPECT_EQ(disk.file_system, "");
  const DiskIdentity anonymous = DescribeDevice("0:31", root.path());
  EXPECT_EQ(anonymous.name, "/dev/sdb");
  EXPECT_EQ(anonymous.file_system, "btrfs");
  EXPECT_EQ(DescribeDevice("9:9", root.path()).name, "");
}

}  // namespace
}  // namespace weir
