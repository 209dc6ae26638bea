// SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014): the
// same numbers for a seed on every platform. For sampling, synthetic weights and injected faults.
#ifndef WEIR_IO_SPLIT_MIX_H_
#define WEIR_IO_SPLIT_MIX_H_

#include <cstdint>

namespace weir {

// The next number of the sequence that begins with `*state`.
inline uint64_t SplitMix64(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Scrambles every input bit into every output bit.
inline uint64_t MixBits(uint64_t value) { return SplitMix64(&value); }

// The upper 53 bits as a number in [0, 1).
inline double UnitInterval(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

}  // namespace weir

#endif  // WEIR_IO_SPLIT_MIX_H_
