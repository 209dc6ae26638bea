// The instruction sets that matrix products and decoding are written for. Highway also compiles a
// file for its baseline, where their code is left out: the CPU is refused before it could be chosen
// (kernels/isa.h).
#ifndef WEIR_KERNELS_TARGETS_H_
#define WEIR_KERNELS_TARGETS_H_

// For #if, in code that Highway compiles once for each target: reads the HWY_TARGET of the moment.
#define WEIR_IS_KERNEL_TARGET \
  (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL)

#endif  // WEIR_KERNELS_TARGETS_H_
