// The host grid itself: what kernels may rely on, and that it reports what the device would not
// forgive. Compiled only where it exists (not with the thread sanitizer).
#ifdef WEIR_HOST_GRID  // by tests/CMakeLists.txt
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "io/base.h"
#include "kernels/cuda_intrinsics.h"
#include "tests/kernels/host_grid/fibers.h"
#include "tests/kernels/reference_helper.h"

namespace weir::host_grid {
namespace {

LaunchShape Shape(uint32_t blocks, uint32_t threads, uint32_t shared_bytes = 0) {
  LaunchShape shape;
  shape.blocks_x = blocks;
  shape.threads = threads;
  shape.shared_bytes = shared_bytes;
  return shape;
}

TEST(HostGridTest, EveryThreadOfEveryBlockRunsOnce) {
  LaunchShape shape = Shape(3, 96);
  shape.blocks_y = 2;
  std::vector<int> ran(3 * 2 * 96);
  RunGrid(shape, [&] {
    EXPECT_EQ(BlockCountX(), 3u);
    EXPECT_EQ(BlockCountY(), 2u);
    EXPECT_EQ(ThreadCount(), 96u);
    EXPECT_EQ(WarpIndex() * 32 + LaneIndex(), ThreadIndex());
    ++ran[(BlockY() * 3 + BlockX()) * 96 + ThreadIndex()];
  });
  EXPECT_EQ(ran, std::vector<int>(ran.size(), 1));
}

// Rounds of neighbours' numbers through shared memory, which go wrong if any thread runs ahead.
TEST(HostGridTest, BarriersOrderTheBlock) {
  constexpr uint32_t kThreads = 1024;
  std::vector<uint32_t> result(kThreads);
  RunGrid(Shape(1, kThreads, 4 * kThreads), [&] {
    auto* const shared = reinterpret_cast<uint32_t*>(DynamicShared());
    uint32_t value = ThreadIndex();
    for (int round = 0; round < 5; ++round) {
      shared[ThreadIndex()] = value;
      SyncBlock();
      value += shared[(ThreadIndex() + 1) % kThreads];
      SyncBlock();
    }
    result[ThreadIndex()] = value;
  });
  std::vector<uint32_t> want(kThreads), next(kThreads);
  for (uint32_t i = 0; i < kThreads; ++i) want[i] = i;
  for (int round = 0; round < 5; ++round) {
    for (uint32_t i = 0; i < kThreads; ++i) next[i] = want[i] + want[(i + 1) % kThreads];
    want.swap(next);
  }
  EXPECT_EQ(result, want);
}

TEST(HostGridTest, WarpsExchange) {
  int checked = 0;
  RunGrid(Shape(2, 64), [&] {
    const uint32_t lane = LaneIndex();
    for (uint32_t mask = 1; mask < 32; ++mask) {
      EXPECT_EQ(ShuffleXor(ThreadIndex(), mask), ThreadIndex() ^ mask);
    }
    EXPECT_EQ(ShuffleFrom(static_cast<float>(lane), 7), 7.0f);
    EXPECT_EQ(WarpSum(static_cast<float>(lane)), 496.0f);
    EXPECT_EQ(WarpMax(static_cast<float>(lane) - 40.0f), -9.0f);
    EXPECT_EQ(AnyInWarp(ThreadIndex() == 40), WarpIndex() == 1);
    EXPECT_FALSE(AnyInWarp(false));
    ++checked;
  });
  EXPECT_EQ(checked, 128);
}

// [16, 8] = [16, 16] * [16, 8] of small integers, exact, with A read by LoadMatrices and B, stored
// [k, n], by the transposed one.
TEST(HostGridTest, MatrixProduct) {
  std::vector<float> result(16 * 8);
  const auto a = [](uint32_t m, uint32_t k) { return static_cast<float>(m) - 3.0f * k; };
  const auto b = [](uint32_t k, uint32_t n) { return static_cast<float>(k * n % 7) - 2.0f; };
  RunGrid(Shape(1, 32, 2 * (16 * 16 + 16 * 8)), [&] {
    auto* const a_tile = reinterpret_cast<uint16_t*>(DynamicShared());
    uint16_t* const b_tile = a_tile + 16 * 16;
    const uint32_t lane = LaneIndex();
    for (uint32_t i = lane; i < 256; i += 32) a_tile[i] = FloatToHalf(a(i / 16, i % 16));
    for (uint32_t i = lane; i < 128; i += 32) b_tile[i] = FloatToHalf(b(i / 8, i % 8));
    SyncWarp();
    uint32_t a_part[4], b_part[4];
    // Matrices: rows 0..7 and 8..15 of columns 0..7, then the same of columns 8..15.
    LoadMatrices(a_part, a_tile + lane % 16 * 16 + lane / 16 * 8);
    LoadMatricesTransposed(b_part, b_tile + lane % 16 * 8);
    float d[4] = {100, 0, 0, 0};
    MatrixProduct(d, a_part, {b_part[0], b_part[1]});
    const uint32_t g = lane / 4, t = lane % 4;
    result[g * 8 + 2 * t] = d[0] - 100;
    result[g * 8 + 2 * t + 1] = d[1];
    result[(g + 8) * 8 + 2 * t] = d[2];
    result[(g + 8) * 8 + 2 * t + 1] = d[3];
  });
  for (uint32_t m = 0; m < 16; ++m) {
    for (uint32_t n = 0; n < 8; ++n) {
      float want = 0;
      for (uint32_t k = 0; k < 16; ++k) want += a(m, k) * b(k, n);
      EXPECT_EQ(result[m * 8 + n], want) << m << " " << n;
    }
  }
}

TEST(HostGridTest, AsynchronousCopiesComeInOrder) {
  alignas(16) static uint32_t from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  RunGrid(Shape(1, 32, 32 * 32), [&] {
    auto* const mine = reinterpret_cast<uint32_t*>(DynamicShared() + 32 * LaneIndex());
    mine[0] = mine[4] = 99;
    CopyAsync16(mine, from, 16);
    CommitCopies();
    CopyAsync16(mine + 4, from + 4, 4);
    CommitCopies();
    EXPECT_EQ(mine[0], 99u);
    WaitForCopies<1>();
    EXPECT_EQ(mine[3], 4u);
    EXPECT_EQ(mine[4], 99u);
    WaitForCopies<0>();
    EXPECT_EQ(mine[4], 5u);
    EXPECT_EQ(mine[5], 0u);  // beyond the bytes that count
  });
}

TEST(HostGridTest, HalvesOfAllBitPatterns) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const double want = ReferenceHalf(half);
    const float got = HalfToFloat(half);
    if (std::isnan(want)) {
      EXPECT_TRUE(std::isnan(got));
      continue;
    }
    ASSERT_EQ(got, want) << bits;
    ASSERT_EQ(FloatToHalf(got), half);
    if (half >= 0x7BFF) continue;  // positive and finite, and so is the next
    const auto next = static_cast<float>(ReferenceHalf(static_cast<uint16_t>(bits + 1)));
    const float middle = (got + next) / 2;
    ASSERT_EQ(FloatToHalf(middle), half + half % 2) << "ties go to even";
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 0.0f)), half);
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 1e9f)), half + 1);
  }
  EXPECT_EQ(FloatToHalf(65519.0f), 0x7BFF);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7C00);
  EXPECT_EQ(FloatToHalf(-1e30f), 0xFC00);
}

TEST(HostGridTest, IntegerInstructions) {
  EXPECT_EQ(Dp4a(0x80FF017F, 0x80FF0302, 5), 5 + 128 * 128 + 1 + 3 + 254);
  EXPECT_EQ(FunnelShiftRight(0x44332211, 0x88776655, 8), 0x55443322u);
  EXPECT_EQ(FunnelShiftRight(0x44332211, 0x88776655, 32), 0x44332211u);
  EXPECT_EQ(BytePermute(0x44332211, 0x88776655, 0x7410), 0x88552211u);
  EXPECT_EQ(RoundToInt(2.5f), 2);
  EXPECT_EQ(RoundToInt(-3.5f), -4);
}

using HostGridDeathTest = testing::Test;

TEST(HostGridDeathTest, ThreadThatMissesABarrier) {
  EXPECT_DEATH(RunGrid(Shape(1, 64),
                       [] {
                         if (ThreadIndex() != 5) SyncBlock();
                       }),
               "waits at a barrier and others have ended");
}

TEST(HostGridDeathTest, LaneThatMissesACollective) {
  EXPECT_DEATH(RunGrid(Shape(1, 32),
                       [] {
                         if (LaneIndex() < 31) WarpSum(1.0f);
                       }),
               "collective that others of its warp missed");
  EXPECT_DEATH(RunGrid(Shape(1, 32),
                       [] {
                         if (LaneIndex() < 31) SyncWarp();
                         SyncBlock();
                       }),
               "collective that others of its warp missed");
}

TEST(HostGridDeathTest, LanesInDifferentCollectives) {
  EXPECT_DEATH(RunGrid(Shape(1, 32),
                       [] {
                         if (LaneIndex() < 16) {
                           SyncWarp();
                         } else {
                           AnyInWarp(true);
                         }
                       }),
               "different collectives");
}

TEST(HostGridDeathTest, MisalignedLoad) {
  static Words4 words[2];
  EXPECT_DEATH(RunGrid(Shape(1, 32),
                       [] {
                         const auto* bytes = reinterpret_cast<const uint8_t*>(words);
                         LoadCached(reinterpret_cast<const Words4*>(bytes + 8));
                       }),
               "alignment");
}

TEST(HostGridDeathTest, CopiesNeverWaitedFor) {
  static Words4 from;
  EXPECT_DEATH(RunGrid(Shape(1, 32, 16),
                       [] {
                         CopyAsync16(DynamicShared(), &from, 16);
                         CommitCopies();
                       }),
               "copies not waited for");
}

TEST(HostGridDeathTest, EarlyThreadThatDoesNotWait) {
  LaunchShape shape = Shape(1, 32);
  shape.early = true;
  RunGrid(shape, [] { WaitForPrevious(); });
  EXPECT_DEATH(RunGrid(shape,
                       [] {
                         if (ThreadIndex() > 0) WaitForPrevious();
                       }),
               "did not wait");
}

TEST(HostGridDeathTest, BeyondSharedMemory) {
  // The address sanitizer says so at the store.
  EXPECT_DEATH(RunGrid(Shape(1, 32, 64), [] { DynamicShared()[64 + ThreadIndex()] = 1; }),
               "shared memory|AddressSanitizer");
}

}  // namespace
}  // namespace weir::host_grid
#endif  // WEIR_HOST_GRID
