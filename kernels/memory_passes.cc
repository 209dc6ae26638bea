#include "kernels/memory_passes.h"

#include <numeric>
#include <random>
#include <utility>
#include <vector>

#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/memory_passes.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "io/base.h"
#include "kernels/targets.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

#if WEIR_IS_KERNEL_TARGET

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<uint8_t>;
using Vec = hn::Vec<Tag>;
constexpr uint64_t kVectorBytes = hn::MaxLanes(Tag());
constexpr uint64_t kStep = 512;  // between two looks at the loop's end
constexpr uint32_t kLines = kStep / 64;

HWY_INLINE void AskAhead(const uint8_t* at, uint64_t ahead_bytes) {
  for (uint32_t line = 0; line < kLines; ++line) {
    __builtin_prefetch(at + ahead_bytes + uint64_t{64} * line, /*write=*/0, /*locality=*/1);
  }
}

// The compiler must take the loads for used.
HWY_INLINE void Use(const Vec& value) { asm volatile("" : : "x"(value.raw)); }

void ReadAll(const uint8_t* from, uint64_t bytes, uint64_t ahead_bytes) {
  for (uint64_t at = 0; at < bytes; at += kStep) {
    if (ahead_bytes != 0) AskAhead(from + at, ahead_bytes);
    for (uint64_t i = 0; i < kStep; i += kVectorBytes) Use(hn::Load(Tag(), from + at + i));
  }
}

void WriteAll(uint8_t* to, uint64_t bytes, uint64_t ahead_bytes) {
  const Vec value = hn::Set(Tag(), 0x5a);
  for (uint64_t at = 0; at < bytes; at += kStep) {
    if (ahead_bytes != 0) AskAhead(to + at, ahead_bytes);
    for (uint64_t i = 0; i < kStep; i += kVectorBytes) hn::Store(value, Tag(), to + at + i);
  }
}

void CopyAll(const uint8_t* from, uint8_t* to, uint64_t bytes, uint64_t ahead_bytes) {
  for (uint64_t at = 0; at < bytes; at += kStep) {
    if (ahead_bytes != 0) {
      AskAhead(from + at, ahead_bytes);
      AskAhead(to + at, ahead_bytes);
    }
    for (uint64_t i = 0; i < kStep; i += kVectorBytes) {
      hn::Store(hn::Load(Tag(), from + at + i), Tag(), to + at + i);
    }
  }
}

#endif  // WEIR_IS_KERNEL_TARGET

void RunPass(MemoryPass pass, uint8_t* memory, uint64_t bytes, uint64_t ahead_bytes) {
#if WEIR_IS_KERNEL_TARGET
  switch (pass) {
    case MemoryPass::kRead:
      return ReadAll(memory, bytes, ahead_bytes);
    case MemoryPass::kWrite:
      return WriteAll(memory, bytes, ahead_bytes);
    case MemoryPass::kCopy:
      return CopyAll(memory, memory + bytes / 2, bytes / 2, ahead_bytes);
  }
#else
  (void)pass, (void)memory, (void)bytes, (void)ahead_bytes;
  WEIR_CHECK(false && "the CPU lacks AVX2");
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {

HWY_EXPORT(RunPass);

uint64_t RunMemoryPass(MemoryPass pass, absl::Span<uint8_t> memory, uint32_t rounds,
                       uint64_t ahead_bytes) {
  WEIR_CHECK(memory.size() % kKiB == 0);
  for (uint32_t round = 0; round < rounds; ++round) {
    HWY_DYNAMIC_DISPATCH(RunPass)(pass, memory.data(), memory.size(), ahead_bytes);
    asm volatile("" : : : "memory");  // rounds are not merged
  }
  return rounds * uint64_t{memory.size()};  // a copy loads one half and stores the other
}

void LinkLines(absl::Span<uint8_t> memory, uint64_t seed) {
  const uint64_t lines = memory.size() / 64;
  WEIR_CHECK(lines >= 2 && lines <= UINT32_MAX);
  // Sattolo's shuffle makes one cycle of all.
  std::vector<uint32_t> next(lines);
  std::iota(next.begin(), next.end(), 0);
  std::mt19937_64 random(seed);
  for (uint64_t i = lines - 1; i > 0; --i) std::swap(next[i], next[random() % i]);
  for (uint64_t i = 0; i < lines; ++i) {
    *reinterpret_cast<const void**>(memory.data() + 64 * i) =
        memory.data() + uint64_t{64} * next[i];
  }
}

const void* FollowLines(const void* line, uint64_t loads) {
  for (uint64_t i = 0; i < loads; i += 32) {
#pragma GCC unroll 32
    for (int k = 0; k < 32; ++k) line = *static_cast<const void* const*>(line);
  }
  return line;
}

uint64_t AddInTurn(uint64_t additions) {
  uint64_t sum = additions;
  for (uint64_t i = 0; i < additions; i += 64) {
#pragma GCC unroll 64
    for (int k = 0; k < 64; ++k) {
      sum += i;
      asm volatile("" : "+r"(sum));  // neither merged nor reordered
    }
  }
  return sum;
}

}  // namespace weir
#endif  // HWY_ONCE
