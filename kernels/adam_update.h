// The optimiser's arithmetic of a training step, for measuring one: Adam
// (Kingma & Ba 2015, algorithm 1) on float32 states in memory.
#ifndef WEIR_KERNELS_ADAM_UPDATE_H_
#define WEIR_KERNELS_ADAM_UPDATE_H_

#include <cstdint>

#include "kernels/cpu_device.h"

namespace weir {

// With g the gradient:
//   m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
//   w = w - learning_rate * (m * first_correction) / (sqrt(v *
//   second_correction) + epsilon)
// where the corrections are 1 / (1 - beta^step).
struct AdamUpdateArgs {
  const float* gradient;  // [count]
  float* first_moment;    // [count]
  float* second_moment;   // [count], >= 0
  float* weights;         // [count], the master copy
  uint64_t count;
  float learning_rate;
  float beta1;
  float beta2;
  float epsilon;
  float first_correction;
  float second_correction;
};
// Asynchronous, as ops are: pointers stay valid until the stream has run it.
// Elements do not depend on the number of threads.
void AdamUpdate(CpuStream& stream, const AdamUpdateArgs& args);

}  // namespace weir

#endif  // WEIR_KERNELS_ADAM_UPDATE_H_
