#include "io/base.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/clock.h"

namespace weir {
namespace {

TEST(ParseBytes, AcceptedTexts) {
  struct Case {
    const char* text;
    uint64_t bytes;
  };
  const Case cases[] = {
      {"0", 0},
      {"4096", 4096},
      {"4096B", 4096},
      {"1k", 1024},
      {"1K", 1024},
      {"1KiB", 1024},
      {"1kb", 1000},
      {"400MiB", 419430400},
      {"400 MiB", 419430400},
      {"400mib", 419430400},
      {"400M", 419430400},
      {"400MB", 400000000},
      {"1.5GiB", 1610612736},
      {"1.5G", 1610612736},
      {"1.5GB", 1500000000},
      {"2G", 2147483648},
      {"0.5K", 512},
      {"0.0001K", 0},
      {"0.999999999999999999999K", 1024},  // rounds to 1 in double precision
      {"1T", uint64_t{1} << 40},
      {"3TB", 3000000000000},
      {"18446744073709551615", 18446744073709551615u},
      {"16777215T", 16777215 * (uint64_t{1} << 40)},
      {"16777215.999T", 16777215 * (uint64_t{1} << 40) + 1098412116148},
  };
  for (const Case& c : cases) {
    const absl::StatusOr<uint64_t> bytes = ParseBytes(c.text);
    ASSERT_TRUE(bytes.ok()) << c.text << ": " << bytes.status();
    EXPECT_EQ(*bytes, c.bytes) << c.text;
  }
}

TEST(ParseBytes, RefusedTexts) {
  for (const char* text : {"",          " ",
                           "MiB",       "-1",
                           "+1",        " 1",
                           "1 ",        "1  MiB",
                           "1.MiB",     ".5G",
                           "1.5",       "1.5B",
                           "1e9",       "0x10",
                           "1MiBs",     "1P",
                           "1,5G",      "nan",
                           "inf",       "18446744073709551616",
                           "16777216T", "99999999999999999999G",
                           "1\tMiB",    "1..5G",
                           "1.5.5G",    "1mi"}) {
    const absl::StatusOr<uint64_t> bytes = ParseBytes(text);
    ASSERT_FALSE(bytes.ok()) << '"' << text << "\" gave " << *bytes;
    EXPECT_EQ(bytes.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(bytes.status().message()), ::testing::HasSubstr(text));
  }
}

TEST(FormatBytes, OneDecimalOfTheLargestUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes(419430400), "400.0 MiB");
  EXPECT_EQ(FormatBytes(1610612736), "1.5 GiB");
  EXPECT_EQ(FormatBytes(kMiB - 1), "1.0 MiB");
  EXPECT_EQ(FormatBytes(~uint64_t{0}), "16384.0 PiB");
}

TEST(Integers, AlignAndDivide) {
  EXPECT_EQ(AlignDown(4097, 4096), 4096u);
  EXPECT_EQ(AlignUp(4097, 4096), 8192u);
  EXPECT_EQ(AlignUp(4096, 4096), 4096u);
  EXPECT_EQ(CeilDiv(10, 5), 2u);
  EXPECT_EQ(CeilDiv(11, 5), 3u);
  EXPECT_EQ(CeilDiv(~uint64_t{0}, 2), uint64_t{1} << 63);
}

TEST(Integers, OverflowLeavesTheResultAlone) {
  uint64_t result = 7;
  EXPECT_FALSE(CheckedAdd(~uint64_t{0}, 1, &result));
  EXPECT_FALSE(CheckedMul(uint64_t{1} << 32, uint64_t{1} << 32, &result));
  EXPECT_EQ(result, 7u);
  EXPECT_TRUE(CheckedAdd(~uint64_t{0}, 0, &result));
  EXPECT_EQ(result, ~uint64_t{0});
  EXPECT_TRUE(CheckedMul(uint64_t{1} << 31, uint64_t{1} << 32, &result));
  EXPECT_EQ(result, uint64_t{1} << 63);
}

TEST(CheckDeathTest, NamesTheExpression) {
  EXPECT_DEATH(WEIR_CHECK(1 + 1 == 3), "base_test.cc:[0-9]+: check failed: 1 \\+ 1 == 3");
}

TEST(Clock, RealOneNeverGoesBack) {
  const RealClock clock;
  int64_t last_ns = clock.NowNs();
  for (int i = 0; i < 1000; ++i) {
    const int64_t now_ns = clock.NowNs();
    ASSERT_GE(now_ns, last_ns);
    last_ns = now_ns;
  }
}

TEST(ClockDeathTest, VirtualOneMovesForwardOnly) {
  VirtualClock clock;
  EXPECT_EQ(clock.NowNs(), 0);
  clock.AdvanceTo(5);
  clock.AdvanceTo(5);
  EXPECT_EQ(clock.NowNs(), 5);
  EXPECT_DEATH(clock.AdvanceTo(4), "check failed");
}

}  // namespace
}  // namespace weir
