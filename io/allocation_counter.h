// How often this process has asked for memory through operator new, counted by the program itself,
// so that every run can show that decoding takes none. A program that asks gets the operator new of
// allocation_counter.cc; one that does not keeps the library's.
#ifndef WEIR_IO_ALLOCATION_COUNTER_H_
#define WEIR_IO_ALLOCATION_COUNTER_H_

#include <cstdint>
#include <optional>

namespace weir {

// By all threads since the start. Nothing in builds with a sanitizer, which bring an operator new
// of their own.
std::optional<uint64_t> AllocationCount();

}  // namespace weir

#endif  // WEIR_IO_ALLOCATION_COUNTER_H_
