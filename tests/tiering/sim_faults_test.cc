// The grammar of simulated faults, and each fault's cost on the simulated disk.
#include "tiering/sim_faults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/retry_policy.h"
#include "tiering/sim_disk.h"

namespace weir {
namespace {

static_assert(kSimMaxEioRetries == kMaxEioRetries, "a simulated disk is as patient as a real one");

using testing::HasSubstr;

TEST(ParseSimFaultsTest, AcceptsEveryWord) {
  const SimFaults faults =
      ParseSimFaults(
          "seed=7,short=1%,again=2%,spike=3%:20ms,eio=4%,eio_forever=5%,eio_at=6,reorder=7%,"
          "late=8%:9us,slow=9%:x2.5,stuck=10%,stuck_at=11,jitter=12%,throttle=2s:x4:500ms,"
          "cancel_at=13,slow_from=14:x3,unplug_at=15")
          .value();
  EXPECT_EQ(faults.seed, 7u);
  EXPECT_EQ(faults.short_share, 0.01);
  EXPECT_EQ(faults.again_share, 0.02);
  EXPECT_EQ(faults.spike_share, 0.03);
  EXPECT_EQ(faults.spike_ns, 20'000'000);
  EXPECT_EQ(faults.eio_share, 0.04);
  EXPECT_EQ(faults.eio_forever_share, 0.05);
  EXPECT_EQ(faults.eio_at, 6u);
  EXPECT_EQ(faults.reorder_share, 0.07);
  EXPECT_EQ(faults.late_share, 0.08);
  EXPECT_EQ(faults.late_ns, 9'000);
  EXPECT_EQ(faults.slow_share, 0.09);
  EXPECT_EQ(faults.slow_factor, 2.5);
  EXPECT_EQ(faults.stuck_share, 0.1);
  EXPECT_EQ(faults.stuck_at, 11u);
  EXPECT_EQ(faults.jitter_share, 0.12);
  EXPECT_EQ(faults.throttle_at_ns, 2'000'000'000);
  EXPECT_EQ(faults.throttle_factor, 4);
  EXPECT_EQ(faults.throttle_for_ns, 500'000'000);
  EXPECT_EQ(faults.cancel_at_event, 13u);
  EXPECT_EQ(faults.slow_from, 14u);
  EXPECT_EQ(faults.slow_from_factor, 3);
  EXPECT_EQ(faults.unplug_at, 15u);
  EXPECT_EQ(ParseSimFaults("").value().eio_share, 0.0);
  EXPECT_EQ(ParseSimFaults("throttle=1ms").value().throttle_factor, 10);
}

TEST(ParseSimFaultsTest, RefusesTheRest) {
  for (const char* text : {"eio",
                           "eio=",
                           "eio=2",
                           "eio=1%:2ms",
                           "eio=1%,eio=1%",
                           "sleep=1%",
                           ",",
                           "eio=1%,",
                           "spike=1%:20",
                           "spike=1%:1ms:2",
                           "slow=1%:10",
                           "slow=1%:x0.5",
                           "slow=1%:xnan",
                           "seed=-1",
                           "stuck_at=x",
                           "cancel_at=-1",
                           "throttle=5%",
                           "throttle=1ms:x2:0s",
                           "throttle=1ms:x2:1s:1",
                           "jitter=200%",
                           "slow_from=5%",
                           "slow_from=1:3",
                           "unplug_at=5%"}) {
    const absl::StatusOr<SimFaults> faults = ParseSimFaults(text);
    ASSERT_FALSE(faults.ok()) << text;
    EXPECT_THAT(std::string(faults.status().message()), HasSubstr("fault setting")) << text;
  }
}

// One read of 1000 bytes on a disk of a byte a nanosecond and a latency of 100.
SimDisk::Ended ReadOnce(const SimFaults& faults, SimFaultStats* stats = nullptr) {
  SimDisk disk({.bytes_per_s = 1e9, .read_timeout_ns = 1'000'000}, faults);
  disk.Begin({}, {.bytes = 1000, .latency_ns = 100}, 0);
  std::vector<SimDisk::Ended> ended;
  int64_t now_ns = 0;
  while (ended.empty()) {
    const int64_t next_ns = disk.NextChange(now_ns).value();
    disk.Flow(now_ns, next_ns);
    now_ns = next_ns;
    disk.Settle(now_ns, &ended);
  }
  EXPECT_FALSE(disk.NextChange(now_ns).has_value());
  if (stats != nullptr) *stats = disk.fault_stats();
  return ended.front();
}

TEST(SimDiskTest, EachFaultCostsWhatItShould) {
  SimFaultStats stats;
  EXPECT_EQ(ReadOnce({}).end_ns, 1100);
  EXPECT_EQ(ReadOnce({.spike_share = 1, .spike_ns = 5000}).end_ns, 6100);
  EXPECT_EQ(ReadOnce({.slow_share = 1, .slow_factor = 3}).end_ns, 3300);
  EXPECT_EQ(ReadOnce({.again_share = 1}, &stats).end_ns, 1100);
  EXPECT_EQ(stats.busy_errors, 1u);
  // Each attempt more is another latency; the bytes are read once.
  SimFaults faults{.seed = 5, .short_share = 0.5};
  const SimDisk::Ended resumed = ReadOnce(faults, &stats);
  EXPECT_GT(stats.short_attempts, 0u);
  EXPECT_NEAR(static_cast<double>(resumed.end_ns),
              1100.0 + 100.0 * static_cast<double>(stats.short_attempts), 8);
  // Each EIO costs a whole read more.
  const SimDisk::Ended retried = ReadOnce({.eio_share = 1}, &stats);
  EXPECT_EQ(retried.end, SimDisk::End::kGood);
  EXPECT_GE(stats.eio_errors, 1u);
  EXPECT_LE(stats.eio_errors, kSimMaxEioRetries);
  EXPECT_EQ(retried.end_ns, 1100 * static_cast<int64_t>(1 + stats.eio_errors));
  const SimDisk::Ended failed = ReadOnce({.eio_forever_share = 1}, &stats);
  EXPECT_EQ(failed.end, SimDisk::End::kEio);
  EXPECT_EQ(failed.end_ns, 1100 * (1 + int64_t{kSimMaxEioRetries}));
  const SimDisk::Ended stuck = ReadOnce({.stuck_share = 1});
  EXPECT_EQ(stuck.end, SimDisk::End::kTimeout);
  EXPECT_EQ(stuck.end_ns, 1'000'000);
  const int64_t jittered_ns = ReadOnce({.jitter_share = 1}).end_ns;
  EXPECT_GE(jittered_ns, 1000);
  EXPECT_LE(jittered_ns, 1200);
}

TEST(SimDiskTest, AThrottledDiskIsSlowerFromThenOn) {
  SimFaults faults;
  faults.throttle_at_ns = 600;  // half of the bytes are there
  EXPECT_EQ(ReadOnce(faults).end_ns, 600 + 5000);
  faults.throttle_for_ns = 1000;  // a hundred bytes
  EXPECT_EQ(ReadOnce(faults).end_ns, 1600 + 400);
  faults.throttle_at_ns = 0;
  faults.throttle_for_ns = 0;
  EXPECT_EQ(ReadOnce(faults).end_ns, 100 + 10'000);
  faults = {};
  faults.slow_from = 0;
  EXPECT_EQ(ReadOnce(faults).end_ns, 100 + 10'000);
  faults.slow_from = 1;
  EXPECT_EQ(ReadOnce(faults).end_ns, 100 + 1000);
  faults.unplug_at = 1;
  EXPECT_EQ(ReadOnce(faults).end, SimDisk::End::kGood);
  faults.unplug_at = 0;
  EXPECT_EQ(ReadOnce(faults).end, SimDisk::End::kEio);
}

TEST(SimDiskTest, DrawsDependOnSeedTransferAndAttemptAlone) {
  double sum = 0;
  for (uint64_t transfer = 0; transfer < 4000; ++transfer) {
    const double draw = DrawShare({.seed = 1}, transfer, 0, SimDraw::kSlow);
    EXPECT_EQ(draw, DrawShare({.seed = 1}, transfer, 0, SimDraw::kSlow));
    EXPECT_NE(draw, DrawShare({.seed = 2}, transfer, 0, SimDraw::kSlow));
    EXPECT_NE(draw, DrawShare({.seed = 1}, transfer, 1, SimDraw::kSlow));
    EXPECT_NE(draw, DrawShare({.seed = 1}, transfer, 0, SimDraw::kStuck));
    ASSERT_GE(draw, 0);
    ASSERT_LT(draw, 1);
    sum += draw;
  }
  EXPECT_NEAR(sum / 4000, 0.5, 0.02);
}

}  // namespace
}  // namespace weir
