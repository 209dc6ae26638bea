#include "io/allocation_counter.h"

#include <atomic>
#include <cstdlib>
#include <new>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WEIR_COUNTS_ALLOCATIONS 0
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WEIR_COUNTS_ALLOCATIONS 0
#endif
#ifndef WEIR_COUNTS_ALLOCATIONS
#define WEIR_COUNTS_ALLOCATIONS 1
#endif

#if WEIR_COUNTS_ALLOCATIONS

namespace {

// operator new has no argument to carry state.
std::atomic<uint64_t> allocations{0};

void* Take(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* const memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) std::abort();  // as without exceptions it would be
  return memory;
}

void* TakeAligned(std::size_t bytes, std::align_val_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  const auto unit = static_cast<std::size_t>(alignment);
  void* const memory = std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

// The forms that are not here call these (C++20, [new.delete]).
void* operator new(std::size_t bytes) { return Take(bytes); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return TakeAligned(bytes, alignment);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace weir {
std::optional<uint64_t> AllocationCount() { return allocations.load(std::memory_order_relaxed); }
}  // namespace weir

#else

namespace weir {
std::optional<uint64_t> AllocationCount() { return std::nullopt; }
}  // namespace weir

#endif
