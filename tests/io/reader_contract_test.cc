// The contract of io/reader.h, run against every implementation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>
#include <set>
#include <thread>

#include "io/base.h"
#include "io/thread_reader.h"
#include "tests/io/reader_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kFileBytes = 3 * kMiB + 12345;  // not a multiple of any alignment
constexpr uint64_t kSeed = 20240611;

class ReaderContract : public ::testing::TestWithParam<std::string> {
 protected:
  void Make(const ReaderOptions& options) {
    reader_ = MakeTestReader(GetParam(), options, &clock_);
    if (reader_ == nullptr) GTEST_SKIP() << "io_uring is forbidden or absent on this system";
  }

  std::unique_ptr<File> Open(const std::string& path, FileMode mode = FileMode::kDirectOrBuffered) {
    auto file = File::Open(path, mode);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }

  RealClock clock_;
  ScratchFile scratch_{ScratchFolder(), kFileBytes, kSeed};
  std::unique_ptr<Reader> reader_;
};

struct Wanted {
  uint64_t offset_bytes;
  uint64_t bytes;
};

// Reads `count` random ranges, `capacity` at a time, and compares each with the file's bytes.
void ReadRandomRanges(Reader* reader, const File& file, const std::vector<uint8_t>& content,
                      uint64_t seed, int count) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  const uint32_t capacity = reader->capacity();
  std::vector<AlignedBuffer> buffers;
  for (uint32_t i = 0; i < capacity; ++i) buffers.emplace_back(600 * kKiB);
  std::vector<ReadOp> ops(capacity);
  std::vector<Wanted> wanted(capacity);
  std::vector<ReadOp*> done(capacity);
  std::vector<uint32_t> idle;
  for (uint32_t i = 0; i < capacity; ++i) idle.push_back(i);
  int submitted = 0;
  int finished = 0;
  while (finished < count) {
    while (submitted < count && !idle.empty()) {
      const uint32_t slot = idle.back();
      idle.pop_back();
      const uint64_t offset_bytes = random() % content.size();
      const uint64_t longest = std::min<uint64_t>(content.size() - offset_bytes, 500 * kKiB);
      wanted[slot] = {offset_bytes, 1 + random() % longest};
      std::memset(buffers[slot].data(), 0xA5, buffers[slot].size());
      ops[slot] = WideOp(file, offset_bytes, wanted[slot].bytes, &buffers[slot]);
      ops[slot].tag = slot;
      reader->Submit(&ops[slot]);
      ++submitted;
    }
    EXPECT_EQ(reader->in_flight(), static_cast<uint32_t>(submitted - finished));
    const size_t got = reader->Wait(absl::MakeSpan(done), 10'000'000'000);
    ASSERT_GT(got, 0u) << "nothing finished within ten seconds";
    for (size_t i = 0; i < got; ++i) {
      const ReadOp& op = *done[i];
      const Wanted& want = wanted[op.tag];
      ASSERT_TRUE(op.status.ok()) << op.status;
      ASSERT_GE(op.got_bytes, op.required_bytes);
      ASSERT_LE(op.got_bytes, op.bytes);
      ASSERT_LE(op.submit_ns, op.done_ns);
      const uint8_t* const expected = content.data() + op.offset_bytes;
      ASSERT_EQ(0, std::memcmp(op.buffer, expected, op.got_bytes))
          << "offset " << want.offset_bytes << " bytes " << want.bytes;
      // Nothing behind the op's range was touched.
      for (uint64_t at = op.bytes; at < op.bytes + 64; ++at) ASSERT_EQ(op.buffer[at], 0xA5);
      idle.push_back(static_cast<uint32_t>(op.tag));
      ++finished;
    }
  }
  EXPECT_EQ(reader->in_flight(), 0u);
}

TEST_P(ReaderContract, RandomRangesArriveWhole) {
  for (const uint64_t chunk_bytes : {uint64_t{512}, 4 * kKiB, 36 * kKiB, kMiB}) {
    SCOPED_TRACE(testing::Message() << "chunk " << chunk_bytes);
    ReaderOptions options;
    options.capacity = 8;
    options.chunk_bytes = chunk_bytes;
    options.depth = 5;
    Make(options);
    if (reader_ == nullptr) return;
    const auto file = Open(scratch_.path());
    ReadRandomRanges(reader_.get(), *file, scratch_.content(), kSeed + chunk_bytes, 25);
    EXPECT_EQ(reader_->stats().ops_done, 25u);
    EXPECT_EQ(reader_->stats().failures, 0u);
    EXPECT_GT(reader_->stats().bytes_read, 0u);
  }
}

TEST_P(ReaderContract, BufferedFilesToo) {
  ReaderOptions options;
  options.capacity = 8;
  options.chunk_bytes = 16 * kKiB;
  Make(options);
  if (reader_ == nullptr) return;
  const auto file = Open(scratch_.path(), FileMode::kBuffered);
  EXPECT_FALSE(file->is_direct());
  ReadRandomRanges(reader_.get(), *file, scratch_.content(), kSeed, 60);
}

TEST_P(ReaderContract, ManyOpsInFlight) {
  ReaderOptions options;
  options.capacity = 256;
  options.chunk_bytes = 4 * kKiB;
  options.depth = 64;
  Make(options);
  if (reader_ == nullptr) return;
  const auto file = Open(scratch_.path());
  constexpr uint64_t kOpBytes = 12 * kKiB;
  AlignedBuffer memory(256 * kOpBytes);
  std::vector<ReadOp> ops(256);
  for (uint64_t i = 0; i < ops.size(); ++i) {
    ops[i].file = file.get();
    ops[i].offset_bytes = i * kOpBytes;
    ops[i].buffer = memory.data() + i * kOpBytes;
    ops[i].bytes = ops[i].required_bytes = kOpBytes;
    ops[i].tag = i;
    reader_->Submit(&ops[i]);
  }
  EXPECT_EQ(reader_->in_flight(), 256u);
  std::set<ReadOp*> handed_back;
  for (ReadOp* op : WaitFor(reader_.get(), ops.size())) {
    EXPECT_TRUE(op->status.ok()) << op->status;
    EXPECT_EQ(op->got_bytes, kOpBytes);
    EXPECT_TRUE(handed_back.insert(op).second) << "op " << op->tag << " came back twice";
  }
  EXPECT_EQ(handed_back.size(), ops.size());
  EXPECT_EQ(0, std::memcmp(memory.data(), scratch_.content().data(), memory.size()));
  ReadOp* extra = nullptr;
  EXPECT_EQ(reader_->Wait(absl::MakeSpan(&extra, 1), 0), 0u);
}

TEST_P(ReaderContract, FileMayEndAfterRequiredBytes) {
  ReaderOptions options;
  options.chunk_bytes = 4 * kKiB;
  Make(options);
  if (reader_ == nullptr) return;
  const auto file = Open(scratch_.path());
  const uint64_t alignment = file->alignment_bytes();
  const uint64_t offset_bytes = AlignDown(kFileBytes - 10000, alignment);
  const uint64_t left_bytes = kFileBytes - offset_bytes;
  AlignedBuffer memory(64 * kKiB);
  ReadOp op;
  op.file = file.get();
  op.offset_bytes = offset_bytes;
  op.buffer = memory.data();
  op.bytes = 64 * kKiB;
  op.required_bytes = left_bytes;
  reader_->Submit(&op);
  ASSERT_EQ(WaitFor(reader_.get(), 1).size(), 1u);
  EXPECT_TRUE(op.status.ok()) << op.status;
  EXPECT_EQ(op.got_bytes, left_bytes);
  EXPECT_EQ(0, std::memcmp(memory.data(), scratch_.content().data() + offset_bytes, left_bytes));

  op.required_bytes = left_bytes + 1;  // one more than the file has; the op is reused
  reader_->Submit(&op);
  ASSERT_EQ(WaitFor(reader_.get(), 1).size(), 1u);
  EXPECT_EQ(op.status.code(), absl::StatusCode::kOutOfRange) << op.status;
  EXPECT_EQ(op.got_bytes, left_bytes);
  const std::string message(op.status.message());
  EXPECT_THAT(message, HasSubstr(scratch_.path()));
  EXPECT_THAT(message, HasSubstr("offset " + std::to_string(offset_bytes)));
  EXPECT_THAT(message, HasSubstr("wanted " + std::to_string(left_bytes + 1)));
  EXPECT_THAT(message, HasSubstr("got " + std::to_string(left_bytes)));
  EXPECT_EQ(reader_->stats().failures, 1u);
}

TEST_P(ReaderContract, RangePastTheEnd) {
  Make(ReaderOptions());
  if (reader_ == nullptr) return;
  const auto file = Open(scratch_.path());
  AlignedBuffer memory(64 * kKiB);
  ReadOp op;
  op.file = file.get();
  op.offset_bytes = AlignUp(kFileBytes, 64 * kKiB) + kMiB;
  op.buffer = memory.data();
  op.bytes = 64 * kKiB;
  op.required_bytes = 1;
  reader_->Submit(&op);
  ASSERT_EQ(WaitFor(reader_.get(), 1).size(), 1u);
  EXPECT_EQ(op.status.code(), absl::StatusCode::kOutOfRange) << op.status;
  EXPECT_EQ(op.got_bytes, 0u);
}

TEST_P(ReaderContract, OpWithoutBytesIsDone) {
  Make(ReaderOptions());
  if (reader_ == nullptr) return;
  const auto file = Open(scratch_.path());
  AlignedBuffer memory(4 * kKiB);
  ReadOp op;
  op.file = file.get();
  op.buffer = memory.data();
  reader_->Submit(&op);
  ASSERT_EQ(WaitFor(reader_.get(), 1).size(), 1u);
  EXPECT_TRUE(op.status.ok()) << op.status;
  EXPECT_EQ(op.got_bytes, 0u);
}

TEST_P(ReaderContract, FileCutAfterOpening) {
  ReaderOptions options;
  options.chunk_bytes = 4 * kKiB;
  Make(options);
  if (reader_ == nullptr) return;
  ScratchFile victim(ScratchFolder(), 256 * kKiB, kSeed);
  const auto file = Open(victim.path());
  constexpr uint64_t kCutBytes = 100 * 1000;
  ASSERT_EQ(truncate(victim.path().c_str(), kCutBytes), 0);
  AlignedBuffer memory(256 * kKiB);
  ReadOp op = WideOp(*file, 0, 256 * kKiB, &memory);
  reader_->Submit(&op);
  ASSERT_EQ(WaitFor(reader_.get(), 1).size(), 1u);
  EXPECT_EQ(op.status.code(), absl::StatusCode::kOutOfRange) << op.status;
  EXPECT_EQ(op.got_bytes, kCutBytes);
  EXPECT_EQ(0, std::memcmp(memory.data(), victim.content().data(), kCutBytes));
}

TEST_P(ReaderContract, WakeEndsAWait) {
  Make(ReaderOptions());
  if (reader_ == nullptr) return;
  ReadOp* done = nullptr;
  EXPECT_EQ(reader_->Wait(absl::MakeSpan(&done, 1), 0), 0u);
  EXPECT_EQ(reader_->Wait(absl::MakeSpan(&done, 1), 1'000'000), 0u);  // a timeout alone
  reader_->Wake();  // before: the next Wait returns
  EXPECT_EQ(reader_->Wait(absl::MakeSpan(&done, 1), -1), 0u);
  for (int round = 0; round < 50; ++round) {
    std::thread waker([this] { reader_->Wake(); });
    EXPECT_EQ(reader_->Wait(absl::MakeSpan(&done, 1), -1), 0u);
    waker.join();
  }
}

TEST_P(ReaderContract, WakesDoNotLoseOps) {
  ReaderOptions options;
  options.capacity = 4;
  options.chunk_bytes = 16 * kKiB;
  Make(options);
  if (reader_ == nullptr) return;
  const auto file = Open(scratch_.path());
  std::atomic<bool> is_over = false;
  std::thread waker([&] {
    while (!is_over.load()) reader_->Wake();
  });
  std::vector<AlignedBuffer> buffers;
  buffers.reserve(4);
  for (int i = 0; i < 4; ++i) buffers.emplace_back(64 * kKiB);
  std::vector<ReadOp> ops(4);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 4; ++i) {
      ops[i] = WideOp(*file, static_cast<uint64_t>(round * 4 + i) * 1000, 50000, &buffers[i]);
      reader_->Submit(&ops[i]);
    }
    ASSERT_EQ(WaitFor(reader_.get(), 4).size(), 4u);
  }
  is_over = true;
  waker.join();
  EXPECT_EQ(reader_->stats().ops_done, 80u);
  EXPECT_EQ(reader_->stats().failures, 0u);
}

TEST_P(ReaderContract, DestructorWithOpsInFlight) {
  const auto file = Open(scratch_.path());
  AlignedBuffer memory(16 * 128 * kKiB);
  for (int round = 0; round < 10; ++round) {
    std::vector<ReadOp> ops(16);
    ReaderOptions options;
    options.capacity = 16;
    options.chunk_bytes = 16 * kKiB;
    options.depth = 7;
    Make(options);
    if (reader_ == nullptr) return;
    for (uint64_t i = 0; i < ops.size(); ++i) {
      ops[i].file = file.get();
      ops[i].offset_bytes = i * 128 * kKiB;
      ops[i].buffer = memory.data() + i * 128 * kKiB;
      ops[i].bytes = ops[i].required_bytes = 128 * kKiB;
      reader_->Submit(&ops[i]);
    }
    if (round % 2 == 1) WaitFor(reader_.get(), 3);
    reader_.reset();
    // Nobody writes here any more (the sanitizers and this comparison would see it).
    std::memset(memory.data(), round, memory.size());
    std::this_thread::yield();
    for (uint64_t at = 0; at < memory.size(); at += 4093) ASSERT_EQ(memory.data()[at], round);
  }
}

TEST_P(ReaderContract, OpsAreReusedWhileOthersFly) {
  ReaderOptions options;
  options.capacity = 2;
  options.chunk_bytes = 8 * kKiB;
  options.depth = 1;
  Make(options);
  if (reader_ == nullptr) return;
  const auto file = Open(scratch_.path());
  ReadRandomRanges(reader_.get(), *file, scratch_.content(), kSeed + 1, 40);
}

TEST_P(ReaderContract, FilesInMemoryToo) {
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "no /dev/shm here";
  Make(ReaderOptions());
  if (reader_ == nullptr) return;
  ScratchFile scratch("/dev/shm", 200 * 1000, kSeed);
  const auto file = Open(scratch.path());
  ReadRandomRanges(reader_.get(), *file, scratch.content(), kSeed, 70);
}

std::string TestName(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& letter : name) {
    if (letter == '(') letter = '_';
  }
  if (name.back() == ')') name.pop_back();
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, ReaderContract,
                         ::testing::Values("uring", "threads", "fault(uring)", "fault(threads)"),
                         TestName);

}  // namespace
}  // namespace weir
