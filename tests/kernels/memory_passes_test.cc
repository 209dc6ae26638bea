#include "kernels/memory_passes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <vector>

#include "io/base.h"
#include "kernels/host_memory.h"
#include "kernels/isa.h"

namespace weir {
namespace {

TEST(MemoryPasses, DoWhatTheySayOnEveryInstructionSet) {
  const auto memory = MapHostMemory(8 * kKiB, 64);
  ASSERT_TRUE(memory.ok());
  const absl::Span<uint8_t> span((*memory)->data(), 8 * kKiB);
  for (const std::string& isa : SupportedIsas()) {
    ASSERT_TRUE(SelectIsa(isa).ok());
    for (const uint64_t ahead : {0, 4096}) {
      for (size_t i = 0; i < span.size(); ++i) span[i] = static_cast<uint8_t>(i * 7 + i / 256);
      const std::vector<uint8_t> before(span.begin(), span.end());
      EXPECT_EQ(RunMemoryPass(MemoryPass::kRead, span, 3, ahead), 3 * 8 * kKiB);
      EXPECT_TRUE(std::equal(span.begin(), span.end(), before.begin())) << isa;
      EXPECT_EQ(RunMemoryPass(MemoryPass::kCopy, span, 2, ahead), 2 * 8 * kKiB);
      EXPECT_TRUE(std::equal(span.begin(), span.begin() + 4 * kKiB, span.begin() + 4 * kKiB));
      EXPECT_TRUE(std::equal(span.begin(), span.begin() + 4 * kKiB, before.begin())) << isa;
      EXPECT_EQ(RunMemoryPass(MemoryPass::kWrite, span, 1, ahead), 8 * kKiB);
      EXPECT_EQ(std::set<uint8_t>(span.begin(), span.end()).size(), 1u) << isa;
    }
  }
  ASSERT_TRUE(SelectIsa("").ok());
}

TEST(MemoryPasses, LinesAreOneCycleOfAll) {
  for (const uint64_t lines : {2, 3, 64, 1000}) {
    const auto memory = MapHostMemory(64 * lines, 64);
    ASSERT_TRUE(memory.ok());
    LinkLines({(*memory)->data(), 64 * lines}, /*seed=*/lines);
    std::set<const void*> seen;
    const void* line = (*memory)->data();
    for (uint64_t i = 0; i < lines; ++i) {
      EXPECT_TRUE(seen.insert(line).second) << lines;
      line = *static_cast<const void* const*>(line);
    }
    EXPECT_EQ(line, (*memory)->data());
    // 32 at a time.
    const void* walked = (*memory)->data();
    for (int i = 0; i < 64; ++i) walked = *static_cast<const void* const*>(walked);
    EXPECT_EQ(FollowLines((*memory)->data(), 33), walked) << lines;
  }
}

TEST(MemoryPasses, AdditionsAreAllMade) {
  EXPECT_EQ(AddInTurn(64), 64u);                // 64 zeros
  EXPECT_EQ(AddInTurn(128), 128u + 64u * 64u);  // and 64 times 64
}

}  // namespace
}  // namespace weir
