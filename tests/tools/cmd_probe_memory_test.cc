#include "tools/cmd_probe_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/base.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(MemoryProbeCommand, OptionsDecideWhatIsMeasured) {
  ProbeMemoryOptions options;
  options.threads = 3;
  options.seconds = 0.5;
  options.rounds = 7;
  const auto probe = MakeMemoryProbe(options, 32 * kMiB);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ(probe->threads, 3u);
  EXPECT_EQ(probe->bytes, kGiB);
  EXPECT_EQ(probe->round_ns, 500'000'000);
  EXPECT_EQ(probe->rounds, 7);
  options.threads = 0;
  EXPECT_GE(MakeMemoryProbe(options, 0)->threads, 1u);
  options.size = "2GiB";
  EXPECT_EQ(MakeMemoryProbe(options, 32 * kMiB)->bytes, 2 * kGiB);
  for (int i = 0; i < 6; ++i) {
    ProbeMemoryOptions bad = options;
    if (i == 0) bad.size = "much";
    if (i == 1) bad.size = "1023MiB";
    if (i == 2) bad.threads = 1025;
    if (i == 3) bad.seconds = 0;
    if (i == 4) bad.seconds = 1e300;
    if (i == 5) bad.rounds = 0;
    EXPECT_EQ(MakeMemoryProbe(bad, 32 * kMiB).status().code(), absl::StatusCode::kInvalidArgument)
        << i;
  }
}

TEST(MemoryProbeCommand, ACacheIsNotTakenForMemory) {
  ProbeMemoryOptions options;
  EXPECT_EQ(MakeMemoryProbe(options, kGiB)->bytes, 4 * kGiB);
  options.size = "3GiB";
  EXPECT_THAT(std::string(MakeMemoryProbe(options, kGiB).status().message()),
              HasSubstr("4.0 GiB at least"));
}

TEST(MemoryProbeCommand, LineAndJsonSayTheSame) {
  MemoryProbe probe;
  probe.threads = 2;
  probe.bytes = kGiB;
  probe.last_level_cache_bytes = 32 * kMiB;
  probe.rounds = 5;
  probe.read = {9e9, 8.5e9, 10e9};
  const nlohmann::json document = MemoryProbeToJson(probe);
  EXPECT_EQ(document["threads"], 2);
  EXPECT_EQ(document["bytes"], kGiB);
  EXPECT_EQ(document["last_level_cache_bytes"], 32 * kMiB);
  EXPECT_EQ(document["read"]["gb_per_s"], 9.0);
  EXPECT_EQ(document["read"]["low_gb_per_s"], 8.5);
  EXPECT_EQ(document["read"]["high_gb_per_s"], 10.0);
  EXPECT_THAT(MemoryProbeToText(probe),
              HasSubstr("reading 1.0 GiB with 2 threads: 9.00 GB/s (8.50 to 10.00, median of 5 "
                        "rounds); last-level cache 32.0 MiB"));
  probe.last_level_cache_bytes = 0;
  EXPECT_THAT(MemoryProbeToText(probe), HasSubstr("of unknown size"));
}

}  // namespace
}  // namespace weir
