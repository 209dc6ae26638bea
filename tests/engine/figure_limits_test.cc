#include "engine/figure_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/base.h"
#include "tests/io/fake_root_helper.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

RateSpread Rate(double low_gb, double median_gb, double high_gb) {
  return {median_gb * 1e9, low_gb * 1e9, high_gb * 1e9};
}

TEST(FigureLimits, ALevelGivesNoMoreThanTheNearerOne) {
  const RateSpread nearer = Rate(90, 100, 110);
  EXPECT_EQ(RefuseBeyondNearer("read", Rate(20, 30, 40), "L2", nearer), "");
  EXPECT_EQ(RefuseBeyondNearer("read", Rate(100, 150, 200), "L2", nearer), "")
      << "the slowest round is within what the nearer one gave at best";
  EXPECT_EQ(RefuseBeyondNearer("read", Rate(120, 120, 120), "L2", nearer), "") << "noise";
  const std::string why = RefuseBeyondNearer("read", Rate(122, 130, 140), "L2", nearer);
  EXPECT_THAT(why, HasSubstr("read refused: 130.00 GB/s, but L2"));
  EXPECT_THAT(why, HasSubstr("100.00"));
  EXPECT_EQ(RefuseBeyondNearer("read", Rate(122, 130, 140), "L2", {}), "") << "not known";
}

TEST(FigureLimits, DirectReadsAreWhatTheKernelCounted) {
  EXPECT_EQ(RefuseByKernelCount(100 * kMiB, 100 * kMiB), "");
  EXPECT_EQ(RefuseByKernelCount(100 * kMiB, 98 * kMiB), "");
  EXPECT_EQ(RefuseByKernelCount(100 * kMiB, 102 * kMiB), "");
  EXPECT_EQ(RefuseByKernelCount(100 * kMiB, std::nullopt), "") << "nothing known against it";
  EXPECT_THAT(RefuseByKernelCount(100 * kMiB, 97 * kMiB), HasSubstr("a cache answered"));
  EXPECT_THAT(RefuseByKernelCount(100 * kMiB, 0), HasSubstr("counted 0 bytes"));
  EXPECT_THAT(RefuseByKernelCount(100 * kMiB, 103 * kMiB), HasSubstr("refused"));
  // A few pages of others mean nothing beside few reads, and much beside many.
  EXPECT_EQ(RefuseByKernelCount(4 * kKiB, 4 * kKiB + 64 * kKiB), "");
  EXPECT_NE(RefuseByKernelCount(4 * kKiB, 4 * kKiB + 65 * kKiB), "");
}

TEST(FigureLimits, ColdIsColdAndHotIsHot) {
  EXPECT_EQ(RefuseCold(kGiB, kGiB, 0), "");
  EXPECT_EQ(RefuseCold(kGiB, 2 * kGiB, 0.005), "") << "the kernel reads ahead";
  EXPECT_EQ(RefuseCold(kGiB, std::nullopt, 0), "");
  EXPECT_THAT(RefuseCold(kGiB, kGiB, 0.5), HasSubstr("50 %"));
  EXPECT_THAT(RefuseCold(kGiB, kGiB / 2, 0), HasSubstr("not cold"));
  EXPECT_EQ(RefuseHot(kGiB, 0, 1), "");
  EXPECT_EQ(RefuseHot(kGiB, kMiB, 0.995), "");
  EXPECT_THAT(RefuseHot(kGiB, kGiB / 10, 1), HasSubstr("not hot"));
  EXPECT_THAT(RefuseHot(kGiB, 0, 0.7), HasSubstr("70 %"));
}

TEST(FigureLimits, PcieByGenerationAndLanes) {
  // What is commonly printed: 0.25, 0.5, 0.985, 1.97, 3.94 GB/s a lane.
  EXPECT_NEAR(PcieBytesPerS({2.5, 1}), 0.25e9, 1e6);
  EXPECT_NEAR(PcieBytesPerS({5, 1}), 0.5e9, 1e6);
  EXPECT_NEAR(PcieBytesPerS({8, 16}), 15.75e9, 1e7);
  EXPECT_NEAR(PcieBytesPerS({16, 16}), 31.5e9, 1e7);
  EXPECT_NEAR(PcieBytesPerS({32, 16}), 63.0e9, 1e8);
  EXPECT_NEAR(PcieBytesPerS({64, 16}), 121.0e9, 1e8);
  EXPECT_EQ(PcieText({2.5, 4}), "PCIe 1.0 x4");
  EXPECT_EQ(PcieText({5, 1}), "PCIe 2.0 x1");
  EXPECT_EQ(PcieText({8, 8}), "PCIe 3.0 x8");
  EXPECT_EQ(PcieText({16, 16}), "PCIe 4.0 x16");
  EXPECT_EQ(PcieText({64, 16}), "PCIe 6.0 x16");
  const PcieLink link = {16, 16};
  EXPECT_EQ(RefuseBeyondLink(31e9, link), "");
  EXPECT_EQ(RefuseBeyondLink(60e9, link, 2), "");
  EXPECT_THAT(RefuseBeyondLink(32e9, link), HasSubstr("PCIe 4.0 x16 carries 31.51"));
  EXPECT_THAT(RefuseBeyondLink(64e9, link, 2), HasSubstr("both ways"));
  EXPECT_EQ(RefuseBeyondLink(1e15, std::nullopt), "");
}

TEST(FigureLimits, LinksAreReadWhereTheKernelTells) {
  FakeRoot root;
  const std::string gpu = "/sys/bus/pci/devices/0000:1b:00.0";
  root.Write(gpu + "/max_link_speed", "32.0 GT/s PCIe\n");
  root.Write(gpu + "/current_link_speed", "2.5 GT/s PCIe\n");  // asleep
  root.Write(gpu + "/current_link_width", "8\n");
  const auto link = GpuLink("0000:1B:00.0", root.path());
  ASSERT_TRUE(link.has_value());
  EXPECT_EQ(link->gt_per_s, 32);
  EXPECT_EQ(link->lanes, 8u);
  EXPECT_FALSE(GpuLink("0000:1c:00.0", root.path()).has_value());
  root.Write(gpu + "/max_link_speed", "Unknown\n");
  EXPECT_FALSE(GpuLink("0000:1b:00.0", root.path()).has_value());
  root.Write(gpu + "/max_link_speed", "16.0 GT/s PCIe\n");
  for (const char* const lanes : {"0\n", "255\n", "many\n"}) {
    root.Write(gpu + "/current_link_width", lanes);
    EXPECT_FALSE(GpuLink("0000:1b:00.0", root.path()).has_value()) << lanes;
  }
}

TEST(FigureLimits, ADisksLinkIsItsControllers) {
  FakeRoot root;
  const std::string pci = "/sys/devices/pci0/0000:02:00.0";
  root.Write(pci + "/max_link_speed", "16.0 GT/s PCIe\n");
  root.Write(pci + "/current_link_width", "4\n");
  root.MakeFolder(pci + "/nvme/nvme0/nvme0n1/nvme0n1p2");
  root.Link(pci + "/nvme/nvme0/device", "../..");
  root.Link(pci + "/nvme/nvme0/nvme0n1/device", "..");
  root.Link("/sys/dev/block/259:0", "../../devices/pci0/0000:02:00.0/nvme/nvme0/nvme0n1");
  root.Link("/sys/dev/block/259:2", "../../devices/pci0/0000:02:00.0/nvme/nvme0/nvme0n1/nvme0n1p2");
  for (const char* const device : {"259:0", "259:2"}) {
    const auto link = DiskLink(device, root.path());
    ASSERT_TRUE(link.has_value()) << device;
    EXPECT_EQ(link->lanes, 4u);
  }
  EXPECT_FALSE(DiskLink("8:0", root.path()).has_value());
}

}  // namespace
}  // namespace weir
