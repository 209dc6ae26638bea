// The most that a core's arithmetic gives to matrix products: the instructions that they multiply
// with, on registers alone. A ceiling for kernels, which also have to load, decode and scale.
#ifndef WEIR_KERNELS_ARITHMETIC_PEAK_H_
#define WEIR_KERNELS_ARITHMETIC_PEAK_H_

#include <cstdint>

namespace weir {

enum class Arithmetic : uint8_t {
  kBytes,   // u8 x s8, added to wider integers: vpdpbusd, or vpmaddubsw and vpaddw
  kFloats,  // float32 multiply-add
};

// On the calling thread, with the selected instruction set (kernels/isa.h). Returns the operations
// done, two for each product and its sum: some microseconds' worth for 1000 rounds.
uint64_t RunArithmetic(Arithmetic arithmetic, uint32_t rounds);

}  // namespace weir

#endif  // WEIR_KERNELS_ARITHMETIC_PEAK_H_
