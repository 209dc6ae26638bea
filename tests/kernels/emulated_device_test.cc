// What the emulated accelerator adds to the contract of all devices (kernels/emulated_device.h):
// the link's clockwork, and that no copy is complete before its time.
#include "kernels/emulated_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "io/base.h"
#include "io/clock.h"
#include "kernels/device.h"
#include "kernels/emulated_link.h"
#include "kernels/isa.h"

namespace weir {
namespace {

TEST(EmulatedLinkTest, OneCopyTakesItsBytesAndTheLatency) {
  EmulatedLink link(2e9, 10'000);
  const LinkWindow window = link.Reserve(1'000'000, 5'000);
  EXPECT_EQ(window.begin_ns, 5'000);
  EXPECT_EQ(window.end_ns, 505'000);
  EXPECT_EQ(window.arrival_ns, 515'000);
}

// Many copies that could all begin at once: the whole rate, and one latency at the end.
TEST(EmulatedLinkTest, CopiesBackToBackUseTheWholeRate) {
  EmulatedLink link(1e9, 100'000);
  int64_t last_end_ns = 1'000;
  for (int i = 0; i < 1000; ++i) {
    const LinkWindow window = link.Reserve(4096, 1'000);
    EXPECT_EQ(window.begin_ns, last_end_ns);
    EXPECT_EQ(window.arrival_ns, window.end_ns + 100'000);
    last_end_ns = window.end_ns;
  }
  EXPECT_EQ(last_end_ns, 1'000 + 4096 * 1000);
}

TEST(EmulatedLinkTest, AnIdleLinkLosesItsTime) {
  EmulatedLink link(1e9, 0);
  EXPECT_EQ(link.Reserve(1000, 0).end_ns, 1000);
  EXPECT_EQ(link.Reserve(1000, 5000).begin_ns, 5000);
  EXPECT_EQ(link.Reserve(0, 0).end_ns, 6000);
}

EmulatedDeviceOptions SlowLink() {
  EmulatedDeviceOptions options;
  options.h2d_bytes_per_s = 1e9;
  options.d2h_bytes_per_s = 5e8;
  options.latency_ns = 300'000;
  options.memory_bytes = 64 * kMiB;
  return options;
}

// A bound from below only: how much later than its time a copy ends is the machine's affair.
TEST(EmulatedDeviceTest, NoCopyIsCompleteBeforeItsTime) {
  const auto device = MakeEmulatedDevice(SlowLink());
  ASSERT_TRUE(device.ok()) << device.status();
  const auto memory = (*device)->Allocate(kMiB, 64, Touch::kNow);
  ASSERT_TRUE(memory.ok()) << memory.status();
  std::vector<uint8_t> host(kMiB, 1);
  const RealClock clock;
  const auto kernels = (*device)->NewStream();
  const auto copies = (*device)->NewCopyStream();
  for (Stream* stream : {kernels.get(), copies.get()}) {
    const int64_t begin_ns = clock.NowNs();
    for (int i = 0; i < 4; ++i) stream->CopyIn((*memory)->data(), host.data(), kMiB);
    stream->Wait(stream->Record());
    EXPECT_GE(clock.NowNs() - begin_ns, int64_t{4} * kMiB + 300'000);
    const int64_t out_ns = clock.NowNs();
    for (int i = 0; i < 4; ++i) stream->CopyOut(host.data(), (*memory)->data(), kMiB);
    stream->Wait(stream->Record());
    EXPECT_GE(clock.NowNs() - out_ns, int64_t{8} * kMiB + 300'000);
  }
}

TEST(EmulatedDeviceTest, StreamsShareADirection) {
  const auto device = MakeEmulatedDevice(SlowLink());
  ASSERT_TRUE(device.ok()) << device.status();
  const auto memory = (*device)->Allocate(3 * kMiB, 64, Touch::kNow);
  ASSERT_TRUE(memory.ok()) << memory.status();
  std::vector<uint8_t> host(kMiB, 1);
  const RealClock clock;
  std::vector<std::unique_ptr<Stream>> streams;
  streams.push_back((*device)->NewStream());
  streams.push_back((*device)->NewCopyStream());
  streams.push_back((*device)->NewCopyStream());
  const int64_t begin_ns = clock.NowNs();
  for (size_t i = 0; i < streams.size(); ++i) {
    streams[i]->CopyIn((*memory)->data() + i * kMiB, host.data(), kMiB);
  }
  for (const auto& stream : streams) stream->Wait(stream->Record());
  EXPECT_GE(clock.NowNs() - begin_ns, int64_t{3} * kMiB + 300'000);
}

TEST(EmulatedDeviceTest, ItsNameSaysWhatItIs) {
  EmulatedDeviceOptions options = SlowLink();
  options.threads = 2;
  const std::string isa(SupportedIsas().front());
  EXPECT_EQ((*MakeEmulatedDevice(options))->name(),
            "emulated (2 threads, " + isa + "; link 1 GB/s in, 0.5 GB/s out, 300 us)");
  options.h2d_bytes_per_s = 26e9;
  options.d2h_bytes_per_s = 0;
  options.latency_ns = 10'000;
  EXPECT_EQ((*MakeEmulatedDevice(options))->name(),
            "emulated (2 threads, " + isa + "; link 26 GB/s in, 26 GB/s out, 10 us)");
}

TEST(EmulatedDeviceTest, BadOptionsAreRefused) {
  const auto refusal = [](auto change) {
    EmulatedDeviceOptions options = SlowLink();
    change(options);
    return MakeEmulatedDevice(options).status().code();
  };
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(refusal([](auto&) {}), absl::StatusCode::kOk);
  EXPECT_EQ(refusal([](auto& o) { o.h2d_bytes_per_s = 0; }), kInvalid);
  EXPECT_EQ(refusal([](auto& o) { o.h2d_bytes_per_s = -1e9; }), kInvalid);
  EXPECT_EQ(refusal([](auto& o) { o.d2h_bytes_per_s = 1e300; }), kInvalid);
  EXPECT_EQ(refusal([](auto& o) { o.latency_ns = -1; }), kInvalid);
  EXPECT_EQ(refusal([](auto& o) { o.latency_ns = 2'000'000'000; }), kInvalid);
  EXPECT_EQ(refusal([](auto& o) { o.memory_bytes = 0; }), kInvalid);
  EXPECT_EQ(refusal([](auto& o) { o.threads = 0; }), kInvalid);
  EXPECT_EQ(refusal([](auto& o) { o.queue_capacity = 0; }), kInvalid);
  EXPECT_EQ(refusal([](auto& o) { o.isa = "SSE9"; }), kInvalid);
}

}  // namespace
}  // namespace weir
