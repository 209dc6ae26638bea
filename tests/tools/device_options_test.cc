// --device and its kin: what is chosen, and what is refused with which words.
#include "tools/device_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/base.h"
#include "tools/exit_codes.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

CudaDeviceInfo Gpu(uint32_t ordinal, const char* name, uint64_t total_bytes, uint64_t free_bytes) {
  CudaDeviceInfo gpu;
  gpu.ordinal = ordinal;
  gpu.name = name;
  gpu.total_bytes = total_bytes;
  gpu.free_bytes = free_bytes;
  return gpu;
}

absl::StatusOr<std::vector<CudaDeviceInfo>> TwoGpus() {
  return std::vector<CudaDeviceInfo>{Gpu(0, "Large", 80 * kGiB, 70 * kGiB),
                                     Gpu(1, "Small", 8 * kGiB, 6 * kGiB)};
}

absl::StatusOr<std::vector<CudaDeviceInfo>> NoDriver() {
  return absl::UnavailableError("no NVIDIA driver. Install one");
}

absl::StatusOr<std::vector<CudaDeviceInfo>> BuiltWithout() {
  return absl::UnimplementedError("built without CUDA.");
}

absl::StatusOr<std::vector<CudaDeviceInfo>> MustNotBeAsked() {
  ADD_FAILURE() << "GPUs were looked for";
  return absl::InternalError("");
}

ChosenDevice Chosen(const DeviceFlags& flags, const GpuList& list, PlanFor plan = PlanFor::kAny) {
  const absl::StatusOr<ChosenDevice> chosen = ChooseDevice(flags, plan, list);
  EXPECT_TRUE(chosen.ok()) << chosen.status();
  return chosen.ok() ? *chosen : ChosenDevice();
}

// The exit code, behind a check of the message.
int Refused(const DeviceFlags& flags, const GpuList& list, PlanFor plan,
            const std::vector<std::string>& says) {
  const absl::StatusOr<ChosenDevice> chosen = ChooseDevice(flags, plan, list);
  EXPECT_FALSE(chosen.ok());
  if (chosen.ok()) return 0;
  for (const std::string& part : says) {
    EXPECT_THAT(std::string(chosen.status().message()), HasSubstr(part));
  }
  return ReportStatus(chosen.status());
}

TEST(DeviceOptions, AutoIsTheFirstGpuWithWhatItHasFree) {
  for (const char* device : {"", "auto"}) {
    const ChosenDevice chosen = Chosen({.device = device}, &TwoGpus);
    EXPECT_EQ(chosen.accelerator.kind, AcceleratorKind::kCuda);
    EXPECT_EQ(chosen.accelerator.ordinal, 0u);
    EXPECT_EQ(chosen.hbm_bytes, 70 * kGiB - kCudaMarginBytes);
    EXPECT_EQ(chosen.free_bytes, 70 * kGiB);
    EXPECT_EQ(chosen.note, "");
  }
}

TEST(DeviceOptions, AutoWithoutAGpuIsTheCpuAndSaysSo) {
  const ChosenDevice chosen = Chosen({}, &NoDriver);
  EXPECT_FALSE(chosen.accelerator.is_used());
  EXPECT_FALSE(chosen.hbm_bytes.has_value());
  EXPECT_EQ(chosen.note, "the CPU computes: no NVIDIA driver. Install one");
}

TEST(DeviceOptions, ABuildWithoutCudaSaysSoOnlyWhenAsked) {
  EXPECT_EQ(Chosen({}, &BuiltWithout).note, "");
  EXPECT_EQ(Chosen({.device = "auto"}, &BuiltWithout).note, "the CPU computes: built without CUDA");
}

TEST(DeviceOptions, TheCpuLooksForNoGpu) {
  EXPECT_FALSE(Chosen({.device = "cpu"}, &MustNotBeAsked).accelerator.is_used());
}

TEST(DeviceOptions, AGpuByNumber) {
  const ChosenDevice chosen = Chosen({.device = "cuda:1", .hbm = "5GiB"}, &TwoGpus);
  EXPECT_EQ(chosen.accelerator.ordinal, 1u);
  EXPECT_EQ(chosen.hbm_bytes, 5 * kGiB);
  EXPECT_EQ(Refused({.device = "cuda:2"}, &TwoGpus, PlanFor::kAny,
                    {"cuda:2", "cuda:0 (Large)", "cuda:1 (Small)"}),
            8);
  EXPECT_EQ(Refused({.device = "cuda:0"}, &NoDriver, PlanFor::kAny, {"cuda:0", "no NVIDIA driver"}),
            8);
  EXPECT_EQ(Refused({.device = "cuda:0"}, &BuiltWithout, PlanFor::kAny, {"built without CUDA"}), 8);
}

TEST(DeviceOptions, MoreMemoryThanIsFreeIsRefusedWithFigures) {
  EXPECT_EQ(Refused({.device = "cuda:1", .hbm = "7GiB"}, &TwoGpus, PlanFor::kAny,
                    {"--hbm", "7.0 GiB", "6.0 GiB of 8.0 GiB", "at most 5.5 GiB"}),
            4);
}

TEST(DeviceOptions, AnEmulatedLinkHasDefaultsAndIsWhatWasAsked) {
  const ChosenDevice standard = Chosen({.device = "emulated"}, &MustNotBeAsked);
  EXPECT_TRUE(standard.is_emulated());
  EXPECT_EQ(standard.accelerator.h2d_bytes_per_s, 26e9);
  EXPECT_EQ(standard.accelerator.d2h_bytes_per_s, 26e9);
  EXPECT_EQ(standard.accelerator.latency_ns, 10'000);
  EXPECT_FALSE(standard.hbm_bytes.has_value()) << "half of --dram, which is not known here";
  const ChosenDevice slow = Chosen({.device = "emulated",
                                    .hbm = "100MiB",
                                    .link_h2d = "2GB/s",
                                    .link_latency = "1ms",
                                    .in_place = "off"},
                                   &MustNotBeAsked);
  EXPECT_EQ(slow.hbm_bytes, 100 * kMiB);
  EXPECT_EQ(slow.accelerator.h2d_bytes_per_s, 2e9);
  EXPECT_EQ(slow.accelerator.d2h_bytes_per_s, 2e9) << "as the other way";
  EXPECT_EQ(slow.accelerator.latency_ns, 1'000'000);
  EXPECT_EQ(slow.in_place, InPlace::kOff);
  const ChosenDevice uneven =
      Chosen({.device = "emulated", .link_d2h = "1GB/s", .in_place = "on"}, &MustNotBeAsked);
  EXPECT_EQ(uneven.accelerator.h2d_bytes_per_s, 26e9);
  EXPECT_EQ(uneven.accelerator.d2h_bytes_per_s, 1e9);
  EXPECT_EQ(uneven.in_place, InPlace::kOn);
}

TEST(DeviceOptions, ValuesThatMeanNothingAreRefusedByName) {
  for (const char* device : {"gpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999",
                             "CPU", "emulated:0", " cpu"}) {
    EXPECT_EQ(
        Refused({.device = device}, &MustNotBeAsked, PlanFor::kAny, {"--device", device, "cuda:N"}),
        2);
  }
  const auto refused = [](const DeviceFlags& flags, const std::vector<std::string>& says) {
    EXPECT_EQ(Refused(flags, &MustNotBeAsked, PlanFor::kAny, says), 2);
  };
  refused({.device = "emulated", .hbm = "lots"}, {"--hbm", "lots"});
  refused({.device = "emulated", .link_h2d = "2GB"}, {"--link-h2d", "2GB"});
  refused({.device = "emulated", .link_h2d = "0GB/s"}, {"--link-h2d"});
  refused({.device = "emulated", .link_d2h = "fast"}, {"--link-d2h", "fast"});
  refused({.device = "emulated", .link_latency = "10"}, {"--link-latency", "10"});
  refused({.device = "emulated", .link_latency = "2s"}, {"--link-latency", "at most 1"});
  refused({.device = "emulated", .in_place = "maybe"}, {"--in-place", "maybe", "auto, on, off"});
  refused({.device = "cuda:0", .cuda_graph = "maybe"}, {"--cuda-graph", "maybe", "on nor off"});
}

TEST(DeviceOptions, WhatTheDeviceDoesNotHaveIsRefused) {
  const auto refused = [](const DeviceFlags& flags, const GpuList& list, int code,
                          const std::vector<std::string>& says) {
    EXPECT_EQ(Refused(flags, list, PlanFor::kAny, says), code);
  };
  refused({.device = "cpu", .hbm = "1GiB"}, &MustNotBeAsked, 2, {"--hbm", "--device emulated"});
  refused({.device = "cpu", .in_place = "off"}, &MustNotBeAsked, 2, {"--in-place"});
  refused({.device = "cpu", .cuda_graph = "on"}, &MustNotBeAsked, 2, {"--cuda-graph", "cuda:N"});
  refused({.device = "emulated", .cuda_graph = "off"}, &MustNotBeAsked, 2, {"--cuda-graph"});
  for (const char* device : {"", "auto", "cpu", "cuda:0"}) {
    refused({.device = device, .link_h2d = "1GB/s", .link_latency = "1us"}, &MustNotBeAsked, 2,
            {"--link-h2d, --link-latency", "--device emulated"});
  }
  // The CPU was not asked for, so that this is about the device.
  refused({.hbm = "1GiB"}, &NoDriver, 8, {"--hbm", "no NVIDIA driver"});
  refused({.in_place = "on"}, &BuiltWithout, 8, {"--in-place", "built without CUDA"});
  refused({.cuda_graph = "off"}, &BuiltWithout, 8, {"--cuda-graph", "built without CUDA"});
}

TEST(DeviceOptions, ASavedPlanDecidesWhatAutoIs) {
  EXPECT_FALSE(Chosen({}, &MustNotBeAsked, PlanFor::kCpu).accelerator.is_used());
  EXPECT_TRUE(Chosen({}, &TwoGpus, PlanFor::kAccelerator).accelerator.is_used());
  EXPECT_EQ(Refused({}, &NoDriver, PlanFor::kAccelerator,
                    {"--plan", "no NVIDIA driver", "--device emulated"}),
            8);
}

TEST(DeviceOptions, ADeviceThatThePlanIsNotForIsRefused) {
  EXPECT_EQ(Refused({.device = "cpu"}, &MustNotBeAsked, PlanFor::kAccelerator,
                    {"--plan, --device", "for an accelerator", "--device cpu --json"}),
            2);
  for (const char* device : {"emulated", "cuda:0"}) {
    EXPECT_EQ(Refused({.device = device}, &MustNotBeAsked, PlanFor::kCpu,
                      {"--plan, --device", "for the CPU", device}),
              2);
    EXPECT_TRUE(Chosen({.device = device}, &TwoGpus, PlanFor::kAccelerator).accelerator.is_used());
  }
  EXPECT_EQ(Refused({.device = "emulated", .hbm = "1GiB"}, &MustNotBeAsked, PlanFor::kAccelerator,
                    {"--plan, --hbm"}),
            2);
}

}  // namespace
}  // namespace weir
