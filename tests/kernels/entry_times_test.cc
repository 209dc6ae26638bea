// Where a team's time goes: on a clock that moves only when the test says so.
#include "kernels/entry_times.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <memory>

#include "kernels/cpu_device.h"

namespace weir {
namespace {

// Any thread reads and moves it.
class SharedClock final : public Clock {
 public:
  int64_t NowNs() const override {
    reads_.fetch_add(1);
    return now_ns_.load();
  }
  void Advance(int64_t ns) { now_ns_.fetch_add(ns); }
  uint64_t reads() const { return reads_.load(); }

 private:
  std::atomic<int64_t> now_ns_{1000};
  mutable std::atomic<uint64_t> reads_{0};
};

int64_t SumOf(const EntryTimes& times) {
  int64_t sum = 0;
  for (const EntryTime& time : times.times()) sum += time.run_ns + time.wait_ns;
  return sum;
}

TEST(EntryTimesTest, TimeIsOfTheEntryThatEndsOrOfTheWaitBeforeIt) {
  SharedClock clock;
  EntryTimes times(3, &clock);
  clock.Advance(100);
  times.BeginAfterWaiting();
  clock.Advance(7);
  times.End(1);
  clock.Advance(5);
  times.End(2);  // was enqueued behind the other: no wait
  clock.Advance(40);
  times.BeginAfterWaiting();
  clock.Advance(2);
  times.End(1);
  EXPECT_EQ(times.times()[0].entries, 0u);
  EXPECT_EQ(times.times()[1].entries, 2u);
  EXPECT_EQ(times.times()[1].run_ns, 9);
  EXPECT_EQ(times.times()[1].wait_ns, 140);
  EXPECT_EQ(times.times()[2].entries, 1u);
  EXPECT_EQ(times.times()[2].run_ns, 5);
  EXPECT_EQ(times.times()[2].wait_ns, 0);
  EXPECT_EQ(times.origin_ns(), 1000);
  EXPECT_EQ(SumOf(times), times.last_end_ns() - times.origin_ns());
}

class TimedTeamTest : public testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    auto device = MakeCpuDevice({.threads = GetParam(), .times = &times_});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    stream_ = device_->NewStream();
  }
  CpuStream& cpu() { return static_cast<CpuStream&>(*stream_); }
  void Finish() { stream_->Wait(stream_->Record()); }
  // Worker 0 takes so long: it is the one that reads the clock before an entry.
  void LaunchFor(int64_t ns) {
    SharedClock* const clock = &clock_;
    cpu().Launch([clock, ns](uint32_t worker, uint32_t, CpuStream&) {
      if (worker == 0) clock->Advance(ns);
    });
  }

  SharedClock clock_;
  EntryTimes times_{8, &clock_};
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

TEST_P(TimedTeamTest, LabelsTellKernelsApartAndAllTimeIsSomewhere) {
  int64_t expected[8] = {};
  uint64_t entries[8] = {};
  for (uint32_t i = 0; i < 500; ++i) {
    const uint32_t label = 1 + i % 6;
    cpu().SetLabel(label);
    LaunchFor(i);
    expected[label] += i;
    ++entries[label];
  }
  Finish();
  for (uint32_t label = 0; label < 8; ++label) {
    EXPECT_EQ(times_.times()[label].run_ns, expected[label]) << label;
    EXPECT_EQ(times_.times()[label].entries, entries[label]) << label;
    EXPECT_EQ(times_.times()[label].wait_ns, 0) << label;
  }
  EXPECT_EQ(SumOf(times_), times_.last_end_ns() - times_.origin_ns());
}

TEST_P(TimedTeamTest, CopiesAndNotificationsHaveNoLabelAndLeaveItAlone) {
  cpu().SetLabel(3);
  uint8_t from[16] = {}, to[16];
  std::atomic<int> calls{0};
  stream_->CopyIn(to, from, sizeof(to));
  stream_->CopyOut(to, from, sizeof(to));
  stream_->NotifyWhenComplete(
      [](void* count) { static_cast<std::atomic<int>*>(count)->fetch_add(1); }, &calls);
  LaunchFor(11);
  Finish();
  EXPECT_EQ(calls.load(), 1);
  EXPECT_EQ(times_.times()[0].entries, 3u);
  EXPECT_EQ(times_.times()[0].run_ns, 0);
  EXPECT_EQ(times_.times()[3].entries, 1u);
  EXPECT_EQ(times_.times()[3].run_ns, 11);
}

// A worker that is late to find the ring empty counts what follows as the entry's; one that sleeps
// by then does not.
TEST_P(TimedTeamTest, WaitingForEntriesIsCountedApart) {
  int64_t waited_ns = 0, ran_ns = 0;
  for (int i = 0; i < 1000 && waited_ns == 0; ++i) {
    usleep(1000);
    clock_.Advance(40);
    cpu().SetLabel(5);
    LaunchFor(2);
    Finish();
    waited_ns = times_.times()[5].wait_ns;
    ran_ns = times_.times()[5].run_ns;
    EXPECT_EQ(waited_ns + ran_ns, 42 * (i + 1));
  }
  EXPECT_EQ(waited_ns, 40);
  EXPECT_EQ(SumOf(times_), times_.last_end_ns() - times_.origin_ns());
}

INSTANTIATE_TEST_SUITE_P(Threads, TimedTeamTest, testing::Values(1, 2, 3));

TEST(EntryTimesTest, WithoutThemLabelsMeanNothingAndNoClockIsRead) {
  const auto device = MakeCpuDevice({.threads = 2});
  ASSERT_TRUE(device.ok()) << device.status();
  const auto stream = (*device)->NewStream();
  auto& cpu = static_cast<CpuStream&>(*stream);
  cpu.SetLabel(1u << 30);
  std::atomic<int> runs{0};
  std::atomic<int>* const count = &runs;
  cpu.Launch([count](uint32_t, uint32_t, CpuStream&) { count->fetch_add(1); });
  stream->Wait(stream->Record());
  EXPECT_EQ(runs.load(), 2);
}

TEST(EntryTimesDeathTest, LabelsThatThereAreNot) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  SharedClock clock;
  EntryTimes times(2, &clock);
  const auto device = MakeCpuDevice({.times = &times});
  ASSERT_TRUE(device.ok()) << device.status();
  const auto stream = (*device)->NewStream();
  auto& cpu = static_cast<CpuStream&>(*stream);
  cpu.SetLabel(2);
  EXPECT_DEATH(cpu.Launch([](uint32_t, uint32_t, CpuStream&) {}), "label");
}

}  // namespace
}  // namespace weir
