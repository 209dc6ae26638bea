#include "engine/device_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/cuda_device.h"
#include "kernels/emulated_device.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

class DeviceProbe : public ::testing::Test {
 protected:
  void SetUp() override {
    CpuDeviceOptions options;
    options.threads = 2;
    auto device = MakeCpuDevice(options);
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    stream_ = device_->NewCopyStream();
    probe_.bytes = 4096;
    probe_.limit_ns = 1'000'000;
    for (size_t i = 0; i < host_.size(); ++i) host_[i] = static_cast<uint8_t>(i * 7 + i / 256);
  }
  CopyMemory memory() { return {absl::MakeSpan(host_), absl::MakeSpan(far_)}; }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  // The CPU device's memory is ordinary memory, so a test can look at it.
  std::vector<uint8_t> host_ = std::vector<uint8_t>(64 * kKiB);
  std::vector<uint8_t> far_ = std::vector<uint8_t>(64 * kKiB);
  CopyProbe probe_;
};

TEST_F(DeviceProbe, CopiesGoThroughAllOfTheMemoryBothWays) {
  for (const CopyMode mode : {CopyMode::kOneAtATime, CopyMode::kQueued}) {
    for (const CopyDirection direction : {CopyDirection::kToDevice, CopyDirection::kToHost}) {
      probe_.mode = mode;
      probe_.direction = direction;
      probe_.bytes = 16 * kKiB;  // at least four copies are made: all of the memory
      std::vector<uint8_t>& source = direction == CopyDirection::kToDevice ? host_ : far_;
      std::vector<uint8_t>& target = direction == CopyDirection::kToDevice ? far_ : host_;
      for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint8_t>(i * 7 + i / 256);
      std::fill(target.begin(), target.end(), uint8_t{0});
      const auto rate = ProbeCopies(*stream_, memory(), probe_);
      ASSERT_TRUE(rate.ok()) << rate.status();
      EXPECT_EQ(host_, far_);
      EXPECT_GE(rate->copies, 4u);
      EXPECT_EQ(rate->bytes, rate->copies * 16 * kKiB);
      EXPECT_NEAR(rate->bytes_per_s * rate->seconds, static_cast<double>(rate->bytes), 1);
    }
  }
}

TEST_F(DeviceProbe, AnOddSizeStaysWithinTheMemory) {
  probe_.bytes = 24 * kKiB + 1;  // two fit, the third begins again
  const auto rate = ProbeCopies(*stream_, memory(), probe_);
  ASSERT_TRUE(rate.ok()) << rate.status();
  const size_t reached = 2 * (24 * kKiB + 1);
  EXPECT_TRUE(std::equal(host_.begin(), host_.begin() + reached, far_.begin()));
  EXPECT_EQ(far_[reached], 0) << "behind the last whole copy";
}

TEST_F(DeviceProbe, BothWaysCountsBoth) {
  const auto back = device_->NewCopyStream();
  std::vector<uint8_t> source(64 * kKiB, 9);
  std::vector<uint8_t> target(64 * kKiB, 0);
  const auto rate =
      ProbeBothWays(*stream_, memory(), *back, {absl::MakeSpan(target), absl::MakeSpan(source)},
                    16 * kKiB, 1'000'000);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_EQ(host_, far_);
  EXPECT_EQ(source, target);
  EXPECT_GE(rate->copies, 8u);
  EXPECT_EQ(rate->bytes, rate->copies * 16 * kKiB);
}

TEST_F(DeviceProbe, CopiesThatDoNotFitAreRefused) {
  for (const uint64_t bytes : {uint64_t{0}, 64 * kKiB + 1}) {
    probe_.bytes = bytes;
    const absl::Status status = ProbeCopies(*stream_, memory(), probe_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(bytes)));
    EXPECT_FALSE(ProbeBothWays(*stream_, memory(), *stream_, memory(), bytes, 1).ok());
  }
}

TEST_F(DeviceProbe, PinningIsPartedIntoItsSteps) {
  for (const bool touch : {true, false}) {
    const auto cost = ProbePinning(*device_, 5 * kMiB, touch, 3);
    ASSERT_TRUE(cost.ok()) << cost.status();
    EXPECT_EQ(cost->bytes, 5 * kMiB);
    EXPECT_EQ(cost->is_touched, touch);
    EXPECT_GT(cost->pin_s, 0);
    if (touch) {
      EXPECT_GT(cost->touch_s, 0);
    }
  }
  EXPECT_FALSE(ProbePinning(*device_, 0, true, 1).ok());
  EXPECT_FALSE(ProbePinning(*device_, kMiB, true, 0).ok());
}

DeviceProbeOptions SmallOptions() {
  DeviceProbeOptions options;
  options.copy_bytes = {4 * kKiB, 64 * kKiB};
  options.pageable_bytes = {64 * kKiB};
  options.both_ways_bytes = 64 * kKiB;
  options.memory_bytes = kMiB;
  options.pin_bytes = kMiB;
  options.threads = 2;
  options.limit_ns = 20'000'000;
  options.rounds = 3;
  return options;
}

TEST_F(DeviceProbe, EverythingIsMeasuredInEveryRound) {
  std::vector<double> shares;
  const auto result = ProbeDevice(*device_, SmallOptions(), [&](double share) {
    shares.push_back(share);
    return true;
  });
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->copies.size(), 2u * 2 * 2 + 2);
  EXPECT_EQ(shares.size(), 3u * (10 + 2 + 2));
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_DOUBLE_EQ(shares.back(), 1);
  std::vector<RateSpread> rates = {result->both_ways, result->dram_read};
  int pageable = 0;
  for (const CopyCell& cell : result->copies) {
    rates.push_back(cell.rate);
    pageable += !cell.is_pinned;
  }
  EXPECT_EQ(pageable, 2);
  EXPECT_EQ(CopyModeName(result->copies[0].probe.mode), "single");
  EXPECT_EQ(CopyDirectionName(result->copies[1].probe.direction), "d2h");
  for (const RateSpread& rate : rates) {
    EXPECT_GT(rate.low_bytes_per_s, 0);
    EXPECT_LE(rate.low_bytes_per_s, rate.median_bytes_per_s);
    EXPECT_LE(rate.median_bytes_per_s, rate.high_bytes_per_s);
  }
  ASSERT_EQ(result->pinning.size(), 2u);
  EXPECT_TRUE(result->pinning[0].is_touched);
  EXPECT_FALSE(result->pinning[1].is_touched);
}

TEST_F(DeviceProbe, StopsWhenTold) {
  int calls = 0;
  const auto result = ProbeDevice(*device_, SmallOptions(), [&](double) { return ++calls < 5; });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(calls, 5);
}

TEST_F(DeviceProbe, Refusals) {
  for (int i = 0; i < 6; ++i) {
    DeviceProbeOptions options = SmallOptions();
    if (i == 0) options.copy_bytes.push_back(0);
    if (i == 1) options.pageable_bytes = {2 * kMiB};
    if (i == 2) options.both_ways_bytes = 0;
    if (i == 3) options.rounds = 0;
    if (i == 4) options.threads = 0;
    if (i == 5) options.limit_ns = 0;
    EXPECT_EQ(ProbeDevice(*device_, options, nullptr).status().code(),
              absl::StatusCode::kInvalidArgument)
        << i;
  }
}

TEST_F(DeviceProbe, OnlyMemoryOfItsOwnIsRead) {
  EXPECT_EQ(ProbeDeviceRead(*device_, kMiB, 1).status().code(), absl::StatusCode::kUnimplemented);
  const auto result = ProbeDevice(*device_, SmallOptions(), nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->device_read.has_value());
}

// On a real one.
TEST(DeviceProbeGpu, ReadsAndCopies) {
  const auto device = MakeCudaDevice(CudaDeviceOptions());
  if (!device.ok()) GTEST_SKIP() << device.status();
  DeviceProbeOptions options = SmallOptions();
  options.device_read_bytes = 256 * kMiB;
  const auto result = ProbeDevice(**device, options, nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_TRUE(result->device_read.has_value());
  EXPECT_GT(result->device_read->low_bytes_per_s, 0);
  EXPECT_GT(result->launch_s, 0);
}

TEST_F(DeviceProbe, MemoryThatIsNotThereIsAnError) {
  DeviceProbeOptions options = SmallOptions();
  options.memory_bytes = uint64_t{1} << 50;
  EXPECT_EQ(ProbeDevice(*device_, options, nullptr).status().code(),
            absl::StatusCode::kResourceExhausted);
}

// The emulated link is never faster than it is said to be.
TEST(EmulatedDeviceProbe, CopiesKeepToTheLink) {
  EmulatedDeviceOptions emulated;
  emulated.threads = 1;
  emulated.h2d_bytes_per_s = 1e9;
  emulated.d2h_bytes_per_s = 0.5e9;
  emulated.latency_ns = 200'000;
  emulated.memory_bytes = 16 * kMiB;
  const auto device = MakeEmulatedDevice(emulated);
  ASSERT_TRUE(device.ok()) << device.status();
  const auto result = ProbeDevice(**device, SmallOptions(), nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  for (const CopyCell& cell : result->copies) {
    const bool in = cell.probe.direction == CopyDirection::kToDevice;
    const double rate = in ? emulated.h2d_bytes_per_s : emulated.d2h_bytes_per_s;
    double copy_s = static_cast<double>(cell.probe.bytes) / rate;
    if (cell.probe.mode == CopyMode::kOneAtATime) copy_s += 200e-6;
    EXPECT_LE(cell.rate.high_bytes_per_s, 1.001 * static_cast<double>(cell.probe.bytes) / copy_s);
  }
  EXPECT_LE(result->both_ways.high_bytes_per_s, 1.001 * 1e9);  // as many copies back as there
}

}  // namespace
}  // namespace weir
