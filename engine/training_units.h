// A model cut into equal parts for the measured training step (engine/training_probe.h): ranges of
// rows of its matrices, and where their gradients and optimiser states lie in a scratch file. Pure.
#ifndef WEIR_ENGINE_TRAINING_UNITS_H_
#define WEIR_ENGINE_TRAINING_UNITS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "io/file.h"
#include "tiering/training_cost.h"

namespace weir {

// What tiering/training_cost.h counts, of this model: its matrices.
TrainingShape TrainingShapeOf(const Model& model);

// In the scratch file: the gradient, then one range that the update reads (m, v, master weights)
// and writes (the same and the weights). Each array of floats is as long as `float_bytes`.
struct TrainingUnit {
  const TensorInfo* tensor = nullptr;
  uint32_t first_row = 0;
  uint32_t rows = 0;
  AlignedRange weights = {};            // in the model's file
  uint64_t weights_required_bytes = 0;  // of that range before the file's end
  uint64_t parameters = 0;
  uint64_t float_bytes = 0;  // 4 for each parameter, rounded up
  uint64_t gradient_offset_bytes = 0;
  uint64_t state_offset_bytes = 0;

  uint64_t state_bytes() const { return 3 * float_bytes; }
  uint64_t written_bytes() const { return state_bytes() + weights.bytes; }
  uint64_t scratch_end_bytes() const { return state_offset_bytes + written_bytes(); }
};

struct TrainingUnits {
  std::vector<TrainingUnit> units;  // layer by layer from the first, then the head
  double model_parameters = 0;      // of all matrices, in the units or not
  uint64_t alignment_bytes = 0;     // of everything in the scratch file

  uint64_t scratch_bytes() const { return units.empty() ? 0 : units.back().scratch_end_bytes(); }
  double parameters() const;
  double scale() const { return parameters() / model_parameters; }  // part of the model
};

struct TrainingCut {
  uint64_t unit_parameters = 0;     // about
  uint64_t scratch_bytes = 0;       // at most
  uint64_t alignment_bytes = 4096;  // a multiple of that of every file
};

// As many units as the scratch bytes hold. InvalidArgument, with the least that would do, when they
// hold none.
absl::StatusOr<TrainingUnits> CutTrainingUnits(const Model& model, const TrainingCut& cut);

// What the units move and compute in a phase with so many tokens.
TrainingWork WorkOfUnits(const TrainingUnits& units, TrainingPhase phase, double tokens,
                         bool recomputes);

}  // namespace weir

#endif  // WEIR_ENGINE_TRAINING_UNITS_H_
