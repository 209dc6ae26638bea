#include "kernels/arithmetic_peak.h"

#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/arithmetic_peak.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "io/base.h"
#include "kernels/matmul_tile-inl.h"
#include "kernels/targets.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

#if WEIR_IS_KERNEL_TARGET

// More than latency times throughput of the instructions, and fewer than AVX2 has registers.
constexpr uint32_t kSums = 12;

// The compiler must take a sum for changed: it would make one of all that are equal. (Of a factor
// taken for changed instead GCC makes two more moves to each product.)
template <typename V>
HWY_INLINE V Changed(V value) {
  auto raw = value.raw;
  asm volatile("" : "+x"(raw));
  return V{raw};
}

WEIR_TILE_ATTRIBUTE uint64_t RunBytes(uint32_t rounds) {
  const Vi u = hn::Set(Di(), 0x01010101);
  const Vi q = hn::Set(Di(), 0x01010101);
  Vi sums[kSums];
  for (Vi& sum : sums) sum = hn::Zero(Di());
  for (uint32_t round = 0; round < rounds; ++round) {
    for (Vi& sum : sums) {
#if HWY_TARGET == HWY_AVX3_DL
      sum = Changed(Vi{_mm512_dpbusd_epi32(sum.raw, u.raw, q.raw)});
#else
      sum = Changed(Add16(sum, MultiplyPairs(u, q)));
#endif
    }
  }
  return uint64_t{2} * rounds * kSums * kLanes * 4;
}

uint64_t RunFloats(uint32_t rounds) {
  const Df d;
  const Vf a = hn::Set(d, 1.0f);
  const Vf b = hn::Set(d, 0.5f);
  Vf sums[kSums];
  for (Vf& sum : sums) sum = hn::Zero(d);
  for (uint32_t round = 0; round < rounds; ++round) {
    for (Vf& sum : sums) {
      sum = Changed(hn::MulAdd(a, b, sum));
    }
  }
  return uint64_t{2} * rounds * kSums * kLanes;
}

#endif  // WEIR_IS_KERNEL_TARGET

uint64_t RunRounds(Arithmetic arithmetic, uint32_t rounds) {
#if WEIR_IS_KERNEL_TARGET
  return arithmetic == Arithmetic::kBytes ? RunBytes(rounds) : RunFloats(rounds);
#else
  (void)arithmetic, (void)rounds;
  WEIR_CHECK(false && "the CPU lacks AVX2");
  return 0;
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {

HWY_EXPORT(RunRounds);

uint64_t RunArithmetic(Arithmetic arithmetic, uint32_t rounds) {
  return HWY_DYNAMIC_DISPATCH(RunRounds)(arithmetic, rounds);
}

}  // namespace weir
#endif  // HWY_ONCE
