#include "io/file_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <vector>

#include "io/scratch_space.h"
#include "tests/io/reader_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kBytes = 1 * kMiB;

// Hands back at most half of what it is asked for, after an interruption each
// time.
ssize_t WriteInPieces(int descriptor, const void* data, size_t bytes, off_t offset_bytes) {
  static thread_local bool interrupted = false;
  interrupted = !interrupted;
  if (interrupted) {
    errno = EINTR;
    return -1;
  }
  const size_t piece = bytes > 8192 ? AlignDown(bytes / 2, 4096) : bytes;
  return pwrite(descriptor, data, piece, offset_bytes);
}

// Fails from 256 KiB on.
ssize_t FullDisk(int descriptor, const void* data, size_t bytes, off_t offset_bytes) {
  if (static_cast<uint64_t>(offset_bytes) < 256 * kKiB) {
    return pwrite(descriptor, data, bytes, offset_bytes);
  }
  errno = ENOSPC;
  return -1;
}

class FileWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto scratch = ScratchSpace::Create(ScratchFolder(), kBytes);
    ASSERT_TRUE(scratch.ok()) << scratch.status();
    scratch_ = *std::move(scratch);
    for (uint64_t i = 0; i < kBytes; ++i) data_.data()[i] = static_cast<uint8_t>(i * 7 + i / 4096);
  }

  std::unique_ptr<FileWriter> Make(const FileWriterOptions& options) {
    auto writer = FileWriter::Create(scratch_->descriptor(), "scratch", options);
    EXPECT_TRUE(writer.ok()) << writer.status();
    return *std::move(writer);
  }

  std::vector<WriteOp> Ops(uint64_t op_bytes) {
    std::vector<WriteOp> ops(kBytes / op_bytes);
    for (size_t i = 0; i < ops.size(); ++i) {
      ops[i].offset_bytes = i * op_bytes;
      ops[i].data = data_.data() + i * op_bytes;
      ops[i].bytes = op_bytes;
      ops[i].tag = i;
    }
    return ops;
  }

  static std::vector<WriteOp*> TakeAll(FileWriter& writer) {
    std::vector<WriteOp*> all;
    std::vector<WriteOp*> done(3);
    while (writer.in_flight() > 0) {
      const size_t count = writer.Wait(absl::MakeSpan(done), 10'000'000'000);
      if (count == 0) {
        ADD_FAILURE() << "nothing came back in ten seconds";
        return all;
      }
      all.insert(all.end(), done.begin(), done.begin() + static_cast<ptrdiff_t>(count));
    }
    return all;
  }

  std::unique_ptr<ScratchSpace> scratch_;
  AlignedBuffer data_ = AlignedBuffer(kBytes);
};

TEST_F(FileWriterTest, WhatIsWrittenIsRead) {
  for (const PwriteFunction pwrite : {PwriteFunction{&::pwrite}, PwriteFunction{&WriteInPieces}}) {
    for (const uint64_t op_bytes : {64 * kKiB, 256 * kKiB}) {
      std::atomic<int> wakes{0};
      FileWriterOptions options;
      options.chunk_bytes = 64 * kKiB;
      options.threads = 3;
      options.pwrite = pwrite;
      options.wake = [](void* count) { ++*static_cast<std::atomic<int>*>(count); };
      options.wake_argument = &wakes;
      std::vector<WriteOp> ops = Ops(op_bytes);
      {
        const std::unique_ptr<FileWriter> writer = Make(options);
        for (WriteOp& op : ops) writer->Submit(&op);
        EXPECT_EQ(TakeAll(*writer).size(), ops.size());
        EXPECT_TRUE(writer->Sync().ok());
        EXPECT_EQ(writer->written_bytes(), kBytes);
      }
      EXPECT_EQ(wakes, static_cast<int>(ops.size()));
      for (const WriteOp& op : ops) {
        EXPECT_TRUE(op.status.ok()) << op.status;
        EXPECT_EQ(op.done_bytes, op_bytes);
      }
      std::vector<uint8_t> got(kBytes);
      ASSERT_TRUE(scratch_->file().ReadExactly(0, absl::MakeSpan(got)).ok());
      EXPECT_TRUE(std::equal(got.begin(), got.end(), data_.data()));
      std::fill(data_.data(), data_.data() + kBytes, uint8_t{1});
    }
  }
}

TEST_F(FileWriterTest, AnErrorEndsItsOpAndNoOther) {
  FileWriterOptions options;
  options.chunk_bytes = 32 * kKiB;
  options.threads = 4;
  options.pwrite = &FullDisk;
  const std::unique_ptr<FileWriter> writer = Make(options);
  std::vector<WriteOp> ops = Ops(256 * kKiB);
  for (WriteOp& op : ops) writer->Submit(&op);
  EXPECT_EQ(TakeAll(*writer).size(), 4u);
  EXPECT_TRUE(ops[0].status.ok());
  for (size_t i = 1; i < ops.size(); ++i) {
    EXPECT_EQ(ops[i].status.code(), absl::StatusCode::kResourceExhausted) << ops[i].status;
    EXPECT_THAT(std::string(ops[i].status.message()), HasSubstr("scratch: cannot write 262144"));
    EXPECT_EQ(ops[i].done_bytes, 0u);
  }
  EXPECT_EQ(writer->written_bytes(), 256 * kKiB);
}

TEST_F(FileWriterTest, NothingInFlightIsNotWaitedFor) {
  const std::unique_ptr<FileWriter> writer = Make({});
  WriteOp* done = nullptr;
  EXPECT_EQ(writer->Wait(absl::MakeSpan(&done, 1), 3'600'000'000'000), 0u);
}

TEST_F(FileWriterTest, EndsWithWorkInFlight) {
  std::vector<WriteOp> ops = Ops(64 * kKiB);
  const std::unique_ptr<FileWriter> writer = Make({});
  for (WriteOp& op : ops) writer->Submit(&op);
}

TEST_F(FileWriterTest, OptionsOutOfRangeAreRefused) {
  FileWriterOptions options;
  options.threads = 0;
  EXPECT_FALSE(FileWriter::Create(0, "f", options).ok());
  options.threads = 65;
  EXPECT_FALSE(FileWriter::Create(0, "f", options).ok());
  options.threads = 1;
  options.chunk_bytes = 1000;
  EXPECT_EQ(FileWriter::Create(0, "f", options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace weir
