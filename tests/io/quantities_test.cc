#include "io/quantities.h"

#include <gtest/gtest.h>

#include <string>

namespace weir {
namespace {

TEST(QuantitiesTest, Shares) {
  EXPECT_EQ(ParseShare("5%").value(), 0.05);
  EXPECT_EQ(ParseShare("0.05").value(), 0.05);
  EXPECT_EQ(ParseShare("0").value(), 0.0);
  EXPECT_EQ(ParseShare("100%").value(), 1.0);
  for (const char* bad : {"", "%", "-1%", "101%", "1.5", "nan", "five", "5%%", "5% "}) {
    EXPECT_FALSE(ParseShare(bad).ok()) << bad;
  }
}

TEST(QuantitiesTest, Durations) {
  EXPECT_EQ(ParseDuration("7ns").value(), 7);
  EXPECT_EQ(ParseDuration("80us").value(), 80'000);
  EXPECT_EQ(ParseDuration("1.5ms").value(), 1'500'000);
  EXPECT_EQ(ParseDuration("2s").value(), 2'000'000'000);
  EXPECT_EQ(ParseDuration("3600s").value(), 3'600'000'000'000);
  for (const char* bad : {"", "s", "5", "5m", "5h", "-1s", "3601s", "nans", "infs", "1e300s"}) {
    EXPECT_FALSE(ParseDuration(bad).ok()) << bad;
  }
}

TEST(QuantitiesTest, Rates) {
  EXPECT_EQ(ParseRate("7GB/s").value(), 7e9);
  EXPECT_EQ(ParseRate("900MiB/s").value(), 900.0 * (1 << 20));
  for (const char* bad : {"", "/s", "7GB", "0GB/s", "-1GB/s", "7GB/m", "fast/s"}) {
    EXPECT_FALSE(ParseRate(bad).ok()) << bad;
  }
  const std::string message(ParseRate("7").status().message());
  EXPECT_NE(message.find("'7'"), std::string::npos);
}

}  // namespace
}  // namespace weir
