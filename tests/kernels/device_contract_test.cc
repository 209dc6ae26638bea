// What every Device promises of kernels, events, notifications and memory (kernels/device.h).
// Copies and waits across streams: device_copies_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/device.h"
#include "tests/kernels/device_helper.h"

namespace weir {

class DeviceContractTest : public DeviceTest {};

TEST_P(DeviceContractTest, BeginningIsComplete) {
  EXPECT_TRUE(stream_->IsComplete(Event{}));
  stream_->Wait(Event{});
  const auto fresh = device_->NewStream();
  EXPECT_TRUE(fresh->IsComplete(fresh->Record()));
}

TEST_P(DeviceContractTest, ManyKernelsRunInOrder) {
  const uint64_t kernels = 5000;  // several times round every ring
  for (uint64_t i = 0; i < kernels; ++i) Step(i);
  EXPECT_EQ(Read(), ExpectedSteps(kernels));
}

TEST_P(DeviceContractTest, EventsTellHowFarAStreamIs) {
  Step(7);
  stream_->CopyOut(reinterpret_cast<uint8_t*>(host_cell(1)), cells_->data(), sizeof(uint64_t));
  const Event before = stream_->Record();
  GetParam().enqueue_hold(*stream_, gate());
  const Event held = stream_->Record();
  stream_->Wait(before);
  EXPECT_EQ(*host_cell(1), 7u);
  EXPECT_TRUE(stream_->IsComplete(before));
  EXPECT_FALSE(stream_->IsComplete(held));  // and so the call above did not wait for it
  gate()->store(1);
  stream_->Wait(held);
  EXPECT_TRUE(stream_->IsComplete(held));
}

// Events are values: as many as one likes, in any order, long after.
TEST_P(DeviceContractTest, OldEventsStayComplete) {
  std::vector<Event> events;
  for (uint64_t i = 0; i < 3000; ++i) {
    if (i % 3 != 0) Step(i);
    events.push_back(stream_->Record());
  }
  stream_->Wait(events[1500]);
  for (size_t i = 0; i <= 1500; ++i) ASSERT_TRUE(stream_->IsComplete(events[i])) << i;
  stream_->Wait(events.back());
  for (const Event event : events) ASSERT_TRUE(stream_->IsComplete(event));
  stream_->Wait(events.front());
}

TEST_P(DeviceContractTest, NotificationsComeInOrderAndAfterTheWork) {
  struct Notes {
    const uint64_t* cells;
    std::vector<uint64_t> seen;
    std::atomic<int> count{0};
  } notes;
  notes.cells = host_cell(0);
  GetParam().enqueue_hold(*stream_, gate());
  const auto notify = [](void* argument) {
    Notes* n = static_cast<Notes*>(argument);
    n->seen.push_back(n->cells[n->seen.size()]);
    n->count.fetch_add(1);
  };
  for (int i = 0; i < 2; ++i) {
    Step(static_cast<uint64_t>(i) + 1);
    stream_->CopyOut(reinterpret_cast<uint8_t*>(host_cell(i)), cells_->data(), sizeof(uint64_t));
    stream_->NotifyWhenComplete(notify, &notes);
  }
  EXPECT_EQ(notes.count, 0);
  gate()->store(1);
  while (notes.count < 2) std::this_thread::yield();
  EXPECT_EQ(notes.seen, (std::vector<uint64_t>{1, 5}));
}

TEST_P(DeviceContractTest, NotificationWithNothingBeforeIt) {
  std::atomic<bool> told{false};
  stream_->NotifyWhenComplete([](void* t) { static_cast<std::atomic<bool>*>(t)->store(true); },
                              &told);
  while (!told) std::this_thread::yield();
}

TEST_P(DeviceContractTest, EveryNotificationComes) {
  std::atomic<uint64_t> told{0};
  const auto notify = [](void* t) { static_cast<std::atomic<uint64_t>*>(t)->fetch_add(1); };
  for (uint64_t i = 0; i < 3000; ++i) {
    if (i % 2 == 0) Step(i);
    stream_->NotifyWhenComplete(notify, &told);
  }
  stream_.reset();  // waits for all work, and a notification is work
  EXPECT_EQ(told, 3000u);
}

TEST_P(DeviceContractTest, TwoStreamsFromTwoThreads) {
  const auto other = device_->NewStream();
  const uint64_t kernels = 2000;
  const auto fill = [&](Stream* stream, uint64_t* target) {
    for (uint64_t i = 0; i < kernels; ++i) GetParam().enqueue_step(*stream, target, i);
    stream->Wait(stream->Record());
  };
  std::thread thread([&] { fill(other.get(), cell(64)); });
  fill(stream_.get(), cell(0));
  thread.join();
  EXPECT_EQ(Read(0), ExpectedSteps(kernels));
  EXPECT_EQ(Read(64), ExpectedSteps(kernels));
}

TEST_P(DeviceContractTest, DestroyedStreamHasRunEverything) {
  for (uint64_t i = 0; i < 100; ++i) Step(i);
  stream_ = device_->NewStream();
  EXPECT_EQ(Read(), ExpectedSteps(100));
}

// Long enough apart for the workers to go to sleep in between.
TEST_P(DeviceContractTest, WakesFromSleep) {
  for (uint64_t i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    Step(i);
    stream_->Wait(stream_->Record());
  }
  EXPECT_EQ(Read(), ExpectedSteps(20));
}

TEST_P(DeviceContractTest, AGraphRunsWhatWasRecorded) {
  if (!stream_->has_graphs()) GTEST_SKIP() << "no graphs";
  Step(0);  // its code is loaded
  const auto graph = stream_->RecordGraph([&] {
    Step(1);
    Step(2);
  });
  ASSERT_NE(graph, nullptr) << stream_->status();
  Step(5);
  for (int i = 0; i < 3; ++i) stream_->RunGraph(*graph);
  Step(6);
  stream_->RunGraph(*graph);
  uint64_t expected = 5;
  const auto run = [&expected] { expected = (expected * 3 + 1) * 3 + 2; };
  for (int i = 0; i < 3; ++i) run();
  expected = expected * 3 + 6;
  run();
  EXPECT_EQ(Read(), expected);
}

TEST_P(DeviceContractTest, TwoGraphsOfOneStream) {
  if (!stream_->has_graphs()) GTEST_SKIP() << "no graphs";
  Step(0);
  const auto first = stream_->RecordGraph([&] { Step(1); });
  const auto second = stream_->RecordGraph([&] { Step(2); });
  ASSERT_TRUE(first != nullptr && second != nullptr) << stream_->status();
  uint64_t expected = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    stream_->RunGraph(i % 2 == 0 ? *first : *second);
    expected = expected * 3 + 1 + i % 2;
    if (i % 50 == 7) {
      EXPECT_EQ(Read(), expected);
    }
  }
  EXPECT_EQ(Read(), expected);
}

TEST_P(DeviceContractTest, BuffersAreAlignedZeroedAndOfTheirSize) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, uint64_t{4097}, 5 * kMiB + 3, 33 * kMiB}) {
    for (const uint64_t alignment : {uint64_t{1}, uint64_t{64}, uint64_t{4096}, 4 * kMiB}) {
      const Touch touch = alignment == 64 ? Touch::kAtFirstUse : Touch::kNow;
      auto buffer = device_->Allocate(bytes, alignment, touch);
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      EXPECT_EQ((*buffer)->size_bytes(), bytes);
      EXPECT_EQ(reinterpret_cast<uint64_t>((*buffer)->data()) % alignment, 0u);
      std::fill_n(host(), bytes, uint8_t{0xff});
      stream_->CopyOut(host(), (*buffer)->data(), bytes);
      stream_->Wait(stream_->Record());
      EXPECT_TRUE(std::all_of(host(), host() + bytes, [](uint8_t b) { return b == 0; }));
      std::fill_n(host(), bytes, uint8_t{0xff});
      stream_->CopyIn((*buffer)->data(), host(), bytes);  // the next one must not show it
      stream_->Wait(stream_->Record());
    }
  }
}

TEST_P(DeviceContractTest, AbsurdSizesAreRefusedWithNumbers) {
  for (const uint64_t bytes : {uint64_t{1} << 50, UINT64_MAX, UINT64_MAX - 4095}) {
    const auto buffer = device_->Allocate(bytes, 4096, Touch::kNow);
    ASSERT_FALSE(buffer.ok());
    EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_NE(buffer.status().message().find(std::to_string(bytes)), std::string::npos)
        << buffer.status();
    EXPECT_NE(buffer.status().message().find("free"), std::string::npos) << buffer.status();
  }
}

TEST_P(DeviceContractTest, AnAcceleratorKeepsToItsBudget) {
  if (device_->kind() == DeviceKind::kCpu) GTEST_SKIP() << "the CPU's memory is everybody's";
  const DeviceMemory before = device_->memory();
  EXPECT_EQ(before.total_bytes, kDeviceTestBytes);
  EXPECT_LT(before.free_bytes, before.total_bytes);  // the cells
  const auto refused = device_->Allocate(before.free_bytes + 1, 64, Touch::kAtFirstUse);
  ASSERT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted) << refused.status();
  EXPECT_NE(refused.status().message().find("--hbm"), std::string::npos) << refused.status();
  EXPECT_EQ(device_->memory().free_bytes, before.free_bytes);
  {
    const auto half = device_->Allocate(before.free_bytes / 2, 64, Touch::kAtFirstUse);
    ASSERT_TRUE(half.ok()) << half.status();
    EXPECT_LE(device_->memory().free_bytes, before.free_bytes - before.free_bytes / 2);
    EXPECT_FALSE(device_->Allocate(before.free_bytes * 3 / 4, 64, Touch::kAtFirstUse).ok());
  }
  EXPECT_EQ(device_->memory().free_bytes, before.free_bytes);
}

TEST_P(DeviceContractTest, MemoryIsPinnedOnce) {
  const auto pin = [&](uint64_t begin, uint64_t bytes) {
    return device_->Pin(host_->data() + begin, bytes);
  };
  pinned_.reset();
  auto middle = pin(kMiB, kMiB);
  ASSERT_TRUE(middle.ok()) << middle.status();
  for (const auto& [begin, bytes] :
       std::vector<std::pair<uint64_t, uint64_t>>{{kMiB, kMiB},
                                                  {0, 4 * kMiB},
                                                  {kMiB + 4096, 4096},
                                                  {0, kMiB + 4096},
                                                  {kMiB * 3 / 2, kMiB}}) {
    const auto again = pin(begin, bytes);
    EXPECT_EQ(again.status().code(), absl::StatusCode::kAlreadyExists)
        << begin << " " << bytes << " " << again.status();
  }
  const auto before = pin(0, kMiB);
  EXPECT_TRUE(before.ok()) << before.status();
  const auto after = pin(2 * kMiB, kMiB);
  EXPECT_TRUE(after.ok()) << after.status();
  middle->reset();
  const auto third = pin(kMiB, kMiB);
  EXPECT_TRUE(third.ok()) << third.status();
  EXPECT_EQ(pin(8 * kMiB, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

WEIR_ON_EVERY_DEVICE_UNDER_TEST(DeviceContractTest);

}  // namespace weir
