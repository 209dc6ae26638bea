#include "tools/cmd_probe_cpu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/base.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

MemoryLevel Level(const char* name, uint64_t capacity, double cycles, double gb_per_s) {
  MemoryLevel level;
  level.plan = {name, capacity, 1, capacity / 2};
  level.latency_cycles = cycles;
  level.latency_ns = cycles / 4;
  level.low_latency_ns = level.high_latency_ns = level.latency_ns;
  level.one_core.fill({gb_per_s * 1e9, gb_per_s * 1e9, gb_per_s * 1e9});
  level.all_cores.fill({2e9 * gb_per_s, 2e9 * gb_per_s, 2e9 * gb_per_s});
  return level;
}

CpuProbe Example() {
  CpuProbe probe;
  probe.isa = "AVX2";
  probe.hierarchy.threads = 2;
  probe.hierarchy.clock_hz = 4e9;
  probe.hierarchy.levels = {Level("L1", 32 * kKiB, 4, 200), Level("L2", 512 * kKiB, 12, 100),
                            Level("L3", 32 * kMiB, 48, 40), Level("DRAM", 0, 400, 20)};
  probe.hierarchy.levels[0].step_bytes = 33 * kKiB;
  probe.hierarchy.curve = {{4 * kKiB, 1, 4}};
  return probe;
}

TEST(CpuProbeCommand, OptionsAreChecked) {
  ProbeCpuOptions options;
  options.seconds = 0.5;
  options.rounds = 3;
  const auto made = MakeHierarchyProbe(options);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->cell_ns, 500'000'000);
  EXPECT_EQ(made->rounds, 3);
  options.seconds = 0;
  EXPECT_THAT(std::string(MakeHierarchyProbe(options).status().message()), HasSubstr("--seconds"));
  options.seconds = 1;
  options.rounds = 0;
  EXPECT_THAT(std::string(MakeHierarchyProbe(options).status().message()), HasSubstr("--rounds"));
}

TEST(CpuProbeCommand, TextAndJsonSayTheSame) {
  const CpuProbe probe = Example();
  const std::string text = CpuProbeToText(probe);
  EXPECT_THAT(text, HasSubstr("4.00 GHz"));
  EXPECT_THAT(text, HasSubstr("latency leaves L1 at 33.0 KiB (of 32.0 KiB), L2 at no size"));
  EXPECT_THAT(text, HasSubstr("DRAM answers in"));
  EXPECT_THAT(text, HasSubstr("1.33 times more"));  // 400 cycles of 200 to 300
  const nlohmann::json document = CpuProbeToJson(probe);
  EXPECT_EQ(document["cores"], 2);
  ASSERT_EQ(document["levels"].size(), 4u);
  EXPECT_EQ(document["levels"][0]["capacity_bytes"], 32 * kKiB);
  EXPECT_EQ(document["levels"][0]["step_bytes"], 33 * kKiB);
  EXPECT_TRUE(document["levels"][3]["capacity_bytes"].is_null());
  EXPECT_EQ(document["levels"][3]["times_l1"], 100);
  EXPECT_EQ(document["levels"][3]["all_cores"]["read"]["gb_per_s"], 40);
  EXPECT_EQ(document["claims"].size(), JudgeHierarchy(probe.hierarchy).size());
}

TEST(CpuProbeCommand, WhatIsNotThereIsNotJudged) {
  CpuProbe probe = Example();
  probe.hierarchy.levels.erase(probe.hierarchy.levels.begin() + 2);  // no L3
  for (const Verdict& verdict : JudgeHierarchy(probe.hierarchy)) {
    EXPECT_EQ(verdict.claim.what.find("L3"), std::string::npos) << verdict.claim.what;
  }
}

}  // namespace
}  // namespace weir
