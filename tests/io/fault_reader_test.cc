#include "io/fault_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <tuple>

#include "io/base.h"
#include "io/thread_reader.h"
#include "tests/io/reader_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kOpBytes = 32 * kKiB;
constexpr size_t kOps = 64;

std::unique_ptr<FaultReader> Make(const std::string& faults, const Clock* clock,
                                  ReaderOptions options = {}) {
  options.capacity = kOps;
  options.chunk_bytes = 8 * kKiB;
  options.depth = 4;
  auto threads = ThreadReader::Create(options);
  WEIR_CHECK(threads.ok());
  const auto parsed = ParseFaultOptions(faults);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return std::make_unique<FaultReader>(*std::move(threads), *parsed, clock, options);
}

class FaultReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto file = File::Open(scratch_.path(), FileMode::kDirectOrBuffered);
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
  }

  // Reads the whole file as kOps ops at once; the order in which they came back.
  std::vector<uint64_t> ReadAll(FaultReader* reader) {
    std::memset(memory_.data(), 0, memory_.size());
    for (size_t i = 0; i < kOps; ++i) {
      ops_[i] = ReadOp();
      ops_[i].file = file_.get();
      ops_[i].offset_bytes = i * kOpBytes;
      ops_[i].buffer = memory_.data() + i * kOpBytes;
      ops_[i].bytes = ops_[i].required_bytes = kOpBytes;
      ops_[i].tag = i;
      reader->Submit(&ops_[i]);
    }
    std::vector<uint64_t> order;
    for (const ReadOp* op : WaitFor(reader, kOps)) order.push_back(op->tag);
    return order;
  }

  void ExpectAllRight() {
    for (const ReadOp& op : ops_) EXPECT_TRUE(op.status.ok()) << op.status;
    EXPECT_EQ(0, std::memcmp(memory_.data(), scratch_.content().data(), memory_.size()));
  }

  RealClock clock_;
  ScratchFile scratch_{ScratchFolder(), kOps* kOpBytes, 99};
  std::unique_ptr<File> file_;
  AlignedBuffer memory_{kOps * kOpBytes};
  std::vector<ReadOp> ops_{kOps};
};

TEST_F(FaultReaderTest, NoFaultsNoDifference) {
  const auto reader = Make("", &clock_);
  EXPECT_EQ(reader->name(), "fault(threads)");
  ReadAll(reader.get());
  ExpectAllRight();
  EXPECT_EQ(reader->stats().bytes_read, kOps * kOpBytes);
  EXPECT_EQ(reader->stats().short_reads, 0u);
  EXPECT_EQ(reader->stats().retries, 0u);
}

TEST_F(FaultReaderTest, ShortReadsAreResumed) {
  const auto reader = Make("seed=3,short=50%", &clock_);
  ReadAll(reader.get());
  ExpectAllRight();
  EXPECT_GT(reader->fault_stats().short_attempts, 20u);
  EXPECT_EQ(reader->stats().short_reads, reader->fault_stats().short_attempts);
  EXPECT_EQ(reader->stats().bytes_read, kOps * kOpBytes);
}

TEST_F(FaultReaderTest, EveryReadShortStillEnds) {
  const auto reader = Make("short=100%", &clock_);
  ReadAll(reader.get());
  ExpectAllRight();
  EXPECT_GE(reader->fault_stats().short_attempts, kOps);
}

TEST_F(FaultReaderTest, TransientErrorsAreRecovered) {
  const auto reader = Make("seed=4,eio=100%,again=30%", &clock_);
  ReadAll(reader.get());
  ExpectAllRight();
  const FaultStats faults = reader->fault_stats();
  EXPECT_GE(faults.eio_errors, kOps);
  EXPECT_LE(faults.eio_errors, kOps * kMaxEioRetries);
  EXPECT_GT(faults.busy_errors, 0u);
  EXPECT_EQ(reader->stats().retries, faults.eio_errors + faults.busy_errors);
  EXPECT_EQ(reader->stats().failures, 0u);
}

TEST_F(FaultReaderTest, PermanentErrorsFailTheirOpAlone) {
  const auto reader = Make("seed=5,eio_forever=20%", &clock_);
  ReadAll(reader.get());
  uint64_t failures = 0;
  for (const ReadOp& op : ops_) {
    if (op.status.ok()) {
      EXPECT_EQ(0, std::memcmp(op.buffer, scratch_.content().data() + op.offset_bytes, op.bytes));
      continue;
    }
    ++failures;
    EXPECT_EQ(op.status.code(), absl::StatusCode::kDataLoss);
    const std::string message(op.status.message());
    EXPECT_THAT(message, HasSubstr(scratch_.path()));
    EXPECT_THAT(message, HasSubstr("offset " + std::to_string(op.offset_bytes)));
    EXPECT_THAT(message, HasSubstr("wanted 32768 bytes, got 0"));
  }
  EXPECT_GT(failures, 4u);
  EXPECT_LT(failures, 30u);
  EXPECT_EQ(reader->stats().failures, failures);
  EXPECT_EQ(reader->fault_stats().eio_errors, failures * (kMaxEioRetries + 1));
}

TEST_F(FaultReaderTest, EverythingFailsWithoutHanging) {
  const auto reader = Make("eio_forever=1", &clock_);
  ReadAll(reader.get());
  EXPECT_EQ(reader->stats().failures, kOps);
  const auto busy = Make("again=1", &clock_);
  ReadAll(busy.get());
  EXPECT_EQ(busy->stats().failures, kOps);
}

TEST_F(FaultReaderTest, UnpluggedFromAnOpOn) {
  const auto reader = Make("unplug_at=40,eio_at=7", &clock_);
  ReadAll(reader.get());
  for (size_t i = 0; i < kOps; ++i) {
    const bool is_good = i < 40 && i != 7;
    EXPECT_EQ(ops_[i].status.code(), is_good ? absl::StatusCode::kOk : absl::StatusCode::kDataLoss);
  }
}

TEST_F(FaultReaderTest, AStuckOpEndsWithItsTimeout) {
  VirtualClock clock;
  ReaderOptions options;
  options.read_timeout_ns = 5'000'000'000;
  const auto reader = Make("stuck_at=1,reorder=100%", &clock, options);
  std::vector<ReadOp> ops(3);
  for (uint64_t i = 0; i < ops.size(); ++i) {
    ops[i] = WideOp(*file_, i * kOpBytes, kOpBytes, &memory_);
    ops[i].buffer += i * kOpBytes;
    reader->Submit(&ops[i]);
  }
  // The others are not held back by one that never ends.
  for (const ReadOp* op : WaitFor(reader.get(), 2)) EXPECT_TRUE(op->status.ok()) << op->status;
  ReadOp* done = nullptr;
  clock.AdvanceTo(4'999'999'999);
  EXPECT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 0u);
  EXPECT_EQ(reader->stuck(), 0u);
  clock.AdvanceTo(5'000'000'000);
  ASSERT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 1u);
  EXPECT_EQ(done, &ops[1]);
  EXPECT_EQ(done->status.code(), absl::StatusCode::kDeadlineExceeded);
  const std::string message(done->status.message());
  EXPECT_THAT(message, HasSubstr(scratch_.path()));
  EXPECT_THAT(message, HasSubstr("offset 32768: wanted 32768 bytes, got 0"));
  EXPECT_THAT(message, HasSubstr("5 s"));
  EXPECT_THAT(message, HasSubstr("--read-timeout"));
  EXPECT_EQ(reader->stuck(), 1u);
  // From then on nothing is read.
  reader->Submit(&ops[0]);
  ASSERT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 1u);
  EXPECT_EQ(done->status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(reader->stats().ops_done, 4u);
  EXPECT_EQ(reader->stats().failures, 2u);
  EXPECT_EQ(reader->in_flight(), 0u);
}

TEST_F(FaultReaderTest, WhoeverEndsDoesNotWaitForAStuckOp) {
  VirtualClock clock;
  std::atomic<bool> cancel = true;
  ReaderOptions options;
  options.cancel = &cancel;
  const auto reader = Make("stuck=100%", &clock, options);
  ReadOp op = WideOp(*file_, 0, kOpBytes, &memory_);
  reader->Submit(&op);
  ReadOp* done = nullptr;
  clock.AdvanceTo(kCancelledReadTimeoutNs - 1);
  EXPECT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 0u);
  clock.AdvanceTo(kCancelledReadTimeoutNs);
  EXPECT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 1u);
}

TEST_F(FaultReaderTest, SlowOpsTakeTheirFactorOfTheTime) {
  VirtualClock clock;
  const auto reader = Make("slow=100%:x4", &clock);
  ReadOp op = WideOp(*file_, 0, kOpBytes, &memory_);
  reader->Submit(&op);
  ReadOp* done = nullptr;
  clock.AdvanceTo(1'000);
  while (reader->fault_stats().slowed == 0) {
    ASSERT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 0u);
  }
  clock.AdvanceTo(3'999);
  EXPECT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 0u);
  clock.AdvanceTo(4'000);
  EXPECT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 1u);
  EXPECT_TRUE(op.status.ok()) << op.status;
}

TEST_F(FaultReaderTest, ASlowDiskHasAShareOfItsRate) {
  VirtualClock clock;
  const auto reader = Make("slow_from=1:x10", &clock);
  std::vector<ReadOp> ops(3);
  ReadOp* done = nullptr;
  for (uint64_t i = 0; i < ops.size(); ++i) {
    ops[i] = WideOp(*file_, i * kOpBytes, kOpBytes, &memory_);
    ops[i].buffer += i * kOpBytes;
    reader->Submit(&ops[i]);
    if (i > 0) continue;
    clock.AdvanceTo(1'000'000);  // what the disk takes while it is healthy
    ASSERT_EQ(WaitFor(reader.get(), 1).size(), 1u);
  }
  while (reader->fault_stats().slowed < 2) {
    ASSERT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 0u);
  }
  for (const int64_t end_ns : {11'000'000, 21'000'000}) {
    clock.AdvanceTo(end_ns - 1);
    EXPECT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 0u);
    clock.AdvanceTo(end_ns);
    EXPECT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 1u);
    EXPECT_TRUE(done->status.ok()) << done->status;
  }
}

// What one run met: counts, and the status of each op.
auto Outcome(const FaultReader& reader, const std::vector<ReadOp>& ops) {
  std::vector<absl::StatusCode> codes;
  codes.reserve(ops.size());
  for (const ReadOp& op : ops) codes.push_back(op.status.code());
  const FaultStats faults = reader.fault_stats();
  return std::make_tuple(codes, faults.short_attempts, faults.busy_errors, faults.eio_errors,
                         faults.spikes, faults.reorders);
}

TEST_F(FaultReaderTest, EqualSeedsMeetEqualFaults) {
  const std::string faults =
      "short=20%,again=10%,spike=20%:50us,eio=20%,eio_forever=10%,reorder=20%,seed=";
  const auto first = Make(faults + "1", &clock_);
  ReadAll(first.get());
  const auto first_outcome = Outcome(*first, ops_);
  for (int round = 0; round < 3; ++round) {
    const auto again = Make(faults + "1", &clock_);
    ReadAll(again.get());
    EXPECT_EQ(Outcome(*again, ops_), first_outcome);
  }
  const auto other = Make(faults + "2", &clock_);
  ReadAll(other.get());
  EXPECT_NE(Outcome(*other, ops_), first_outcome);
}

TEST_F(FaultReaderTest, SpikesFollowTheClock) {
  VirtualClock clock;
  const auto reader = Make("spike=100%:20ms", &clock);
  ReadOp op = WideOp(*file_, 0, kOpBytes, &memory_);
  reader->Submit(&op);
  ReadOp* done = nullptr;
  // The read is long over after this many polls of real time, but its hour has not come.
  const int64_t start_ns = clock_.NowNs();
  while (reader->fault_stats().spikes == 0 && clock_.NowNs() - start_ns < 10'000'000'000) {
    ASSERT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 0u);
  }
  clock.AdvanceTo(19'999'999);
  EXPECT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 0u);
  EXPECT_EQ(reader->in_flight(), 1u);
  clock.AdvanceTo(20'000'000);
  ASSERT_EQ(reader->Wait(absl::MakeSpan(&done, 1), 0), 1u);
  EXPECT_EQ(done, &op);
  EXPECT_EQ(op.done_ns - op.submit_ns, 20'000'000);
}

TEST_F(FaultReaderTest, HeldOpsAreOvertaken) {
  const auto all = Make("reorder=100%", &clock_);
  const std::vector<uint64_t> reversed = ReadAll(all.get());
  ASSERT_EQ(reversed.size(), kOps);
  ExpectAllRight();
  EXPECT_EQ(all->fault_stats().reorders, kOps);
  EXPECT_FALSE(std::is_sorted(reversed.begin(), reversed.end()));
  // Alone in flight there is nothing that could overtake, and it must not hang.
  ReadOp op = WideOp(*file_, 0, kOpBytes, &memory_);
  all->Submit(&op);
  EXPECT_EQ(WaitFor(all.get(), 1).size(), 1u);
}

TEST(ParseFaultOptions, Grammar) {
  const auto options = ParseFaultOptions(
      "seed=18446744073709551615,short=5%,spike=2.5%:1.5ms,eio=0.01,eio_forever=0,again=1,"
      "reorder=100%");
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->seed, ~uint64_t{0});
  EXPECT_DOUBLE_EQ(options->short_share, 0.05);
  EXPECT_DOUBLE_EQ(options->spike_share, 0.025);
  EXPECT_EQ(options->spike_ns, 1'500'000);
  EXPECT_DOUBLE_EQ(options->eio_share, 0.01);
  EXPECT_EQ(options->eio_forever_share, 0);
  EXPECT_EQ(options->again_share, 1);
  EXPECT_EQ(options->reorder_share, 1);
  const auto late =
      ParseFaultOptions("stuck=1%,stuck_at=7,slow_from=100:x2.5,unplug_at=0,slow=5%:x3,eio_at=9");
  ASSERT_TRUE(late.ok()) << late.status();
  EXPECT_DOUBLE_EQ(late->stuck_share, 0.01);
  EXPECT_EQ(late->stuck_at, 7u);
  EXPECT_EQ(late->slow_from, 100u);
  EXPECT_EQ(late->slow_from_factor, 2.5);
  EXPECT_DOUBLE_EQ(late->slow_share, 0.05);
  EXPECT_EQ(late->slow_factor, 3);
  EXPECT_EQ(late->eio_at, 9u);
  EXPECT_EQ(late->unplug_at, 0u);
  EXPECT_EQ(ParseFaultOptions("slow_from=3")->slow_from_factor, 10);
  const auto empty = ParseFaultOptions("");
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty->short_share, 0);
  for (const char* time : {"spike=1%:7ns", "spike=1%:2us", "spike=1%:3s", "spike=1%"}) {
    EXPECT_TRUE(ParseFaultOptions(time).ok()) << time;
  }
  for (const char* text : {",",
                           "short",
                           "short=",
                           "short=5%,",
                           "short=101%",
                           "short=-1",
                           "short=nan",
                           "short=1.5",
                           "spike=1%:",
                           "spike=1%:20",
                           "spike=1%:20ms:3",
                           "spike=1%:-1ms",
                           "spike=1%:2h",
                           "seed=-1",
                           "seed=1.5",
                           "seed=18446744073709551616",
                           "colour=1",
                           "short=1%,short=2%",
                           "short =1",
                           "stuck_at=1%",
                           "slow=10",
                           "slow=1%:x",
                           "slow_from=x10",
                           "slow_from=5:10",
                           "slow_from=5:x0.5",
                           "unplug_at=-1"}) {
    const auto refused = ParseFaultOptions(text);
    ASSERT_FALSE(refused.ok()) << text;
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("known: seed"));
  }
}

}  // namespace
}  // namespace weir
