// Passes over memory that do nothing else, for measuring what a level of the hierarchy gives: what
// a core can load, store and copy, and how long it waits for one load that depends on another.
#ifndef WEIR_KERNELS_MEMORY_PASSES_H_
#define WEIR_KERNELS_MEMORY_PASSES_H_

#include <cstdint>

#include "absl/types/span.h"

namespace weir {

enum class MemoryPass : uint8_t {
  kRead,   // loads of whole vectors
  kWrite,  // ordinary stores: from beyond the caches each line is also read first
  kCopy,   // the first half of the memory to the second
};

// `memory` is aligned to 64 bytes, and a multiple of 1 KiB. Goes over it `rounds` times on the
// calling thread, with the selected instruction set (kernels/isa.h), and returns the bytes that the
// core loaded and stored; contents are unspecified afterwards, but for kRead. `ahead_bytes`: lines
// so far ahead are asked for (0: none), which memory needs and caches do not.
uint64_t RunMemoryPass(MemoryPass pass, absl::Span<uint8_t> memory, uint32_t rounds,
                       uint64_t ahead_bytes);

// Makes of the 64-byte lines of `memory` (aligned to one, two at least) one cycle in random order,
// each holding the address of the next: no prefetcher guesses it.
void LinkLines(absl::Span<uint8_t> memory, uint64_t seed);

// Follows the cycle from `line` for `loads` (rounded up to a multiple of 32); returns where it
// ends.
const void* FollowLines(const void* line, uint64_t loads);

// That many additions (rounded up to a multiple of 64), each of which waits for the one before: a
// cycle each on every x86-64 core, which tells the clock.
uint64_t AddInTurn(uint64_t additions);

}  // namespace weir

#endif  // WEIR_KERNELS_MEMORY_PASSES_H_
