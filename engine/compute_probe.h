// Measures how fast this machine multiplies a model's weights by one token, for the cost model.
#ifndef WEIR_ENGINE_COMPUTE_PROBE_H_
#define WEIR_ENGINE_COMPUTE_PROBE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "kernels/ops.h"

namespace weir {

struct ComputeProbeOptions {
  uint32_t threads = 1;
  std::string isa;
  ActivationFormat activations = ActivationFormat::kQ16;
  uint64_t memory_bytes = 64 << 20;  // working set; taken for the time of the probe
  int64_t duration_ns = 60'000'000;
};

// Weight bytes per second of matrix-vector products, each of the model's weight formats measured on
// its own and weighed by its share of the model's bytes.
absl::StatusOr<double> ProbeComputeBytesPerS(const Model& model,
                                             const ComputeProbeOptions& options);

}  // namespace weir

#endif  // WEIR_ENGINE_COMPUTE_PROBE_H_
