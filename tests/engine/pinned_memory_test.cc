// Memory is pinned piece by piece, each once, and no copy crosses two pieces.
#include "engine/pinned_memory.h"

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/emulated_device.h"
#include "kernels/host_memory.h"

namespace weir {
namespace {

constexpr uint64_t kBlock = 20 * kMiB;

absl::StatusOr<std::unique_ptr<Device>> MakeDevice() {
  EmulatedDeviceOptions options;
  options.h2d_bytes_per_s = 1e9;
  options.memory_bytes = 1;
  return MakeEmulatedDevice(options);
}

TEST(PinnedMemoryTest, PiecesAreOfWholeBlocksAndPinnedWhenTheyAreNeeded) {
  const absl::StatusOr<std::unique_ptr<Device>> device = MakeDevice();
  ASSERT_TRUE(device.ok()) << device.status();
  const auto memory = MapHostMemory(5 * kBlock, 4096);
  ASSERT_TRUE(memory.ok()) << memory.status();
  uint8_t* const data = (*memory)->data();
  {
    // Two blocks to a piece: a third would exceed what is pinned at once.
    PinnedMemory pinned(**device, data, 5 * kBlock,
                        {0, kBlock, 2 * kBlock, 3 * kBlock, 4 * kBlock});
    EXPECT_TRUE((*device)->Pin(data, 4096).ok());  // nothing is pinned yet
    ASSERT_TRUE(pinned.Ensure(data + 3 * kBlock + 5).ok());
    EXPECT_TRUE((*device)->Pin(data, 2 * kBlock).ok());
    EXPECT_TRUE(absl::IsAlreadyExists((*device)->Pin(data + 2 * kBlock, 4096).status()));
    EXPECT_TRUE(absl::IsAlreadyExists((*device)->Pin(data + 4 * kBlock - 4096, 4096).status()));
    EXPECT_TRUE((*device)->Pin(data + 4 * kBlock, kBlock).ok());
    ASSERT_TRUE(pinned.Ensure(data + 2 * kBlock).ok());  // the same piece again
    const auto first = pinned.First();
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ(first->data(), data);
    EXPECT_EQ(first->size(), 2 * kBlock);
    ASSERT_TRUE(pinned.Ensure(data + 4 * kBlock).ok());
  }
  EXPECT_TRUE((*device)->Pin(data, 5 * kBlock).ok());  // all is given back
}

TEST(PinnedMemoryTest, WhatTheDeviceRefusesIsTold) {
  const absl::StatusOr<std::unique_ptr<Device>> device = MakeDevice();
  ASSERT_TRUE(device.ok()) << device.status();
  const auto memory = MapHostMemory(kBlock, 4096);
  ASSERT_TRUE(memory.ok()) << memory.status();
  PinnedMemory pinned(**device, (*memory)->data(), kBlock, {0});
  const auto taken = (*device)->Pin((*memory)->data() + 8192, 4096);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_FALSE(pinned.Ensure((*memory)->data()).ok());
}

}  // namespace
}  // namespace weir
