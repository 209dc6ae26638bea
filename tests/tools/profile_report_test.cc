// The profile's tables, from counts made up here.
#include "tools/profile_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/base.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ProfileCeilings Ceilings() {
  ProfileCeilings ceilings;
  ceilings.threads = 2;
  ceilings.isa = "AVX2";
  ceilings.dram_before_bytes_per_s = 9e9;
  ceilings.dram_after_bytes_per_s = 11e9;
  ceilings.probe_bytes = 512 * kMiB;
  ceilings.cache_bytes = 100'000;
  ceilings.byte_operations_per_s = 400e9;
  ceilings.float_operations_per_s = 100e9;
  return ceilings;
}

const OpLabel kDown{ProfiledOp::kDown, DType::kQ4_K};
const OpLabel kHead{ProfiledOp::kHead, DType::kF32};
const OpLabel kEmbed{ProfiledOp::kEmbed, DType::kF32};
const OpLabel kNorm{ProfiledOp::kNorm};

// Two tokens, of 1 ms each: 0.5 down, 0.25 head, 0.05 norm; 0.15 waiting before the pass, 0.05 in
// it.
PhaseProfile TwoTokens() {
  PhaseProfile phase;
  phase.unit = "token";
  phase.units = 2;
  phase.seconds = 2e-3;
  const auto at = [&phase](const OpLabel& label) -> OpCount& {
    return phase.total.counts[label.number()];
  };
  at(kDown) = {.calls = 6,
               .run_ns = 1'000'000,
               .wait_ns = 100'000,
               .work = {.bytes = 2'000'000, .operations = 20'000'000}};
  at(kHead) = {
      .calls = 2, .run_ns = 500'000, .work = {.bytes = 4'000'000, .operations = 2'000'000}};
  at(kNorm) = {.calls = 4, .run_ns = 100'000};
  at(kEmbed) = {.wait_ns = 200'000};
  phase.total.idle_ns = 100'000;
  phase.total.at_ns = 2'000'000;
  return phase;
}

const ProfileRow& RowOf(const ProfileTable& table, const std::string& op) {
  for (const ProfileRow& row : table.rows) {
    if (row.op == op) return row;
  }
  ADD_FAILURE() << "no row " << op;
  return table.sum;
}

TEST(ProfileReportTest, RowsAreOfOneUnitAndAddUp) {
  const ProfileTable table = MakeProfileTable(TwoTokens(), ActivationFormat::kQ16, Ceilings());
  const ProfileRow& down = RowOf(table, "down");
  EXPECT_EQ(down.format, "Q4_K");
  EXPECT_DOUBLE_EQ(down.calls, 3);
  EXPECT_DOUBLE_EQ(down.ms, 0.5);
  EXPECT_DOUBLE_EQ(down.share, 0.5);
  EXPECT_DOUBLE_EQ(down.bytes, 1e6);
  EXPECT_DOUBLE_EQ(down.bytes_per_s, 2e9);
  EXPECT_DOUBLE_EQ(down.dram_share, 0.2);
  EXPECT_DOUBLE_EQ(down.operations_per_s, 20e9);
  EXPECT_DOUBLE_EQ(down.peak_share, 0.1);  // of half of the products of bytes
  EXPECT_DOUBLE_EQ(RowOf(table, "waiting: disk, scheduling").ms, 0.05);
  EXPECT_DOUBLE_EQ(RowOf(table, "waiting: between passes").ms, 0.15);
  EXPECT_DOUBLE_EQ(table.sum.ms, 1);
  EXPECT_DOUBLE_EQ(table.unit_ms, 1);
  EXPECT_DOUBLE_EQ(table.sum.bytes, 3e6);
  EXPECT_DOUBLE_EQ(table.sum.dram_share, 0.3);
  double sum_ms = 0;
  for (const ProfileRow& row : table.rows) sum_ms += row.ms;
  EXPECT_DOUBLE_EQ(sum_ms, table.sum.ms);
  EXPECT_THAT(table.notes, IsEmpty());
  EXPECT_THAT(TableText(table), HasSubstr("the rows add up to 100.0 %"));
}

TEST(ProfileReportTest, ThePeakIsTheInstructionsThatAProductIsMadeOf) {
  const ProfileCeilings ceilings = Ceilings();
  EXPECT_EQ(PeakFor(kDown, ActivationFormat::kQ16, ceilings), 200e9);
  EXPECT_EQ(PeakFor(kDown, ActivationFormat::kQ8, ceilings), 400e9);
  EXPECT_EQ(PeakFor(kDown, ActivationFormat::kF32, ceilings), 100e9);
  EXPECT_EQ(PeakFor(kHead, ActivationFormat::kQ8, ceilings), 100e9);
  EXPECT_EQ(PeakFor({ProfiledOp::kAttention}, ActivationFormat::kQ8, ceilings), 100e9);
}

TEST(ProfileReportTest, AShareAboveACeilingIsExplained) {
  PhaseProfile phase = TwoTokens();
  phase.total.counts[kHead.number()].work.bytes = 10'000'000;  // 20 GB/s
  ProfileCeilings ceilings = Ceilings();
  ProfileTable table = MakeProfileTable(phase, ActivationFormat::kQ16, ceilings);
  ASSERT_EQ(table.notes.size(), 1u);
  EXPECT_THAT(table.notes[0], HasSubstr("a part of what a token reads"));
  EXPECT_THAT(TableText(table), HasSubstr("200 %*"));
  ceilings.cache_bytes = 64 * kMiB;
  table = MakeProfileTable(phase, ActivationFormat::kQ16, ceilings);
  ASSERT_EQ(table.notes.size(), 1u);
  EXPECT_THAT(table.notes[0], HasSubstr("fits into the last-level cache (64.0 MiB)"));
  phase = TwoTokens();
  phase.total.counts[kDown.number()].work.operations *= 20;
  table = MakeProfileTable(phase, ActivationFormat::kQ16, Ceilings());
  ASSERT_EQ(table.notes.size(), 1u);
  EXPECT_THAT(table.notes[0], HasSubstr("peak of arithmetic"));
}

TEST(ProfileReportTest, RowsThatDoNotAddUpAreAnnounced) {
  PhaseProfile phase = TwoTokens();
  phase.seconds = 4e-3;
  const ProfileTable table = MakeProfileTable(phase, ActivationFormat::kQ16, Ceilings());
  ASSERT_EQ(table.notes.size(), 1u);
  EXPECT_THAT(table.notes[0], HasSubstr("the rows add up to 1 ms and a token took 2: -50.0 %"));
}

TEST(ProfileReportTest, APhaseIsTheDifferenceOfTwoMoments) {
  OpCounts begin, end;
  begin.at_ns = 10;
  begin.idle_ns = 2;
  end.at_ns = 110;
  end.idle_ns = 5;
  begin.counts[7] = {.calls = 1, .run_ns = 3, .wait_ns = 4, .work = {5, 6}};
  end.counts[7] = {.calls = 11, .run_ns = 33, .wait_ns = 44, .work = {55, 66}};
  PhaseProfile phase;
  phase.Add(begin, end);
  phase.Add(begin, end);
  EXPECT_EQ(phase.total.at_ns, 200);
  EXPECT_EQ(phase.total.idle_ns, 6);
  EXPECT_EQ(phase.total.counts[7].calls, 20u);
  EXPECT_EQ(phase.total.counts[7].run_ns, 60);
  EXPECT_EQ(phase.total.counts[7].wait_ns, 80);
  EXPECT_EQ(phase.total.counts[7].work.bytes, 100u);
  EXPECT_EQ(phase.total.counts[7].work.operations, 120u);
}

TEST(ProfileReportTest, ASmallProbeIsAnnounced) {
  ProfileCeilings ceilings = Ceilings();
  EXPECT_THAT(CeilingsText(ceilings, ActivationFormat::kQ16), Not(HasSubstr("too high")));
  EXPECT_THAT(CeilingsText(ceilings, ActivationFormat::kQ16), HasSubstr("two each: 200"));
  ceilings.cache_bytes = 400 * kMiB;
  EXPECT_THAT(CeilingsText(ceilings, ActivationFormat::kQ8), HasSubstr("too high"));
}

}  // namespace
}  // namespace weir
