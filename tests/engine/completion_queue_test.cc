// What a queue of work tells, with a notification for each piece and with few.
#include "engine/completion_queue.h"

#include <atomic>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu_device.h"

namespace weir {
namespace {

class CompletionQueueTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Device>> device = MakeCpuDevice(CpuDeviceOptions());
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    stream_ = device_->NewStream();
  }

  CompletionQueue Make(uint32_t capacity) {
    return CompletionQueue({.stream = stream_.get(),
                            .capacity = capacity,
                            .notify_each = GetParam(),
                            .wake = [](void* wakes) { ++*static_cast<std::atomic<int>*>(wakes); },
                            .wake_argument = &wakes_});
  }

  // Work that ends when `gate_` opens.
  void EnqueueGated() {
    static_cast<CpuStream&>(*stream_).Launch(
        [gate = &gate_](uint32_t, uint32_t, CpuStream&) { gate->wait(false); });
  }
  void OpenGate() {
    gate_ = true;
    gate_.notify_all();
  }
  void WaitForAll() { stream_->Wait(stream_->Record()); }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::atomic<bool> gate_{false};
  std::atomic<int> wakes_{0};
};

TEST_P(CompletionQueueTest, TellsAllInOrderAndNothingEarly) {
  CompletionQueue queue = Make(8);
  EnqueueGated();
  for (uint32_t id = 0; id < 8; ++id) queue.Push(100 + id, false, 1000 + id);
  queue.NotifyLast();
  EXPECT_FALSE(queue.HasDone());
  OpenGate();
  WaitForAll();
  int64_t before_ns = 0;
  for (uint32_t id = 0; id < 8; ++id) {
    ASSERT_TRUE(queue.HasDone()) << id;
    const CompletionQueue::Piece piece = queue.Take(0);
    EXPECT_EQ(piece.id, 100 + id);
    EXPECT_GE(piece.begin_ns, before_ns);
    EXPECT_GE(piece.end_ns, piece.begin_ns);
    EXPECT_EQ(queue.EndNs(queue.taken()), piece.end_ns);
    before_ns = piece.end_ns;
  }
  EXPECT_FALSE(queue.HasDone());
  EXPECT_GE(wakes_, 1);
}

TEST_P(CompletionQueueTest, APieceThatWakesIsKnownWithoutAskingForTheLast) {
  CompletionQueue queue = Make(16);
  queue.Push(1, false, 0);
  queue.Push(2, true, 0);
  queue.Push(3, false, 0);
  WaitForAll();
  EXPECT_GE(wakes_, 1);
  EXPECT_TRUE(queue.IsDone(2));
  EXPECT_EQ(queue.Take(0).id, 1u);
  EXPECT_EQ(queue.Take(0).id, 2u);
  EXPECT_EQ(queue.HasDone(), GetParam());  // 3 was not asked for
  queue.NotifyLast();
  WaitForAll();
  EXPECT_TRUE(queue.HasDone());
}

TEST_P(CompletionQueueTest, ALongQueueWakesHalfWay) {
  CompletionQueue queue = Make(8);
  for (uint32_t id = 0; id < 8; ++id) queue.Push(id, false, 0);
  WaitForAll();
  EXPECT_GE(wakes_, 1);
  EXPECT_TRUE(queue.IsDone(4));
}

TEST_P(CompletionQueueTest, OneThatIsKnownToBeDoneMayBeTakenBeforeItWasNoted) {
  CompletionQueue queue = Make(4);
  EnqueueGated();
  queue.Push(7, false, 5);
  const CompletionQueue::Piece piece = queue.Take(12);
  EXPECT_EQ(piece.id, 7u);
  EXPECT_EQ(piece.begin_ns, 12);
  OpenGate();
  WaitForAll();
  EXPECT_FALSE(queue.HasDone());
}

TEST_P(CompletionQueueTest, NumbersGoRoundTheRing) {
  CompletionQueue queue = Make(3);
  for (uint32_t id = 0; id < 50; ++id) {
    queue.Push(id, false, id);
    queue.NotifyLast();
    WaitForAll();
    ASSERT_TRUE(queue.HasDone());
    EXPECT_EQ(queue.Take(0).id, id);
    EXPECT_FALSE(queue.HasDone());
  }
}

INSTANTIATE_TEST_SUITE_P(Notifications, CompletionQueueTest, testing::Bool());

}  // namespace
}  // namespace weir
