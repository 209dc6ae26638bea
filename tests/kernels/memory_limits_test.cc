// Trees of /proc and /sys as machines and containers of several kinds show them.
#include "kernels/memory_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/base.h"
#include "io/system_files.h"
#include "tests/io/fake_root_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr char kMeminfo[] =
    "MemTotal:       24669216 kB\nMemFree:         1000000 kB\nMemAvailable:   20000000 kB\n";

MemoryLimits Read(const FakeRoot& root) {
  const auto limits = ReadMemoryLimits(root.path());
  EXPECT_TRUE(limits.ok()) << limits.status();
  return limits.ok() ? *limits : MemoryLimits();
}

TEST(MemoryLimits, NoCgroup) {
  FakeRoot root;
  root.Write("/proc/meminfo", kMeminfo);
  const MemoryLimits limits = Read(root);
  EXPECT_EQ(limits.total_bytes, 24669216 * kKiB);
  EXPECT_EQ(limits.available_bytes, 20000000 * kKiB);
  EXPECT_EQ(limits.usable_bytes, 20000000 * kKiB);
  EXPECT_FALSE(limits.cgroup.has_value());
}

TEST(MemoryLimits, MissingOrAncientMeminfo) {
  FakeRoot root;
  EXPECT_EQ(ReadMemoryLimits(root.path()).status().code(), absl::StatusCode::kUnavailable);
  root.Write("/proc/meminfo", "MemTotal: 24669216 kB\n");
  EXPECT_EQ(ReadMemoryLimits(root.path()).status().code(), absl::StatusCode::kUnavailable);
}

class CgroupV2 : public ::testing::Test {
 protected:
  void SetUp() override {
    root_.Write("/proc/meminfo", kMeminfo);
    root_.Write("/proc/self/cgroup", "0::/system.slice/weir.service\n");
    root_.Write("/proc/self/mountinfo",
                "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
  }

  void Group(const std::string& path, const std::string& max, const std::string& high,
             uint64_t current_bytes, uint64_t inactive_bytes, uint64_t active_bytes) {
    const std::string folder = "/sys/fs/cgroup" + path;
    root_.Write(folder + "/memory.max", max + "\n");
    root_.Write(folder + "/memory.high", high + "\n");
    root_.Write(folder + "/memory.current", std::to_string(current_bytes) + "\n");
    root_.Write(folder + "/memory.stat", "anon 1\nfile 2\ninactive_file " +
                                             std::to_string(inactive_bytes) + "\nactive_file " +
                                             std::to_string(active_bytes) + "\n");
  }

  FakeRoot root_;
};

TEST_F(CgroupV2, OwnLimitLessWhatCannotBeReclaimed) {
  Group("/system.slice/weir.service", "1000000000", "max", 400000000, 100000000, 50000000);
  const MemoryLimits limits = Read(root_);
  ASSERT_TRUE(limits.cgroup.has_value());
  EXPECT_EQ(limits.cgroup->limit_bytes, 1000000000u);
  EXPECT_EQ(limits.cgroup->usage_bytes, 400000000u);
  EXPECT_EQ(limits.cgroup->reclaimable_bytes, 150000000u);
  EXPECT_EQ(limits.usable_bytes, 1000000000u - 400000000 + 150000000);
}

TEST_F(CgroupV2, AnAncestorMayBeTighter) {
  Group("/system.slice/weir.service", "1000000000", "max", 100000000, 0, 0);
  Group("/system.slice", "1200000000", "max", 900000000, 0, 0);
  const MemoryLimits limits = Read(root_);
  EXPECT_EQ(limits.usable_bytes, 300000000u);
  EXPECT_EQ(limits.cgroup->path, root_.path() + "/sys/fs/cgroup/system.slice");
}

TEST_F(CgroupV2, HighThrottlesSoItCounts) {
  Group("/system.slice/weir.service", "1000000000", "700000000", 100000000, 0, 0);
  EXPECT_EQ(Read(root_).usable_bytes, 600000000u);
}

TEST_F(CgroupV2, OverTheLimitNothingIsLeft) {
  Group("/system.slice/weir.service", "1000", "max", 5000, 100, 0);
  EXPECT_EQ(Read(root_).usable_bytes, 0u);
}

TEST_F(CgroupV2, MaxIsNoLimit) {
  Group("/system.slice/weir.service", "max", "max", 5000, 100, 0);
  const MemoryLimits limits = Read(root_);
  EXPECT_FALSE(limits.cgroup.has_value());
  EXPECT_EQ(limits.usable_bytes, limits.available_bytes);
}

TEST_F(CgroupV2, TheMachineMayBeTighter) {
  Group("/system.slice/weir.service", "900000000000", "max", 0, 0, 0);
  EXPECT_EQ(Read(root_).usable_bytes, 20000000 * kKiB);
}

TEST_F(CgroupV2, InANamespaceTheMountPointIsTheOwnGroup) {
  root_.Write("/proc/self/cgroup", "0::/\n");
  Group("", "600000000", "max", 100000000, 0, 0);
  EXPECT_EQ(Read(root_).usable_bytes, 500000000u);
  root_.Write("/proc/self/cgroup", "0::/../../other\n");
  EXPECT_EQ(Read(root_).usable_bytes, 500000000u);
}

TEST(MemoryLimits, CgroupV1InAContainer) {
  FakeRoot root;
  root.Write("/proc/meminfo", kMeminfo);
  root.Write("/proc/self/cgroup",
             "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n");
  root.Write("/proc/self/mountinfo",
             "34 31 0:30 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"
             "35 31 0:32 /docker/abc /sys/fs/cgroup/me\\040mory ro - cgroup cgroup rw,memory\n");
  const std::string folder = "/sys/fs/cgroup/me mory";
  root.Write(folder + "/memory.limit_in_bytes", "9223372036854771712\n");
  root.Write(folder + "/memory.usage_in_bytes", "300000000\n");
  root.Write(folder + "/memory.stat",
             "inactive_file 1\nactive_file 1\nhierarchical_memory_limit 800000000\n"
             "total_inactive_file 50000000\ntotal_active_file 10000000\n");
  const MemoryLimits limits = Read(root);
  ASSERT_TRUE(limits.cgroup.has_value());
  EXPECT_EQ(limits.cgroup->limit_bytes, 800000000u) << "of a group above that is not visible";
  EXPECT_EQ(limits.usable_bytes, 800000000u - 300000000 + 60000000);
  root.Write(folder + "/memory.limit_in_bytes", "500000000\n");
  EXPECT_EQ(Read(root).usable_bytes, 500000000u - 300000000 + 60000000);
}

TEST(MemoryLimits, CgroupV1BesideV2) {
  FakeRoot root;
  root.Write("/proc/meminfo", kMeminfo);
  root.Write("/proc/self/cgroup", "4:memory:/a/b\n0::/\n");
  root.Write("/proc/self/mountinfo",
             "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n"
             "38 31 0:35 / /cg/unified rw - cgroup2 cgroup2 rw\n");
  root.Write("/cg/memory/a/memory.limit_in_bytes", "700000000\n");
  root.Write("/cg/memory/a/memory.usage_in_bytes", "100000000\n");
  root.Write("/cg/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(Read(root).usable_bytes, 600000000u);
}

constexpr char kPressure[] =
    "some avg10=40.00 avg60=9.00 avg300=1.00 total=5000000\n"
    "full avg10=FULL avg60=2.00 avg300=0.10 total=1234567\n";

std::string Pressure(const std::string& full_avg10) {
  std::string text = kPressure;
  return text.replace(text.find("FULL"), 4, full_avg10);
}

TEST(MemoryPressureTest, OfMachineAndCgroup) {
  FakeRoot root;
  EXPECT_FALSE(ReadMemoryPressure(root.path()).has_value());
  root.Write("/proc/pressure/memory", Pressure("3.25"));
  auto pressure = ReadMemoryPressure(root.path());
  ASSERT_TRUE(pressure.has_value());
  EXPECT_DOUBLE_EQ(pressure->full_avg10_percent, 3.25);
  EXPECT_EQ(pressure->full_total_us, 1234567u);
  root.Write("/proc/self/cgroup", "0::/a\n");
  root.Write("/proc/self/mountinfo", "29 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
  root.Write("/cg/a/memory.pressure", "some avg10=0 total=1\nfull avg10=0.50 total=77\n");
  pressure = ReadMemoryPressure(root.path());
  ASSERT_TRUE(pressure.has_value());
  EXPECT_DOUBLE_EQ(pressure->full_avg10_percent, 3.25) << "the machine stalls more";
  EXPECT_EQ(pressure->full_total_us, 77u) << "but this process's time is its cgroup's";
  for (const char* text :
       {"", "full\n", "full avg10=x total=1\n", "full avg10=1\n", "some avg10=9"}) {
    root.Write("/cg/a/memory.pressure", text);
    root.Write("/proc/pressure/memory", text);
    EXPECT_FALSE(ReadMemoryPressure(root.path()).has_value()) << text;
  }
}

TEST(MemoryPressureTest, WhereItStallsPageCacheIsNotFree) {
  FakeRoot root;
  root.Write("/proc/meminfo", kMeminfo);
  root.Write("/proc/pressure/memory", Pressure("9.99"));
  EXPECT_FALSE(Read(root).is_stalling());
  EXPECT_EQ(Read(root).usable_bytes, 20000000 * kKiB);
  root.Write("/proc/pressure/memory", Pressure("10.00"));
  EXPECT_TRUE(Read(root).is_stalling());
  EXPECT_EQ(Read(root).usable_bytes, 1000000 * kKiB);
  const absl::Status refused = CheckBudget(2 * kGiB, Read(root), {});
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("waited for memory for 10 %"));
  root.Write("/proc/self/cgroup", "0::/a\n");
  root.Write("/proc/self/mountinfo", "29 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
  root.Write("/cg/a/memory.max", "900000000\n");
  root.Write("/cg/a/memory.current", "700000000\n");
  root.Write("/cg/a/memory.stat", "inactive_file 300000000\nactive_file 300000000\n");
  EXPECT_EQ(Read(root).usable_bytes, 200000000u);
}

TEST(CheckBudgetTest, TheMarginMustFitToo) {
  MemoryLimits limits;
  limits.total_bytes = limits.available_bytes = 4 * kGiB;
  limits.cgroup = CgroupLimit{.path = "/cg/a", .limit_bytes = kGiB, .usage_bytes = 0};
  limits.usable_bytes = limits.cgroup->left_bytes();
  ProcessCounters process;
  process.anonymous_bytes = 0;
  const absl::Status refused = CheckBudget(kGiB, limits, process);
  ASSERT_TRUE(absl::IsResourceExhausted(refused)) << "a budget of the whole limit is killed";
  EXPECT_THAT(std::string(refused.message()), HasSubstr("1.0 GiB"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("/cg/a"));
  EXPECT_TRUE(CheckBudget(kGiB - kProcessMarginBytes, limits, process).ok());
  // What the process has already is part of its margin: nothing changes when it is counted.
  process.anonymous_bytes = 20 * kMiB;
  limits.cgroup->usage_bytes = 25 * kMiB;  // with its page tables and the like
  limits.usable_bytes = limits.cgroup->left_bytes();
  EXPECT_TRUE(CheckBudget(kGiB - kProcessMarginBytes, limits, process).ok());
  // What others have in the cgroup is not.
  limits.cgroup->usage_bytes = 125 * kMiB;
  limits.usable_bytes = limits.cgroup->left_bytes();
  EXPECT_FALSE(CheckBudget(kGiB - kProcessMarginBytes, limits, process).ok());
  EXPECT_TRUE(CheckBudget(kGiB - kProcessMarginBytes - 100 * kMiB, limits, process).ok());
  limits.usable_bytes = 0;
  EXPECT_FALSE(CheckBudget(1, limits, process).ok());
}

TEST(MemoryLimits, NonsenseIsNotALimit) {
  FakeRoot root;
  root.Write("/proc/meminfo", kMeminfo);
  root.Write("/proc/self/cgroup", "nonsense\n0:x\n::\n0::/a\n");
  root.Write("/proc/self/mountinfo", "short\n1 2 3 - \n29 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
  root.Write("/cg/a/memory.max", "lots\n");
  root.Write("/cg/a/memory.current", "-5\n");
  EXPECT_FALSE(Read(root).cgroup.has_value());
}

TEST(MemoryLimits, OfThisMachine) {
  const auto limits = ReadMemoryLimits();
  ASSERT_TRUE(limits.ok()) << limits.status();
  EXPECT_GT(limits->total_bytes, limits->usable_bytes);
  EXPECT_GT(limits->usable_bytes, 0u);
}

TEST(ProcessCounters, FromFilesAndForReal) {
  FakeRoot root;
  EXPECT_FALSE(ReadProcessCounters(root.path()).peak_rss_bytes.has_value());
  EXPECT_FALSE(ReadProcessCounters(root.path()).disk_read_bytes.has_value());
  root.Write(
      "/proc/self/status",
      "Name:\tweir\nVmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\nRssAnon:\t 512 kB\n");
  root.Write("/proc/self/io", "rchar: 5\nread_bytes: 4096\ncancelled_write_bytes: 0\n");
  const ProcessCounters fake = ReadProcessCounters(root.path());
  EXPECT_EQ(fake.peak_rss_bytes, 2 * kMiB);
  EXPECT_EQ(fake.rss_bytes, kMiB);
  EXPECT_EQ(fake.anonymous_bytes, kMiB / 2);
  EXPECT_EQ(fake.disk_read_bytes, 4096u);
  const ProcessCounters real = ReadProcessCounters();
  if (real.peak_rss_bytes && real.rss_bytes) {
    EXPECT_GE(*real.peak_rss_bytes, *real.rss_bytes);
  }
}

TEST(FindSystemNumber, WholeNamesOnly) {
  EXPECT_EQ(FindSystemNumber("active_file_x 1\nactive_file 2\n", "active_file"), 2u);
  EXPECT_EQ(FindSystemNumber("inactive_file 1\n", "active_file"), std::nullopt);
  EXPECT_EQ(FindSystemNumber("Vm: many kB\n", "Vm"), std::nullopt);
  EXPECT_EQ(FindSystemNumber("Vm: 18446744073709551615 kB\n", "Vm"), std::nullopt);
  EXPECT_EQ(FindSystemNumber("Vm:\n", "Vm"), std::nullopt);
}

}  // namespace
}  // namespace weir
