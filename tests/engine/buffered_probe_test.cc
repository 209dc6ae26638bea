#include "engine/buffered_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "engine/figure_limits.h"
#include "io/base.h"
#include "tests/io/fake_root_helper.h"

namespace weir {
namespace {

TEST(BufferedProbe, ReadsColdThenTheSameHot) {
  FakeRoot root;
  constexpr uint64_t kBytes = 5 * kMiB + 123;
  root.Write("/file", std::string(kBytes, 'x'));
  BufferedProbeOptions options;
  options.rounds = 2;
  int asked = 0;
  const auto result = ProbeBuffered(root.path() + "/file", options, [&] {
    ++asked;
    return true;
  });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->cold.read_bytes, 2 * kBytes) << "each round the whole file, which is small";
  EXPECT_EQ(result->hot.read_bytes, result->cold.read_bytes);
  EXPECT_EQ(asked, 2 * 2 * 6) << "blocks of 1 MiB";
  EXPECT_GT(result->cold.rate.low_bytes_per_s, 0);
  EXPECT_GT(result->hot.rate.low_bytes_per_s, 0);
  EXPECT_GT(result->hot.cached_share, 0.99);
  // On a file system that has a page cache alone nothing is cold, and that is told.
  if (result->cold.cached_share < 0.01 && result->cold.kernel_read_bytes) {
    EXPECT_EQ(RefuseCold(result->cold.read_bytes, result->cold.kernel_read_bytes,
                         result->cold.cached_share),
              "");
    EXPECT_GE(*result->cold.kernel_read_bytes, 2 * kBytes);
  }
}

TEST(BufferedProbe, EndsWhenAskedAndRefusesWhatCannotBe) {
  FakeRoot root;
  root.Write("/file", std::string(3 * kMiB, 'x'));
  root.Write("/empty", "");
  const BufferedProbeOptions options;
  EXPECT_TRUE(absl::IsCancelled(
      ProbeBuffered(root.path() + "/file", options, [] { return false; }).status()));
  const absl::Status empty = ProbeBuffered(root.path() + "/empty", options, nullptr).status();
  EXPECT_TRUE(absl::StrContains(empty.message(), "is empty")) << empty;
  EXPECT_FALSE(ProbeBuffered(root.path() + "/none", options, nullptr).ok());
  BufferedProbeOptions none = options;
  none.rounds = 0;
  EXPECT_TRUE(
      absl::IsInvalidArgument(ProbeBuffered(root.path() + "/file", none, nullptr).status()));
}

// What is read in one round is bounded, and the next goes on behind it.
TEST(BufferedProbe, GoesOnThroughTheFile) {
  FakeRoot root;
  root.Write("/file", std::string(5 * kMiB, 'x'));
  BufferedProbeOptions options;
  options.rounds = 3;
  options.most_bytes = 2 * kMiB;
  options.limit_ns = 60'000'000'000;
  const auto result = ProbeBuffered(root.path() + "/file", options, nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->cold.read_bytes, 5 * kMiB) << "2, 2 and the last one";
}

}  // namespace
}  // namespace weir
