// Which instruction set the kernels run on. The binary is built for baseline x86-64; kernels are
// compiled for AVX2 (with FMA, BMI2, F16C), AVX3 (AVX-512 F, BW, DQ, VL) and AVX3_DL (with VNNI,
// VBMI and others of Ice Lake and Zen 4) and chosen at run time. Names are Highway's.
#ifndef WEIR_KERNELS_ISA_H_
#define WEIR_KERNELS_ISA_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace weir {

// Those that this CPU and operating system can run, best first; empty when even AVX2 is missing.
std::vector<std::string> SupportedIsas();

// Makes all kernels of the process use `name`; empty: the best. InvalidArgument for an unknown
// name, FailedPrecondition for one this CPU lacks. The choice is Highway's process-wide dispatch
// mask: make it before kernels run (no kernel may be running meanwhile).
absl::Status SelectIsa(std::string_view name);

// What kernels run on now; "none" when the CPU lacks AVX2.
std::string SelectedIsa();

}  // namespace weir

#endif  // WEIR_KERNELS_ISA_H_
