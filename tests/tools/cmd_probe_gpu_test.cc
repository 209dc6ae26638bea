#include "tools/cmd_probe_gpu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/base.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(LinkProbeCommand, OptionsDecideWhatIsMeasured) {
  ProbeGpuOptions options;
  options.max_copy = "4MiB";
  options.seconds = 0.5;
  options.rounds = 7;
  const auto probe = MakeDeviceProbe(options);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ(probe->copy_bytes.front(), 64 * kKiB);
  EXPECT_EQ(probe->copy_bytes.back(), 4 * kMiB);
  EXPECT_EQ(probe->pageable_bytes, std::vector<uint64_t>{kMiB});
  EXPECT_EQ(probe->both_ways_bytes, 4 * kMiB);
  EXPECT_EQ(probe->memory_bytes, 8 * kMiB);
  EXPECT_EQ(probe->limit_ns, 500'000'000);
  EXPECT_EQ(probe->rounds, 7);
  for (int i = 0; i < 6; ++i) {
    ProbeGpuOptions bad = options;
    if (i == 0) bad.max_copy = "much";
    if (i == 1) bad.max_copy = "1KiB";
    if (i == 2) bad.max_copy = "1TiB";
    if (i == 3) bad.seconds = 0;
    if (i == 4) bad.seconds = 1e300;
    if (i == 5) bad.rounds = 0;
    EXPECT_EQ(MakeDeviceProbe(bad).status().code(), absl::StatusCode::kInvalidArgument) << i;
  }
}

GpuProbe SomeProbe() {
  GpuProbe probe;
  probe.device = "a device";
  probe.memory = {4 * kGiB, 3 * kGiB};
  probe.options.threads = 5;
  CopyCell cell;
  cell.probe.bytes = 2 * kMiB;
  cell.probe.direction = CopyDirection::kToHost;
  cell.rate = {2.5e9, 2.25e9, 2.75e9};
  probe.result.copies = {cell};
  probe.result.both_ways = {4e9, 4e9, 4e9};
  probe.result.dram_read = {9e9, 8e9, 10e9};
  probe.result.device_read = RateSpread{3e12, 2.9e12, 3.1e12};
  probe.result.launch_s = 2.5e-6;
  probe.result.pinning = {{kGiB, true, 5, 0.25, 0.5}};
  return probe;
}

TEST(LinkProbeCommand, TableAndJsonSayTheSame) {
  const GpuProbe probe = SomeProbe();
  const nlohmann::json document = GpuProbeToJson(probe);
  EXPECT_EQ(document["device"], "a device");
  EXPECT_EQ(document["emulated"], false);
  EXPECT_EQ(document["memory"]["free_bytes"], 3 * kGiB);
  const nlohmann::json& copy = document["copies"][0];
  EXPECT_EQ(copy["direction"], "d2h");
  EXPECT_EQ(copy["mode"], "queued");
  EXPECT_EQ(copy["pinned"], true);
  EXPECT_EQ(copy["bytes"], 2 * kMiB);
  EXPECT_EQ(copy["gb_per_s"], 2.5);
  EXPECT_EQ(copy["low_gb_per_s"], 2.25);
  EXPECT_EQ(document["both_ways"]["gb_per_s"], 4.0);
  EXPECT_EQ(document["dram_read"]["threads"], 5);
  EXPECT_EQ(document["hbm_read"]["gb_per_s"], 3000.0);
  EXPECT_DOUBLE_EQ(document["hbm_read"]["launch_us"].get<double>(), 2.5);
  EXPECT_EQ(document["pinning"][0]["pin_s"], 0.5);
  const std::string text = GpuProbeToText(probe);
  EXPECT_THAT(text, HasSubstr("a device: 4.0 GiB of memory, 3.0 GiB free"));
  EXPECT_THAT(text, HasSubstr("2.50  (2.25 to 2.75)"));
  EXPECT_THAT(text, HasSubstr("3000.00  (2900.00 to 3100.00)"));
  EXPECT_THAT(text, HasSubstr("a kernel that does nothing: 2.50 us"));
  EXPECT_THAT(text, HasSubstr("0.250 s touching with 5 threads, 0.500 s pinning"));
}

TEST(LinkProbeCommand, EmulatedFiguresAreMarked) {
  GpuProbe probe = SomeProbe();
  probe.is_emulated = true;
  probe.result.device_read.reset();
  EXPECT_EQ(GpuProbeToJson(probe)["emulated"], true);
  EXPECT_TRUE(GpuProbeToJson(probe)["hbm_read"].is_null());
  EXPECT_THAT(GpuProbeToText(probe), HasSubstr("nothing here tells of a GPU"));
}

TEST(LinkProbeCommand, RefusalsNameTheOption) {
  ProbeGpuOptions options;
  options.device.device = "tpu";
  EXPECT_THAT(std::string(RunProbeGpu(options).message()), HasSubstr("'tpu'"));
  options.device.device = "cpu";
  EXPECT_THAT(std::string(RunProbeGpu(options).message()), HasSubstr("--device cpu"));
  options.device.device = "emulated";
  options.device.link_h2d = "fast";
  EXPECT_THAT(std::string(RunProbeGpu(options).message()), HasSubstr("--link-h2d"));
}

}  // namespace
}  // namespace weir
