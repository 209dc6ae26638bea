#include "tools/cmd_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/base.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(ProbeCommand, SweepFromOptions) {
  ProbeDiskOptions options;
  options.blocks = {"256K", "4MiB"};
  options.depths = {2};
  options.readers = {"threads"};
  options.seconds = 0.25;
  options.rounds = 5;
  const auto sweep = MakeSweep(options);
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  EXPECT_EQ(sweep->block_bytes, (std::vector<uint64_t>{256 * kKiB, 4 * kMiB}));
  EXPECT_EQ(sweep->depths, std::vector<uint32_t>{2});
  EXPECT_EQ(sweep->cell_ns, 250'000'000);
  EXPECT_EQ(sweep->rounds, 5);
  for (int i = 0; i < 4; ++i) {
    ProbeDiskOptions bad = options;
    if (i == 0) bad.blocks = {"many"};
    if (i == 1) bad.seconds = 0;
    if (i == 2) bad.seconds = 1e300;
    if (i == 3) bad.rounds = 0;
    EXPECT_EQ(MakeSweep(bad).status().code(), absl::StatusCode::kInvalidArgument) << i;
  }
}

TEST(ProbeCommand, RandomReadsAreSmallAndNotSaved) {
  ProbeDiskOptions options;
  options.random = true;
  const auto sweep = MakeSweep(options);
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  EXPECT_TRUE(sweep->is_random);
  EXPECT_EQ(sweep->block_bytes, std::vector<uint64_t>{4 * kKiB});
  EXPECT_EQ(sweep->depths.front(), 1u);
  options.blocks = {"16K"};
  options.depths = {8};
  EXPECT_EQ(MakeSweep(options)->block_bytes, std::vector<uint64_t>{16 * kKiB});
  EXPECT_EQ(MakeSweep(options)->depths, std::vector<uint32_t>{8});
  options.save = true;
  EXPECT_THAT(std::string(MakeSweep(options).status().message()), HasSubstr("--random"));
}

TEST(ProbeCommand, TableAndJsonSayTheSame) {
  const auto file = File::Open("CMakeLists.txt", FileMode::kBuffered);
  ASSERT_TRUE(file.ok()) << file.status();
  DiskSweepCell cell;
  cell.median.reader = "uring";
  cell.median.block_bytes = kMiB;
  cell.median.depth = 8;
  cell.median.bytes_per_s = 1.5e9;
  cell.median.p50_latency_ns = 2'000'000;
  cell.median.note = "The first note.";
  cell.low_bytes_per_s = 1.25e9;
  cell.high_bytes_per_s = 1.75e9;
  const DiskIdentity disk = {"259:2", "nvme0n1p2", "Fast Disk", "ext4"};
  const nlohmann::json document = SweepToJson(**file, disk, /*is_random=*/false, {cell});
  const nlohmann::json& row = document["cells"][0];
  EXPECT_EQ(row["gb_per_s"], 1.5);
  EXPECT_EQ(row["block_bytes"], kMiB);
  EXPECT_EQ(row["p50_latency_us"], 2000.0);
  EXPECT_TRUE(row["kernel_read_bytes"].is_null());
  EXPECT_EQ(document["disk"]["model"], "Fast Disk");
  EXPECT_EQ(document["direct"], false);
  EXPECT_EQ(document["order"], "sequential");
  EXPECT_EQ(SweepToJson(**file, disk, /*is_random=*/true, {cell})["order"], "random");
  const std::string text = SweepToText(**file, disk, /*is_random=*/false, {cell, cell});
  EXPECT_THAT(text, HasSubstr("nvme0n1p2 (ext4, Fast Disk)"));
  EXPECT_THAT(text, HasSubstr("1.50         1.25-1.75      1431       2.00"));
  EXPECT_EQ(text.find("The first note."), text.rfind("The first note.")) << "once for all cells";
}

TEST(ProbeCommand, MissingFileIsNamed) {
  ProbeDiskOptions options;
  options.file = "/no/such/file";
  EXPECT_THAT(std::string(RunProbeDisk(options).message()), HasSubstr("/no/such/file"));
}

}  // namespace
}  // namespace weir
