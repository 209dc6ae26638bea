// Reads that the kernel does not answer: one error each, never a hang, and nobody touches what may
// be gone by the time that an answer comes after all.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

#include "io/base.h"
#include "io/chunk_queue.h"
#include "io/thread_reader.h"
#include "io/uring_reader.h"
#include "tests/io/reader_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kFileBytes = 256 * kKiB;
constexpr int64_t kTimeoutNs = 20'000'000;

// A disk that hangs while the gate is shut: its reads wait and then are as good as any. A function
// pointer carries no state, so that is here.
std::atomic<bool> gate_is_shut{false};
std::atomic<int> reads_waiting{0};

void Pause() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

// Declared behind the Reader, whose destructor waits for its reads.
struct ShutGate {
  ShutGate() { gate_is_shut = true; }
  ~ShutGate() { gate_is_shut = false; }
};

ssize_t PreadBehindGate(int descriptor, void* buffer, size_t bytes, off_t offset_bytes) {
  ++reads_waiting;
  while (gate_is_shut.load()) Pause();
  --reads_waiting;
  return pread(descriptor, buffer, bytes, offset_bytes);
}

std::unique_ptr<ThreadReader> GatedReader(uint64_t chunk_bytes) {
  ReaderOptions options;
  options.capacity = 8;
  options.chunk_bytes = chunk_bytes;
  options.depth = 2;
  options.read_timeout_ns = kTimeoutNs;
  auto reader = ThreadReader::Create(options, &PreadBehindGate);
  WEIR_CHECK(reader.ok());
  return *std::move(reader);
}

std::unique_ptr<File> OpenFile(const ScratchFile& scratch) {
  auto file = File::Open(scratch.path(), FileMode::kDirectOrBuffered);
  WEIR_CHECK(file.ok());
  return *std::move(file);
}

class StuckThreads : public ::testing::Test {
 protected:
  ScratchFile scratch_{ScratchFolder(), kFileBytes, 5};
  AlignedBuffer memory_{kFileBytes};
};

TEST_F(StuckThreads, EndInOneErrorEachAndMayComeBack) {
  const auto reader = GatedReader(kFileBytes);
  auto file = OpenFile(scratch_);
  const ShutGate gate;
  auto ops = std::make_unique<std::vector<ReadOp>>(4);
  for (ReadOp& op : *ops) {
    op = WideOp(*file, 0, 64 * kKiB, &memory_);
    reader->Submit(&op);
  }
  ASSERT_EQ(WaitFor(reader.get(), 4).size(), 4u);
  for (const ReadOp& op : *ops) {
    EXPECT_EQ(op.status.code(), absl::StatusCode::kDeadlineExceeded) << op.status;
    const std::string message(op.status.message());
    EXPECT_THAT(message, HasSubstr(scratch_.path() + ": offset 0: wanted 65536 bytes, got 0"));
    EXPECT_THAT(message, HasSubstr("not answered for 20 ms"));
  }
  EXPECT_EQ(reader->in_flight(), 0u);
  // Two threads, so two reads were begun; the others never were.
  EXPECT_EQ(reader->stuck(), 2u);
  // Nothing is read until they are back: who takes memory anew must not find it written to.
  reader->Submit(&ops->front());
  ASSERT_EQ(WaitFor(reader.get(), 1).size(), 1u);
  EXPECT_EQ(ops->front().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(reader->stats().failures, 5u);

  ops.reset();  // and what the reads were for is gone when they are
  file.reset();
  gate_is_shut = false;
  while (reader->stuck() > 0) Pause();
  file = OpenFile(scratch_);
  ReadOp op = WideOp(*file, 0, kFileBytes, &memory_);
  reader->Submit(&op);
  ASSERT_EQ(WaitFor(reader.get(), 1).size(), 1u);
  EXPECT_TRUE(op.status.ok()) << op.status;
  EXPECT_EQ(0, std::memcmp(memory_.data(), scratch_.content().data(), kFileBytes));
}

// An op of many chunks of which some were never begun.
TEST_F(StuckThreads, GiveUpTheRestOfTheirOp) {
  const auto reader = GatedReader(8 * kKiB);
  const auto file = OpenFile(scratch_);
  const ShutGate gate;
  ReadOp op = WideOp(*file, 0, kFileBytes, &memory_);
  reader->Submit(&op);
  ASSERT_EQ(WaitFor(reader.get(), 1).size(), 1u);
  EXPECT_EQ(op.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(reader->stuck(), 2u);
}

TEST_F(StuckThreads, AreWaitedForByTheDestructor) {
  auto reader = GatedReader(kFileBytes);
  const auto file = OpenFile(scratch_);
  const ShutGate gate;
  ReadOp op = WideOp(*file, 0, kFileBytes, &memory_);
  reader->Submit(&op);
  ASSERT_EQ(WaitFor(reader.get(), 1).size(), 1u);
  std::atomic<bool> is_gone = false;
  std::thread elsewhere([&] {
    reader.reset();
    is_gone = true;
  });
  Pause();
  EXPECT_FALSE(is_gone);
  gate_is_shut = false;
  elsewhere.join();
  EXPECT_EQ(reads_waiting, 0);
}

// io_uring cancels a read from an empty pipe, so nothing stays behind.
TEST(StuckRing, IsCancelledAndGoesOn) {
  ReaderOptions options;
  options.read_timeout_ns = kTimeoutNs;
  auto made = UringReader::Create(options);
  if (!made.ok()) GTEST_SKIP() << "io_uring is forbidden or absent on this system";
  const std::unique_ptr<UringReader> reader = *std::move(made);
  ScratchFile scratch(ScratchFolder(), kFileBytes, 6);
  const auto file = OpenFile(scratch);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const int disk = dup(file->descriptor());
  ASSERT_EQ(dup2(ends[0], file->descriptor()), file->descriptor());
  AlignedBuffer memory(kFileBytes);
  AlignedBuffer other_memory(kFileBytes);
  ReadOp stuck = WideOp(*file, 0, 64 * kKiB, &memory);
  reader->Submit(&stuck);
  ASSERT_EQ(WaitFor(reader.get(), 1).size(), 1u);
  EXPECT_EQ(stuck.status.code(), absl::StatusCode::kDeadlineExceeded) << stuck.status;
  EXPECT_THAT(std::string(stuck.status.message()), HasSubstr("wanted 65536 bytes, got 0"));
  EXPECT_EQ(reader->stuck(), 0u);
  // Whatever arrives now, it is not for this memory.
  ASSERT_EQ(write(ends[1], "late", 4), 4);
  ASSERT_EQ(dup2(disk, file->descriptor()), file->descriptor());
  ReadOp op = WideOp(*file, 0, kFileBytes, &other_memory);
  reader->Submit(&op);
  ASSERT_EQ(WaitFor(reader.get(), 1).size(), 1u);
  EXPECT_TRUE(op.status.ok()) << op.status;
  EXPECT_EQ(0, std::memcmp(other_memory.data(), scratch.content().data(), kFileBytes));
  EXPECT_EQ(memory.data()[0], 0xA5);
  for (const int descriptor : {ends[0], ends[1], disk}) close(descriptor);
}

// What is left to a Reader whose kernel does not cancel, step by step.
TEST(StuckChunks, OutliveTheirOp) {
  ScratchFile scratch(ScratchFolder(), kFileBytes, 7);
  const auto file = OpenFile(scratch);
  AlignedBuffer memory(kFileBytes);
  std::atomic<bool> cancel = false;
  ReaderOptions options;
  options.chunk_bytes = 64 * kKiB;
  options.read_timeout_ns = 60'000'000'000;
  options.cancel = &cancel;
  ChunkQueue queue(options);
  ReadOp op = WideOp(*file, 0, 128 * kKiB, &memory);
  queue.Add(&op, 0);
  ChunkQueue::Chunk* const first = queue.Next(0);
  ChunkQueue::Chunk* const second = queue.Next(1'000);
  EXPECT_EQ(queue.NextDeadlineNs(), 60'000'000'000);
  EXPECT_EQ(queue.FindOverdue(59'999'999'999), nullptr);
  EXPECT_EQ(queue.FindOverdue(60'000'000'000), first);
  cancel = true;  // the user has no minute
  EXPECT_EQ(queue.NextDeadlineNs(), kCancelledReadTimeoutNs);
  EXPECT_EQ(queue.FindOverdue(kCancelledReadTimeoutNs), first);
  queue.GrantGrace(first, kCancelledReadTimeoutNs);
  EXPECT_EQ(queue.FindOverdue(kCancelledReadTimeoutNs), nullptr);
  EXPECT_EQ(queue.FindOverdue(kCancelledReadTimeoutNs + 1'000), second);
  // A result that comes in time counts, whatever it is.
  EXPECT_EQ(queue.Complete(second, 64 * kKiB, kCancelledReadTimeoutNs), ReadStep::kDone);
  EXPECT_FALSE(queue.has_done());
  const int64_t late_ns = kCancelledReadTimeoutNs + kCancelGraceNs;
  ASSERT_EQ(queue.FindOverdue(late_ns), first);
  queue.Abandon(first, late_ns);
  EXPECT_EQ(queue.stuck(), 1u);
  EXPECT_EQ(queue.chunks_in_flight(), 1u);
  EXPECT_EQ(queue.FindOverdue(2 * late_ns), nullptr);
  ReadOp* done = nullptr;
  ASSERT_EQ(queue.TakeDone(absl::MakeSpan(&done, 1)), 1u);
  EXPECT_EQ(done, &op);
  EXPECT_EQ(op.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(op.got_bytes, 0u);
  queue.Complete(first, 64 * kKiB, 2 * late_ns);
  EXPECT_EQ(queue.stuck(), 0u);
  EXPECT_EQ(queue.chunks_in_flight(), 0u);
}

}  // namespace
}  // namespace weir
