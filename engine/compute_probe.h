// Measures what every step of a model's program takes on a device of this machine with one token:
// the model's own kernels, in the program's order, on memory that stands in for the weights. For
// the cost model.
#ifndef WEIR_ENGINE_COMPUTE_PROBE_H_
#define WEIR_ENGINE_COMPUTE_PROBE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/accelerator.h"
#include "engine/model.h"
#include "engine/transformer.h"

namespace weir {

struct ComputeProbeOptions {
  uint32_t threads = 1;
  std::string isa;
  AcceleratorOptions accelerator;  // measured instead of the CPU, if it is one
  uint32_t position = 0;  // tokens before the one that is computed: attention reads their KV
  // In place of the weights, and the most that is taken of it; it should exceed the caches. Raised
  // to what one block needs.
  uint64_t memory_bytes = 256 << 20;
};

// Nanoseconds by step. Steps that do the same work on other weights (StepShape) are measured a few
// times and share their mean, so that a large model takes a fraction of a second, too. Errors: as
// MakeCpuDevice, MakeAccelerator and Device::Allocate.
absl::StatusOr<std::vector<int64_t>> ProbeSteps(const Model& model, const Transformer& transformer,
                                                const ComputeProbeOptions& options);

}  // namespace weir

#endif  // WEIR_ENGINE_COMPUTE_PROBE_H_
