// What a run says of itself, from figures made up here.
#include "tools/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/base.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

RunReport OnTheCpu() {
  RunReport report;
  report.generation.prompt_tokens = 10;
  report.generation.prompt_s = 2;
  report.generation.tokens = {1, 2, 3};
  report.generation.decode_s = 4;
  report.generation.decode_passes = 2;
  report.predicted_decode_tokens_per_s = 0.6;
  report.predicted_bottleneck = "disk";
  report.disk_bytes = 3'000'000'000;
  report.disk_s = 2;
  report.disk_ceiling_bytes_per_s = 2e9;
  report.resident_share = 0.25;
  report.weights = {.host = 0.25, .disk = 0.75};
  report.compute_s = 1;
  report.disk_stall_s = 2;
  report.other_s = 1;
  report.peak_rss_bytes = 400 * kMiB;
  report.dram_budget_bytes = 390 * kMiB;
  return report;
}

RunReport OnAnAccelerator() {
  RunReport report = OnTheCpu();
  report.weights = {.device = 0.5, .host = 0.3, .disk = 0.2, .in_place = 0.1};
  report.generation.decode_copy_bytes = 8'000'000'000;
  report.accelerator = AcceleratorReport{.hbm_budget_bytes = 100 * kMiB,
                                         .hbm_bytes = 99 * kMiB,
                                         .copies = 7,
                                         .link_bytes = 9'000'000'000,
                                         .link_s = 3,
                                         .link_ceiling_bytes_per_s = 4e9,
                                         .copy_stall_s = 1};
  return report;
}

TEST(Report, TheFooterOfTheCpuKnowsNoLink) {
  const std::string footer = Footer(OnTheCpu());
  EXPECT_THAT(footer, HasSubstr("10 prompt tokens at 5.0 tok/s, 3 generated at 0.50 tok/s "
                                "(predicted 0.60, +20 %, bound by disk)"));
  EXPECT_THAT(footer, HasSubstr("disk 3.00 GB read at 1.50 GB/s (75 % of the measured 2.00), 25 % "
                                "of weights resident | time: compute 25 %, disk stall 50 %, other "
                                "25 %"));
  EXPECT_THAT(footer, HasSubstr("peak memory 400.0 MiB (budget 390.0 MiB)"));
  for (const char* word : {"link", "HBM", "emulated", "copy"}) {
    EXPECT_THAT(footer, Not(HasSubstr(word)));
  }
}

TEST(Report, TheFooterOfAnAcceleratorHasItsLinkAndItsMemory) {
  const std::string footer = Footer(OnAnAccelerator());
  EXPECT_THAT(footer, HasSubstr("link 9.00 GB copied at 3.00 GB/s (75 % of the measured 4.00)"));
  EXPECT_THAT(footer,
              HasSubstr("weights: HBM 50 %, DRAM 30 %, disk 20 %, 10 % multiplied in place"));
  EXPECT_THAT(footer,
              HasSubstr("time: compute 20 %, disk stall 40 %, copy stall 20 %, other 20 %"));
  EXPECT_THAT(footer, HasSubstr("HBM 99.0 MiB (budget 100.0 MiB)"));
  EXPECT_THAT(footer, Not(HasSubstr("emulated")));
}

TEST(Report, AnEmulatedRunSaysSoEverywhere) {
  RunReport report = OnAnAccelerator();
  report.is_emulated = true;
  EXPECT_EQ(Footer(report).find("emulated: "), 0u);
  EXPECT_EQ(ReportJson(report)["emulated"], true);
  EXPECT_THAT(TraceProcess(true).name, HasSubstr("emulated"));
  EXPECT_THAT(TraceProcess(false).name, Not(HasSubstr("emulated")));
  EXPECT_EQ(Forecast(Prediction(), Ceilings(), true).find("emulated: "), 0u);
}

TEST(Report, TheForecastNamesEachLinkThatIsUsed) {
  Ceilings ceilings;
  ceilings.disk_bytes_per_s = 2e9;
  ceilings.link_bytes_per_s = 25e9;
  Prediction prediction;
  prediction.decode_tokens_per_s = 4;
  prediction.bottleneck = "link";
  prediction.compute_s = 0.125;
  EXPECT_EQ(Forecast(prediction, ceilings, false),
            "predicted 4.00 tok/s, bound by link (a token: compute 125 ms)");
  prediction.disk_s = 0.1;
  prediction.link_s = 0.25;
  prediction.host_compute_s = 0.05;
  EXPECT_EQ(Forecast(prediction, ceilings, false),
            "predicted 4.00 tok/s, bound by link (a token: disk 100 ms at 2.00 GB/s, link 250 ms "
            "at 25.00 GB/s, compute 125 ms, CPU 50 ms)");
}

TEST(Report, JsonHasTheAcceleratorsNamesWithOneOnly) {
  const nlohmann::json cpu = ReportJson(OnTheCpu());
  EXPECT_EQ(cpu["emulated"], false);
  EXPECT_EQ(cpu["weights"]["dram"], 0.25);
  EXPECT_FALSE(cpu["links"].contains("link"));
  EXPECT_FALSE(cpu.contains("hbm_bytes"));
  EXPECT_FALSE(cpu["time_s"].contains("copy_stall"));
  const nlohmann::json json = ReportJson(OnAnAccelerator());
  EXPECT_EQ(json["hbm_bytes"], 99 * kMiB);
  EXPECT_EQ(json["hbm_budget_bytes"], 100 * kMiB);
  EXPECT_EQ(json["links"]["link"]["bytes"], 9'000'000'000);
  EXPECT_EQ(json["links"]["link"]["gb_per_s"], 3.0);
  EXPECT_EQ(json["links"]["link"]["ceiling_gb_per_s"], 4.0);
  EXPECT_EQ(json["decode"]["copied_bytes"], 8'000'000'000);
  EXPECT_EQ(json["decode"]["link_gb_per_s"], 2.0);
  EXPECT_EQ(json["time_s"]["copy_stall"], 1.0);
  EXPECT_EQ(json["weights"]["in_place"], 0.1);
}

TEST(Report, SharesOfAPlanAddUp) {
  PlanSummary summary;
  summary.resident_payload_bytes = 80;
  summary.device_payload_bytes = 50;
  summary.streamed_payload_bytes = 20;
  summary.in_place_payload_bytes = 10;
  const WeightShares shares = SharesOf(summary);
  EXPECT_EQ(shares.device, 0.5);
  EXPECT_EQ(shares.host, 0.3);
  EXPECT_EQ(shares.disk, 0.2);
  EXPECT_EQ(shares.in_place, 0.1);
  EXPECT_EQ(SharesOf(PlanSummary()).disk, 0);
}

}  // namespace
}  // namespace weir
