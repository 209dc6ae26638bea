// The policy and the chunk bookkeeping, with results that no healthy disk gives.
#include "io/retry_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/base.h"
#include "io/chunk_queue.h"
#include "io/thread_reader.h"
#include "io/uring_reader.h"
#include "tests/io/reader_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

ReadProgress Direct(uint64_t offset_bytes, uint64_t bytes, uint64_t file_bytes) {
  ReadProgress progress;
  progress.offset_bytes = offset_bytes;
  progress.bytes = bytes;
  progress.alignment_bytes = 512;
  progress.file_bytes = file_bytes;
  return progress;
}

TEST(Advance, ShortReadsAreResumedAligned) {
  ReaderStats stats;
  ReadProgress progress = Direct(4096, 8192, kMiB);
  EXPECT_EQ(Advance(&progress, 1024, &stats), ReadStep::kAgain);
  EXPECT_EQ(progress.resume_bytes, 1024u);
  EXPECT_EQ(Advance(&progress, 700, &stats), ReadStep::kAgain);  // not a multiple of 512
  EXPECT_EQ(progress.got_bytes, 1724u);
  EXPECT_EQ(progress.resume_bytes, 1536u);
  EXPECT_EQ(Advance(&progress, 8192 - 1536, &stats), ReadStep::kDone);
  EXPECT_EQ(progress.got_bytes, 8192u);
  EXPECT_EQ(stats.short_reads, 2u);
  EXPECT_EQ(stats.bytes_read, 1024u + 700 + 8192 - 1536);
}

TEST(Advance, BufferedReadsResumeWhereTheyEnded) {
  ReaderStats stats;
  ReadProgress progress = Direct(1, 100, kMiB);
  progress.alignment_bytes = 1;
  EXPECT_EQ(Advance(&progress, 7, &stats), ReadStep::kAgain);
  EXPECT_EQ(progress.resume_bytes, 7u);
  EXPECT_EQ(Advance(&progress, 93, &stats), ReadStep::kDone);
}

TEST(Advance, TheEndOfTheFileIsNotAnError) {
  ReaderStats stats;
  ReadProgress at_known_end = Direct(4096, 8192, 4096 + 1000);
  EXPECT_EQ(Advance(&at_known_end, 1000, &stats), ReadStep::kDone);
  EXPECT_EQ(at_known_end.got_bytes, 1000u);
  ReadProgress cut_file = Direct(4096, 8192, kMiB);
  EXPECT_EQ(Advance(&cut_file, 1000, &stats), ReadStep::kAgain);
  EXPECT_EQ(Advance(&cut_file, 1000 - 512, &stats), ReadStep::kDone);  // nothing new
  EXPECT_EQ(cut_file.got_bytes, 1000u);
  ReadProgress nothing = Direct(4096, 8192, kMiB);
  EXPECT_EQ(Advance(&nothing, 0, &stats), ReadStep::kDone);
  EXPECT_EQ(nothing.got_bytes, 0u);
}

TEST(Advance, ErrorsAreRetriedABoundedNumberOfTimes) {
  struct Case {
    int error;
    uint32_t retries;
  };
  for (const Case& c : {Case{EIO, kMaxEioRetries}, Case{EAGAIN, kMaxBusyRetries},
                        Case{EINTR, kMaxBusyRetries}, Case{EINVAL, 0}, Case{EBADF, 0}}) {
    SCOPED_TRACE(strerror(c.error));
    ReaderStats stats;
    ReadProgress progress = Direct(0, 8192, kMiB);
    for (uint32_t i = 0; i < c.retries; ++i) {
      ASSERT_EQ(Advance(&progress, -c.error, &stats), ReadStep::kAgain);
    }
    EXPECT_EQ(Advance(&progress, -c.error, &stats), ReadStep::kFailed);
    EXPECT_EQ(progress.error, c.error);
    EXPECT_EQ(stats.retries, c.retries);
  }
}

class ChunkQueueTest : public ::testing::Test {
 protected:
  static ReaderOptions Options() {
    ReaderOptions options;
    options.capacity = 2;
    options.chunk_bytes = 4 * kKiB;
    options.depth = 3;
    return options;
  }
  void SetUp() override {
    auto file = File::Open(scratch_.path(), FileMode::kDirectOrBuffered);
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    op_ = WideOp(*file_, 0, 16 * kKiB, &memory_);
  }

  ScratchFile scratch_{ScratchFolder(), 64 * kKiB, 1};
  std::unique_ptr<File> file_;
  AlignedBuffer memory_{64 * kKiB};
  ReadOp op_;
  ChunkQueue queue_{Options()};
  ReadOp* done_ = nullptr;
};

TEST_F(ChunkQueueTest, FailureOfAChunkGivesUpTheRest) {
  queue_.Add(&op_, 5);
  ChunkQueue::Chunk* const first = queue_.Next(0);
  ChunkQueue::Chunk* const second = queue_.Next(0);
  ChunkQueue::Chunk* const third = queue_.Next(0);
  ASSERT_NE(third, nullptr);
  EXPECT_EQ(queue_.Next(0), nullptr) << "depth is 3";
  EXPECT_EQ(second->offset_bytes(), 4096u);
  EXPECT_EQ(second->memory(), memory_.data() + 4096);
  EXPECT_EQ(queue_.Complete(third, 4096, 6), ReadStep::kDone);
  EXPECT_EQ(queue_.Complete(second, -EINVAL, 7), ReadStep::kFailed);
  EXPECT_EQ(queue_.Next(0), nullptr) << "the fourth chunk is of no use";
  EXPECT_FALSE(queue_.has_done()) << "the first is still in flight";
  EXPECT_EQ(queue_.Complete(first, 4096, 8), ReadStep::kDone);
  ASSERT_EQ(queue_.TakeDone(absl::MakeSpan(&done_, 1)), 1u);
  EXPECT_EQ(done_, &op_);
  EXPECT_EQ(op_.got_bytes, 4096u) << "the third chunk's bytes are not contiguous";
  EXPECT_EQ(op_.submit_ns, 5);
  EXPECT_EQ(op_.done_ns, 8);
  EXPECT_EQ(op_.status.code(), absl::StatusCode::kInvalidArgument) << op_.status;
  EXPECT_THAT(std::string(op_.status.message()), HasSubstr("wanted 16384 bytes, got 4096"));
  EXPECT_EQ(queue_.in_flight(), 0u);
}

TEST_F(ChunkQueueTest, PermanentEioNamesTheRetries) {
  queue_.Add(&op_, 0);
  ChunkQueue::Chunk* const chunk = queue_.Next(0);
  for (uint32_t i = 0; i < kMaxEioRetries; ++i) {
    ASSERT_EQ(queue_.Complete(chunk, -EIO, 1), ReadStep::kAgain);
  }
  ASSERT_EQ(queue_.Complete(chunk, -EIO, 1), ReadStep::kFailed);
  ASSERT_EQ(queue_.TakeDone(absl::MakeSpan(&done_, 1)), 1u);
  EXPECT_EQ(op_.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(op_.status.message()), HasSubstr(scratch_.path()));
  EXPECT_THAT(std::string(op_.status.message()), HasSubstr("4 retries"));
  EXPECT_EQ(queue_.stats().retries, kMaxEioRetries);
  EXPECT_EQ(queue_.stats().failures, 1u);
}

using ChunkQueueDeathTest = ChunkQueueTest;

TEST_F(ChunkQueueDeathTest, CallersBugsAreCaught) {
  ReadOp second = op_;
  ReadOp third = op_;
  queue_.Add(&op_, 0);
  queue_.Add(&second, 0);
  EXPECT_DEATH(queue_.Add(&third, 0), "check failed: in_flight_ < capacity");
  ReadOp greedy = op_;
  greedy.required_bytes = greedy.bytes + 1;
  EXPECT_DEATH(queue_.Add(&greedy, 0), "required_bytes <= op.bytes");
  if (!file_->is_direct()) GTEST_SKIP() << "alignment is not checked: " << file_->buffered_reason();
  ReadOp crooked = op_;
  crooked.buffer += 1;
  EXPECT_DEATH(queue_.Add(&crooked, 0), "op.buffer");
}

// A pread that gives at most 1000 bytes, and EINTR every third time.
ssize_t StingyPread(int descriptor, void* buffer, size_t bytes, off_t offset_bytes) {
  static thread_local int calls = 0;
  if (++calls % 3 == 0) {
    errno = EINTR;
    return -1;
  }
  return pread(descriptor, buffer, std::min<size_t>(bytes, 1000), offset_bytes);
}

TEST(ThreadReader, SurvivesAStingyKernel) {
  ScratchFile scratch(ScratchFolder(), 100 * 1000, 3);
  auto file = File::Open(scratch.path(), FileMode::kBuffered);
  ASSERT_TRUE(file.ok()) << file.status();
  ReaderOptions options;
  options.chunk_bytes = 32 * kKiB;
  options.depth = 2;
  auto reader = ThreadReader::Create(options, &StingyPread);
  ASSERT_TRUE(reader.ok()) << reader.status();
  AlignedBuffer memory(128 * kKiB);
  ReadOp op = WideOp(**file, 0, 100 * 1000, &memory);
  (*reader)->Submit(&op);
  ASSERT_EQ(WaitFor(reader->get(), 1).size(), 1u);
  EXPECT_TRUE(op.status.ok()) << op.status;
  EXPECT_EQ(op.got_bytes, 100 * 1000u);
  EXPECT_EQ(0, std::memcmp(memory.data(), scratch.content().data(), 100 * 1000));
  EXPECT_GE((*reader)->stats().short_reads, 90u);
  EXPECT_GE((*reader)->stats().retries, 30u);
}

template <int kError>
int RefuseSetup(unsigned /*entries*/, io_uring* /*ring*/, io_uring_params* /*params*/) {
  return -kError;
}

int AncientSetup(unsigned entries, io_uring* ring, io_uring_params* params) {
  const int result = io_uring_queue_init_params(entries, ring, params);
  params->features &= ~IORING_FEAT_EXT_ARG;
  return result;
}

TEST(UringReader, SaysWhyItCannotBeUsed) {
  struct Case {
    UringSetup setup;
    const char* reason;
  };
  for (const Case& c : {Case{&RefuseSetup<ENOSYS>, "this kernel has no io_uring"},
                        Case{&RefuseSetup<EPERM>, "this system forbids io_uring"},
                        Case{&RefuseSetup<ENOMEM>, "ulimit -l"}}) {
    const auto reader = UringReader::Create(ReaderOptions(), c.setup);
    ASSERT_FALSE(reader.ok());
    EXPECT_EQ(reader.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(reader.status().message()), HasSubstr(c.reason));
    std::string note;
    auto fallback = MakeReader("auto", ReaderOptions(), &note, c.setup);
    ASSERT_TRUE(fallback.ok()) << fallback.status();
    EXPECT_EQ((*fallback)->name(), "threads");
    EXPECT_THAT(note, HasSubstr(c.reason));
    EXPECT_THAT(note, HasSubstr("so reads go through threads."));
    auto refused = MakeReader("uring", ReaderOptions(), &note, c.setup);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--reader threads"));
    EXPECT_EQ(note, "");
  }
  if (UringReader::Create(ReaderOptions()).ok()) {
    const auto reader = UringReader::Create(ReaderOptions(), &AncientSetup);
    ASSERT_FALSE(reader.ok());
    EXPECT_THAT(std::string(reader.status().message()), HasSubstr("5.11"));
  }
}

TEST(MakeReader, RefusesWhatItDoesNotKnow) {
  std::string note = "stale";
  const auto unknown = MakeReader("spdk", ReaderOptions(), &note);
  ASSERT_FALSE(unknown.ok());
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("auto, uring, threads"));
  EXPECT_EQ(note, "");
  for (int i = 0; i < 5; ++i) {
    ReaderOptions options;
    if (i == 0) options.capacity = 0;
    if (i == 1) options.depth = 0;
    if (i == 2) options.chunk_bytes = 1000;
    if (i == 3) options.chunk_bytes = 2 * kGiB;
    if (i == 4) options.depth = 100000;
    EXPECT_EQ(MakeReader("threads", options, &note).status().code(),
              absl::StatusCode::kInvalidArgument)
        << i;
  }
}

}  // namespace
}  // namespace weir
