// The part "training" of `weir wall`: one call measures, predicts and reports.
#ifndef WEIR_TOOLS_MEASURE_TRAINING_H_
#define WEIR_TOOLS_MEASURE_TRAINING_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "tools/training_report.h"

namespace weir {

struct TrainingMeasureOptions {
  std::string scratch_folder;  // --scratch; empty: ChooseScratchFolder
  uint64_t scratch_bytes = 1 << 30;
  uint32_t tokens = 512;
  bool recomputes = false;
  uint32_t threads = 1;
  std::string isa;
  std::string reader = "auto";
};

// `given`, refused where it lies in memory; empty: the first of $TMPDIR, /var/tmp, /tmp and the
// model's own folder that lies on a disk and can be written to. Errors name --scratch.
absl::StatusOr<std::string> ChooseScratchFolder(const std::string& given, const Model& model);

// Disk: scratch_bytes and kScratchMarginBytes must be free; nothing is left. Memory: some 130 MiB,
// and 4 bytes for each token and column of the widest matrix. Time: 7 to 12 s on a disk of 1 GB/s;
// on a slow one filling ends after 12 s and the step is cut to 20, as predicted. `progress` hears
// the share that is done; may be null. Ends early, with the exit code of an interrupt, once
// interrupted.
absl::StatusOr<TrainingReport> MeasureTraining(const Model& model,
                                               const TrainingMeasureOptions& options,
                                               const std::function<void(double share)>& progress);

}  // namespace weir

#endif  // WEIR_TOOLS_MEASURE_TRAINING_H_
