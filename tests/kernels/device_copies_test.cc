// What every Device promises of copies, copy streams and waits across streams and devices
// (kernels/device.h).
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "io/allocation_counter.h"
#include "io/split_mix.h"
#include "kernels/cpu_device.h"
#include "kernels/device.h"
#include "tests/kernels/device_helper.h"

namespace weir {

class DeviceCopiesTest : public DeviceTest {
 protected:
  // A stream, memory of its device that is only its own, and how to hold it back.
  struct Leg {
    const char* name;
    std::unique_ptr<Stream> stream;
    std::unique_ptr<Buffer> scratch;
    void (*hold)(Stream& stream, const std::atomic<uint32_t>* gate);  // null: no kernels on it
  };

  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    CpuDeviceOptions options;
    options.threads = 2;
    auto cpu = MakeCpuDevice(options);
    ASSERT_TRUE(cpu.ok()) << cpu.status();
    cpu_ = *std::move(cpu);
  }
  // Streams of the device under test, and one of a CPU device beside it.
  std::vector<Leg> Legs() {
    std::vector<Leg> legs;
    legs.push_back(MakeLeg("kernels", *device_, device_->NewStream(), GetParam().enqueue_hold));
    legs.push_back(MakeLeg("copies", *device_, device_->NewCopyStream(), nullptr));
    legs.push_back(MakeLeg("copies2", *device_, device_->NewCopyStream(), nullptr));
    legs.push_back(MakeLeg("cpu", *cpu_, cpu_->NewStream(), HoldOnCpu));
    return legs;
  }
  static Leg MakeLeg(const char* name, Device& device, std::unique_ptr<Stream> stream,
                     void (*hold)(Stream& stream, const std::atomic<uint32_t>* gate)) {
    EXPECT_TRUE(stream->status().ok()) << stream->status();
    auto scratch = device.Allocate(kMiB, 64, Touch::kNow);
    EXPECT_TRUE(scratch.ok()) << scratch.status();
    return {name, std::move(stream), *std::move(scratch), hold};
  }
  // There and back: host memory `from` to `to`.
  static void RoundTrip(Leg& leg, uint8_t* to, const uint8_t* from, uint64_t bytes) {
    leg.stream->CopyIn(leg.scratch->data(), from, bytes);
    leg.stream->CopyOut(to, leg.scratch->data(), bytes);
  }
  void ExpectHeldBack(Leg& gated, Leg& first, Leg& second);

  std::unique_ptr<Device> cpu_;
};

void FillRandom(uint8_t* data, uint64_t bytes, uint64_t seed) {
  uint64_t state = seed;
  for (uint64_t i = 0; i < bytes; ++i) data[i] = static_cast<uint8_t>(SplitMix64(&state));
}

TEST_P(DeviceCopiesTest, BytesComeBackWhole) {
  const uint64_t seed = 1;
  for (Leg& leg : Legs()) {
    for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, uint64_t{4097}, kMiB - 64}) {
      for (const uint64_t offset : {0, 1, 63}) {
        uint8_t* const from = host() + offset;
        uint8_t* const to = host() + 2 * kMiB + 7 * offset;
        FillRandom(from, bytes, seed);
        std::fill_n(to - 1, bytes + 2, uint8_t{0xaa});
        leg.stream->CopyIn(leg.scratch->data() + offset, from, bytes);
        leg.stream->CopyOut(to, leg.scratch->data() + offset, bytes);
        leg.stream->Wait(leg.stream->Record());
        ASSERT_TRUE(std::equal(from, from + bytes, to))
            << leg.name << " " << bytes << " " << offset << " seed " << seed;
        ASSERT_EQ(to[-1], 0xaa);
        ASSERT_EQ(to[bytes], 0xaa);
      }
    }
  }
}

// Each copy reads what the one before it wrote.
TEST_P(DeviceCopiesTest, CopiesOfAStreamAreInOrder) {
  const int hops = 300;
  const uint64_t bytes = 300;
  for (Leg& leg : Legs()) {
    std::fill_n(host(), (hops + 1) * bytes, uint8_t{0});
    FillRandom(host(), bytes, 2);
    for (int i = 0; i < hops; ++i) {
      RoundTrip(leg, host() + (i + 1) * bytes, host() + i * bytes, bytes);
    }
    leg.stream->Wait(leg.stream->Record());
    EXPECT_TRUE(std::equal(host(), host() + bytes, host() + hops * bytes)) << leg.name;
  }
}

TEST_P(DeviceCopiesTest, NotificationsFollowTheirCopies) {
  struct Notes {
    const uint8_t* bytes;
    std::vector<uint8_t> seen;
    std::atomic<int> count{0};
  };
  const auto notify = [](void* argument) {
    Notes* n = static_cast<Notes*>(argument);
    n->seen.push_back(n->bytes[n->seen.size()]);
    n->count.fetch_add(1);
  };
  for (Leg& leg : Legs()) {
    Notes notes;
    notes.bytes = host() + kMiB;
    std::fill_n(host() + kMiB, 100, uint8_t{0});
    for (uint64_t i = 0; i < 100; ++i) host()[i] = static_cast<uint8_t>(i + 1);
    for (uint64_t i = 0; i < 100; ++i) {
      RoundTrip(leg, host() + kMiB + i, host() + i, 1);
      leg.stream->NotifyWhenComplete(notify, &notes);
    }
    while (notes.count < 100) std::this_thread::yield();
    for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(notes.seen[i], i + 1) << leg.name;
  }
}

// `first` copies behind a closed gate of `gated`, `second` copies what that made.
void DeviceCopiesTest::ExpectHeldBack(Leg& gated, Leg& first, Leg& second) {
  SCOPED_TRACE(testing::Message() << gated.name << " <- " << first.name << " <- " << second.name);
  const uint64_t bytes = 100'000;
  uint8_t* const a = host();
  uint8_t* const b = host() + kMiB;
  uint8_t* const c = host() + 2 * kMiB;
  FillRandom(a, bytes, 3);
  std::fill_n(b, bytes, uint8_t{0});
  std::fill_n(c, bytes, uint8_t{0});
  gate()->store(0);
  gated.hold(*gated.stream, gate());
  first.stream->WaitFor(*gated.stream, gated.stream->Record());
  RoundTrip(first, b, a, bytes);
  const Event copied = first.stream->Record();
  second.stream->WaitFor(*first.stream, copied);
  RoundTrip(second, c, b, bytes);
  const Event done = second.stream->Record();
  EXPECT_FALSE(first.stream->IsComplete(copied));
  EXPECT_FALSE(second.stream->IsComplete(done));
  gate()->store(1);
  second.stream->Wait(done);
  EXPECT_TRUE(first.stream->IsComplete(copied));
  EXPECT_TRUE(std::equal(a, a + bytes, c));
}

TEST_P(DeviceCopiesTest, WaitForHoldsBackAcrossStreamsAndDevices) {
  std::vector<Leg> legs = Legs();
  for (Leg& gated : legs) {
    if (gated.hold == nullptr) continue;
    for (Leg& first : legs) {
      for (Leg& second : legs) ExpectHeldBack(gated, first, second);
    }
  }
}

// What was enqueued before a wait does not wait.
TEST_P(DeviceCopiesTest, WaitForHoldsBackOnlyWhatFollows) {
  if (device_->kind() == DeviceKind::kCpu) GTEST_SKIP() << "one queue for all its streams";
  std::vector<Leg> legs = Legs();
  Leg& gated = legs[3];
  for (Leg& leg : legs) {
    if (&leg == &gated) continue;
    gate()->store(0);
    gated.hold(*gated.stream, gate());
    RoundTrip(leg, host() + kMiB, host(), 1000);
    const Event before = leg.stream->Record();
    leg.stream->WaitFor(*gated.stream, gated.stream->Record());
    RoundTrip(leg, host() + kMiB, host(), 1000);
    leg.stream->Wait(before);
    EXPECT_FALSE(leg.stream->IsComplete(leg.stream->Record())) << leg.name;
    gate()->store(1);
    leg.stream->Wait(leg.stream->Record());
  }
}

TEST_P(DeviceCopiesTest, WaitsForWhatIsCompleteOrNothing) {
  std::vector<Leg> legs = Legs();
  for (Leg& leg : legs) {
    for (Leg& other : legs) {
      leg.stream->WaitFor(*other.stream, Event{});
      leg.stream->WaitFor(*other.stream, other.stream->Record());
      RoundTrip(leg, host() + kMiB, host(), 64);
      leg.stream->WaitFor(*leg.stream, leg.stream->Record());  // its own: nothing to wait for
    }
    leg.stream->Wait(leg.stream->Record());
  }
}

// A value goes to and fro between the device and the CPU, each adding to it when the other has.
TEST_P(DeviceCopiesTest, TwoDevicesTakeTurns) {
  const uint64_t rounds = 400;
  const auto cpu_stream = cpu_->NewStream();
  const auto copies = device_->NewCopyStream();
  uint64_t* const value = reinterpret_cast<uint64_t*>(host());
  *value = 0;
  for (uint64_t i = 0; i < rounds; ++i) {
    StepOnCpu(*cpu_stream, value, 2 * i);
    copies->WaitFor(*cpu_stream, cpu_stream->Record());
    copies->CopyIn(cells_->data(), host(), sizeof(uint64_t));
    stream_->WaitFor(*copies, copies->Record());
    Step(2 * i + 1);
    if (i % 2 == 0) {  // back by either stream
      stream_->CopyOut(host(), cells_->data(), sizeof(uint64_t));
      cpu_stream->WaitFor(*stream_, stream_->Record());
    } else {
      copies->WaitFor(*stream_, stream_->Record());
      copies->CopyOut(host(), cells_->data(), sizeof(uint64_t));
      cpu_stream->WaitFor(*copies, copies->Record());
    }
  }
  cpu_stream->Wait(cpu_stream->Record());
  EXPECT_EQ(*value, ExpectedSteps(2 * rounds));
}

TEST_P(DeviceCopiesTest, NothingIsAllocatedOnTheWay) {
  if (!AllocationCount().has_value()) GTEST_SKIP() << "this build does not count allocations";
  std::vector<Leg> legs = Legs();
  const auto once = [&] {
    for (Leg& leg : legs) {
      for (Leg& other : legs) {
        RoundTrip(leg, host() + kMiB, host(), 1000);
        other.stream->WaitFor(*leg.stream, leg.stream->Record());
        leg.stream->NotifyWhenComplete([](void*) {}, nullptr);
      }
    }
    for (Leg& leg : legs) leg.stream->Wait(leg.stream->Record());
  };
  once();
  const uint64_t before = *AllocationCount();
  for (int i = 0; i < 20; ++i) once();
  EXPECT_EQ(*AllocationCount(), before);
}

TEST_P(DeviceCopiesTest, ADestroyedCopyStreamHasCopied) {
  FillRandom(host(), kMiB, 4);
  std::fill_n(host() + kMiB, kMiB, uint8_t{0});
  {
    Leg leg = MakeLeg("copies", *device_, device_->NewCopyStream(), nullptr);
    RoundTrip(leg, host() + kMiB, host(), kMiB);
    leg.stream.reset();
  }
  EXPECT_TRUE(std::equal(host(), host() + kMiB, host() + kMiB));
}

WEIR_ON_EVERY_DEVICE_UNDER_TEST(DeviceCopiesTest);

}  // namespace weir
