#include "tools/cmd_probe_all.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/base.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(ProbeAllCommand, TimeIsSharedOut) {
  ProbeAllOptions options;
  options.seconds = 40;
  options.rounds = 4;
  const auto times = MakeProbeAllTimes(options);
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_EQ(times->cpu.rounds, 4);
  EXPECT_EQ(times->sequential.rounds, 4);
  EXPECT_TRUE(times->random.is_random);
  EXPECT_FALSE(times->sequential.is_random);
  EXPECT_EQ(times->random.block_bytes, std::vector<uint64_t>{4 * kKiB});
  EXPECT_EQ(times->random.depths, (std::vector<uint32_t>{1, kDeepReads}));
  // What the sweeps and the cold reads take in all rounds is no more than the whole.
  const auto cells = times->sequential.block_bytes.size() * times->sequential.depths.size() +
                     times->random.depths.size() + 1;
  const double disk_s =
      static_cast<double>(times->sequential.cell_ns) * 1e-9 * static_cast<double>(cells) * 4;
  EXPECT_GT(disk_s, 0.2 * 40);
  EXPECT_LT(disk_s, 0.5 * 40);
  EXPECT_LT(times->gpu_s, 40);
  options.seconds = 1e-6;
  EXPECT_GE(MakeProbeAllTimes(options)->cpu.cell_ns, 1'000'000) << "less measures nothing";
}

TEST(ProbeAllCommand, OptionsAreRefusedByName) {
  ProbeAllOptions options;
  options.seconds = 0;
  EXPECT_THAT(std::string(RunProbeAll(options).message()), HasSubstr("--seconds"));
  options.seconds = 1;
  options.rounds = 0;
  EXPECT_THAT(std::string(RunProbeAll(options).message()), HasSubstr("--rounds"));
  options.rounds = 1;
  options.file = "/no/such/file.gguf";
  EXPECT_THAT(std::string(RunProbeAll(options).message()), HasSubstr("/no/such/file.gguf"));
  options.file = "tests/data/tiny.gguf";
  options.device = "tpu";
  EXPECT_THAT(std::string(RunProbeAll(options).message()), HasSubstr("--device"));
  options.device = "cpu";
  options.json = "/no/such/folder/x.json";
  EXPECT_THAT(std::string(RunProbeAll(options).message()), HasSubstr("/no/such/folder"));
}

TEST(ProbeAllCommand, JsonHoldsAllParts) {
  MachineProbe probe;
  probe.machine.cpu = "Some CPU";
  HierarchyRow row;
  row.level = "L1";
  row.latency_ns = 1;
  row.cycles = 4;
  probe.rows = {row};
  MemoryLevel level;
  level.plan.name = "L1";
  level.latency_cycles = level.latency_ns = 4;
  probe.cpu.hierarchy.levels = {level};
  const nlohmann::json document = MachineProbeToJson(probe);
  EXPECT_EQ(document["machine"]["cpu"], "Some CPU");
  EXPECT_EQ(document["table"].size(), 1u);
  EXPECT_EQ(document["claims"][0]["what"], "L1 answers in");
  EXPECT_EQ(document["cpu"]["levels"].size(), 1u);
  EXPECT_TRUE(document["gpu"].is_null());
  EXPECT_TRUE(document["disk"].is_null());
  EXPECT_THAT(MachineProbeToText(probe), HasSubstr("Some CPU"));
}

}  // namespace
}  // namespace weir
