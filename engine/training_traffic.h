// What a disk gives to the traffic of a training step, and what arithmetic does for it: the
// ceilings that a step is predicted from (engine/training_probe.h), measured with the step's own
// reader, writer, stream and memory.
#ifndef WEIR_ENGINE_TRAINING_TRAFFIC_H_
#define WEIR_ENGINE_TRAINING_TRAFFIC_H_

#include <algorithm>
#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/training_step.h"

namespace weir {

struct TrafficOptions {
  const File* reads = nullptr;  // null: nothing is read
  bool writes = false;          // to the scratch file
  // Of either file: where reads and writes go, from the begin again after the end. A multiple of
  // op_bytes, from a multiple of the alignment on.
  uint64_t read_offset_bytes = 0;
  uint64_t region_bytes = 0;
  uint64_t op_bytes = 0;  // of each; a multiple of the alignment
  // Until one of the two is reached; 0: no such limit. Not both 0.
  uint64_t limit_bytes = 0;
  int64_t limit_ns = 0;
};

struct TrafficResult {
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
  double seconds = 0;  // to the end of the last one, and of the flush of what was written
  double cpu_s = 0;    // that the process took meanwhile, on all cores
  double bytes_per_s() const {
    return static_cast<double>(read_bytes + written_bytes) / std::max(seconds, 1e-9);
  }
};

// Reads into the first half of `memory` and writes what is in the second, as much of the one as of
// the other where both are done. `memory` holds four ops at least, and is aligned. False from
// `go_on`: Cancelled. Nothing is in flight afterwards.
absl::StatusOr<TrafficResult> MeasureTraffic(const TrainingBench& bench, absl::Span<uint8_t> memory,
                                             const TrafficOptions& options,
                                             const std::function<bool()>& go_on);

struct ArithmeticRates {
  double operations_per_s = 0;         // of the step's products: 2 for each weight and token
  double update_parameters_per_s = 0;  // of Adam's update
};
// Products of units from all over the step, whose weights are read right before, for about
// `limit_ns` or until all had their turn; and updates for a part of that.
absl::StatusOr<ArithmeticRates> MeasureArithmetic(const TrainingBench& bench,
                                                  absl::Span<const TrainingUnit> units,
                                                  int64_t limit_ns);

}  // namespace weir

#endif  // WEIR_ENGINE_TRAINING_TRAFFIC_H_
