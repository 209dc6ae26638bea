#include "engine/machine_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/base.h"
#include "tests/io/fake_root_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

MachineProfile Example() {
  MachineProfile profile;
  profile.machine = {.cpu = "Some CPU",
                     .threads = 16,
                     .memory_bytes = 64 * kGiB,
                     .numa_nodes = 2,
                     .kernel = "6.12.1",
                     .devices = "Some GPU with 80.0 GiB, CUDA 13.0",
                     .disk = {"259:2", "nvme0n1p2", "Fast Disk", "ext4"}};
  profile.measured_unix_s = 1718000000;
  HierarchyRow l1;
  l1.level = "L1";
  l1.capacity_bytes = 32 * kKiB;
  l1.latency_ns = 1.25;
  l1.cycles = 4;
  l1.times_l1 = 1;
  l1.one_core = {100e9, 50e9, 100e9};
  l1.all_cores = {1600e9, std::nullopt, 1600e9};
  HierarchyRow disk;
  disk.level = kDiskLevel;
  disk.missing = "refused: a cache answered";
  disk.note = "1.0 MiB x 32";
  profile.rows = {l1, disk};
  return profile;
}

TEST(MachineProfile, RoundTrip) {
  const MachineProfile profile = Example();
  const SavedProfile read = ParseProfile(ProfileToJson(profile), "x.json");
  ASSERT_TRUE(read.profile.has_value()) << read.note;
  EXPECT_EQ(read.profile->machine, profile.machine);
  EXPECT_EQ(read.profile->measured_unix_s, 1718000000);
  ASSERT_EQ(read.profile->rows.size(), 2u);
  const HierarchyRow& l1 = read.profile->rows[0];
  EXPECT_EQ(l1.capacity_bytes, 32 * kKiB);
  EXPECT_EQ(l1.latency_ns, 1.25);
  EXPECT_EQ(l1.cycles, 4);
  EXPECT_EQ(l1.one_core.write, 50e9);
  EXPECT_FALSE(l1.all_cores.write.has_value());
  const HierarchyRow& disk = read.profile->rows[1];
  EXPECT_FALSE(disk.has_figures());
  EXPECT_EQ(disk.missing, "refused: a cache answered");
  EXPECT_EQ(disk.note, "1.0 MiB x 32");
}

TEST(MachineProfile, IsOfTheMachineThatItWasMeasuredOn) {
  FakeRoot root;
  const std::string path = root.path() + "/machine.json";
  const MachineProfile profile = Example();
  EXPECT_FALSE(LoadProfile(path, profile.machine).profile.has_value());
  EXPECT_EQ(LoadProfile(path, profile.machine).note, "") << "no file is no error";
  ASSERT_TRUE(StoreProfile(path, profile).ok());
  EXPECT_TRUE(LoadProfile(path, profile.machine).profile.has_value());
  MachineIdentity without_disk = profile.machine;
  without_disk.disk = {};
  EXPECT_TRUE(LoadProfile(path, without_disk).profile.has_value()) << "not compared";

  struct Change {
    const char* says;
    void (*make)(MachineIdentity*);
  };
  const Change changes[] = {
      {"CPU: Some CPU then, Other now", [](MachineIdentity* m) { m->cpu = "Other"; }},
      {"threads: 16 then, 8 now", [](MachineIdentity* m) { m->threads = 8; }},
      {"memory: 64.0 GiB then, 32.0 GiB now",
       [](MachineIdentity* m) { m->memory_bytes = 32 * kGiB; }},
      {"NUMA nodes: 2 then, 1 now", [](MachineIdentity* m) { m->numa_nodes = 1; }},
      {"kernel: 6.12.1 then, 6.13 now", [](MachineIdentity* m) { m->kernel = "6.13"; }},
      {"GPU or driver: Some GPU with 80.0 GiB, CUDA 13.0 then, none now",
       [](MachineIdentity* m) { m->devices.clear(); }},
      {"(ext4) at 259:2 then, nvme0n1p2, Fast Disk (xfs)",
       [](MachineIdentity* m) { m->disk.file_system = "xfs"; }},
      {"sda", [](MachineIdentity* m) { m->disk.name = "sda"; }}};
  for (const Change& change : changes) {
    MachineIdentity now = profile.machine;
    change.make(&now);
    const SavedProfile saved = LoadProfile(path, now);
    EXPECT_FALSE(saved.profile.has_value()) << change.says;
    EXPECT_THAT(saved.note, HasSubstr(change.says));
    EXPECT_THAT(saved.note, HasSubstr(path));
  }
}

TEST(MachineProfile, HostileTextsAreNoProfile) {
  const nlohmann::json good = nlohmann::json::parse(ProfileToJson(Example()));
  std::vector<std::string> texts = {"",
                                    "{",
                                    "[]",
                                    "null",
                                    "7",
                                    "\xff\xfe",
                                    "{\"version\":1}",
                                    std::string(100000, '['),
                                    ProfileToJson(Example()).substr(9)};
  const auto with = [&](const char* pointer, nlohmann::json value) {
    nlohmann::json bad = good;
    bad[nlohmann::json::json_pointer(pointer)] = std::move(value);
    texts.push_back(bad.dump());
  };
  with("/version", 2);
  with("/format", "weir-wall");
  with("/measured_unix_s", -1);
  with("/measured_unix_s", 1e30);
  with("/machine", nullptr);
  with("/machine/cpu", 7);
  with("/machine/threads", uint64_t{1} << 40);
  with("/machine/disk", "sda");
  with("/machine/disk/name", nullptr);
  with("/table", "none");
  with("/table/0", 1);
  with("/table/0/level", "");
  with("/table/0/latency_ns", -1);
  with("/table/0/latency_ns", 0);
  with("/table/0/cycles", 1e300);
  with("/table/0/capacity_bytes", 1.5);
  with("/table/0/one_core", 3);
  with("/table/0/one_core/read", "fast");
  with("/table/0/missing", std::string(5000, 'x'));
  for (const char* const member : {"version", "format", "machine", "table", "measured_unix_s"}) {
    nlohmann::json bad = good;
    bad.erase(member);
    texts.push_back(bad.dump());
  }
  nlohmann::json long_table = good;
  for (int i = 0; i < 300; ++i) long_table["table"].push_back(good["table"][0]);
  texts.push_back(long_table.dump());
  for (const std::string& text : texts) {
    const SavedProfile saved = ParseProfile(text, "x.json");
    EXPECT_FALSE(saved.profile.has_value()) << text.substr(0, 200);
    EXPECT_THAT(saved.note, HasSubstr("x.json")) << text.substr(0, 200);
  }
  EXPECT_TRUE(ParseProfile(good.dump(), "x.json").profile.has_value());
}

TEST(MachineIdentity, FromTheKernelsFiles) {
  FakeRoot root;
  EXPECT_EQ(IdentifyMachine(root.path()).threads, 0u);
  root.Write("/proc/cpuinfo",
             "processor\t: 0\nmodel name\t: Fast CPU 9000\n\nprocessor\t: 1\nmodel name\t: Fast\n");
  root.Write("/proc/meminfo", "MemTotal:       65801028 kB\nMemFree: 1 kB\n");
  root.Write("/proc/sys/kernel/osrelease", "6.12.1-amd64\n");
  root.Write("/sys/devices/system/node/has_memory", "0-1\n");
  const MachineIdentity machine = IdentifyMachine(root.path());
  EXPECT_EQ(machine.cpu, "Fast CPU 9000");
  EXPECT_EQ(machine.threads, 2u);
  EXPECT_EQ(machine.memory_bytes % (64 * kMiB), 0u);
  EXPECT_NEAR(static_cast<double>(machine.memory_bytes), 65801028.0 * 1024, 32.0 * kMiB);
  EXPECT_EQ(machine.kernel, "6.12.1-amd64");
  EXPECT_EQ(machine.numa_nodes, 2u);
  EXPECT_THAT(IdentityToText(machine), HasSubstr("Fast CPU 9000, 2 threads, 62.8 GiB"));
  EXPECT_THAT(IdentityToText(machine), HasSubstr("no GPU, no disk"));
  // Some pages more or less at boot are the same machine.
  root.Write("/proc/meminfo", "MemTotal:       65801128 kB\n");
  EXPECT_EQ(IdentifyMachine(root.path()), machine);
}

TEST(MachineIdentity, GpusAndTheirDriver) {
  FakeRoot root;
  CudaDeviceInfo gpu;
  gpu.name = "NVIDIA Fast";
  gpu.total_bytes = 80 * kGiB;
  gpu.driver_version = 12080;
  EXPECT_EQ(DescribeGpus({}, root.path()), "");
  EXPECT_EQ(DescribeGpus({gpu}, root.path()), "NVIDIA Fast with 80.0 GiB, CUDA 12.8");
  root.Write("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX  570.1\nGCC version: x\n");
  EXPECT_THAT(DescribeGpus({gpu, gpu}, root.path()), HasSubstr("NVIDIA UNIX  570.1"));
  EXPECT_THAT(DescribeGpus({gpu}, root.path()), Not(HasSubstr("GCC")));
}

TEST(HierarchyRows, AreRelatedToTheFirstLevel) {
  std::vector<HierarchyRow> rows(3);
  rows[0].level = "L1";
  rows[0].latency_ns = 1;
  rows[1].level = "L2";  // refused: nothing to relate
  rows[2].level = kDiskLevel;
  rows[2].latency_ns = 1e5;
  RelateToL1(4e9, &rows);
  EXPECT_DOUBLE_EQ(rows[0].cycles.value(), 4);
  EXPECT_FALSE(rows[1].cycles.has_value());
  EXPECT_DOUBLE_EQ(rows[2].cycles.value(), 4e5);
  EXPECT_DOUBLE_EQ(rows[2].times_l1.value(), 1e5);
  std::vector<HierarchyRow> alone = {rows[2]};
  alone[0].times_l1.reset();
  RelateToL1(0, &alone);
  EXPECT_FALSE(alone[0].times_l1.has_value());
}

}  // namespace
}  // namespace weir
