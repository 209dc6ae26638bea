// Asking for memory that kernels will read soon, in the instruction sets that they are compiled
// for.
#if defined(WEIR_KERNELS_PREFETCH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_PREFETCH_INL_H_
#undef WEIR_KERNELS_PREFETCH_INL_H_
#else
#define WEIR_KERNELS_PREFETCH_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

// To near memory, but not to the nearest, which has no room for what is not needed at once. Always
// inlined: GCC takes a function that does nothing else for one without effects, and drops its
// calls.
HWY_INLINE void PrefetchBytes(const uint8_t* from, uint64_t bytes) {
  for (uint64_t i = 0; i < bytes; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(from + i), _MM_HINT_T2);
  }
}

// Prefetches stay where they are written: GCC gathers those of a long straight stretch, and memory
// gets them in bursts.
HWY_INLINE void KeepPace() { asm volatile("" ::: "memory"); }

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
