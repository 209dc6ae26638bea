// The pipeline of a measured training step: units of a model go through a few slots of memory, each
// read, computed on and written while its neighbours are elsewhere on the way.
#ifndef WEIR_ENGINE_TRAINING_STEP_H_
#define WEIR_ENGINE_TRAINING_STEP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/model.h"
#include "engine/training_units.h"
#include "io/file.h"
#include "io/file_writer.h"
#include "io/reader.h"
#include "kernels/cpu_device.h"

namespace weir {

// What a step runs with. Borrowed; all outlive it. The writer and the stream's notifications wake
// the reader, so that one thread waits in one place.
struct TrainingBench {
  const Model* model = nullptr;
  const File* scratch = nullptr;
  Reader* reader = nullptr;
  FileWriter* writer = nullptr;
  CpuStream* stream = nullptr;
  uint32_t tokens = 0;
  uint32_t backward_products = 2;  // each of the forward's operations; 3 where it recomputes
  absl::Span<float> input;         // [tokens, the widest unit's columns]
  absl::Span<float> output;        // [tokens, the highest unit's rows]
  std::vector<absl::Span<uint8_t>> slots;  // SlotBytes each, aligned as the units are
};

// Of the largest unit.
uint64_t SlotBytes(const TrainingUnits& units);
// Of `tokens` tokens, in floats.
uint64_t InputFloats(const TrainingUnits& units, uint32_t tokens);
uint64_t OutputFloats(const TrainingUnits& units, uint32_t tokens);

// Where a unit lies in a slot: its gradient, and behind it what is written as one: state, weights.
struct SlotPlaces {
  uint8_t* gradient;
  uint8_t* state;    // m, v, master weights
  uint8_t* weights;  // as read, the range's head included
};
SlotPlaces PlacesOf(const TrainingUnit& unit, absl::Span<uint8_t> slot);

// The product of all tokens with the unit's rows, as the engine has it for float activations:
// weights decoded to float32, multiplied in float32.
void EnqueueProduct(const TrainingBench& bench, const TrainingUnit& unit, const uint8_t* weights);
// Adam's update of the unit.
void EnqueueUpdate(const TrainingBench& bench, const TrainingUnit& unit, const SlotPlaces& places);

ReadOp ReadOfWeights(const TrainingBench& bench, const TrainingUnit& unit, uint8_t* to);

// Called now and then with the share of the phase that is done; false ends it.
using TrainingProgress = std::function<bool(double share)>;

// One phase over all units; backward from the last to the first:
//   forward:  weights are read, then multiplied
//   backward: weights and state are read; products; the gradient is written, read back, and, with
//             the state, goes through the update; state and weights are written
// What is multiplied are the model's own bytes; a gradient is memory that the products left alone,
// since only its way is measured. Cancelled when told to end. Whatever the result, nothing is in
// flight afterwards.
absl::Status RunTrainingPhase(const TrainingBench& bench, absl::Span<const TrainingUnit> units,
                              TrainingPhase phase, const TrainingProgress& progress);

}  // namespace weir

#endif  // WEIR_ENGINE_TRAINING_STEP_H_
