// One measured training step with everything on disk, predicted from ceilings that are measured
// right before it, in the same place and with the same reader, writer and memory.
//
// The step is that of tiering/training_cost.h for a part of the model, as large as the scratch
// space allows: the model's own bytes are read in both directions, gradients and Adam's state go
// through a scratch file, which has no name and is gone when this returns. Traffic bypasses the
// page cache where the file systems let it, and what was written is flushed within the time that
// counts.
//
// Arithmetic: the engine's own product of all tokens with each range of rows, weights decoded to
// float32 where they were read to and multiplied in float32: once forward, twice backward (thrice
// where activations are recomputed), since the engine has no transposed products: the same number
// of operations, on the same weights. Adam's update is real. Attention, norms and activations are
// left out, as in the count.
//
// Memory: slots * (16 bytes a parameter of a unit, and its weights) and the activations of
// `tokens`: 110 MiB and some 20 MiB by default. Time: writing the scratch file once (kFillNs at
// most), four times ceiling_ns, and the step (limit_s, as predicted).
#ifndef WEIR_ENGINE_TRAINING_PROBE_H_
#define WEIR_ENGINE_TRAINING_PROBE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "engine/training_step.h"
#include "io/base.h"
#include "tiering/training_cost.h"

namespace weir {

// The longest that the scratch file is filled; what is not full by then is not used.
inline constexpr int64_t kFillNs = 12'000'000'000;

struct TrainingProbeOptions {
  std::string folder;                 // of the scratch file
  uint64_t scratch_bytes = 1 * kGiB;  // at most
  uint32_t tokens = 512;
  bool recomputes = false;  // activations: a third product backward
  uint64_t unit_parameters = 1 << 20;
  uint32_t slots = 6;
  uint32_t threads = 1;  // of the CPU device
  std::string isa;
  std::string reader = "auto";      // as MakeReader takes it
  uint64_t chunk_bytes = 1 * kMiB;  // of each read and write
  uint32_t depth = 16;              // of reads, and half of it of writes
  int64_t ceiling_ns = 800'000'000;
  double limit_s = 20;  // a step that is predicted to take longer is of fewer units
};

struct MeasuredPhase {
  PhaseTimes predicted;
  double achieved_s = 0;
};

struct TrainingProbeResult {
  TrainingCeilings ceilings;
  double scale = 0;       // part of the model's parameters that the step was of
  double parameters = 0;  // of that part
  uint32_t tokens = 0;
  bool recomputes = false;
  uint32_t units = 0;
  uint64_t scratch_bytes = 0;
  uint64_t read_bytes = 0;  // as counted by reader and writer
  uint64_t written_bytes = 0;
  MeasuredPhase forward;
  MeasuredPhase backward;
  std::string reader;      // Reader::name()
  bool is_direct = false;  // neither reads nor writes went by way of the page cache
  std::string note;        // empty, or whole sentences

  double disk_s() const { return forward.predicted.disk_s + backward.predicted.disk_s; }
  double compute_s() const { return forward.predicted.compute_s + backward.predicted.compute_s; }
  double predicted_s() const { return forward.predicted.total_s + backward.predicted.total_s; }
  double achieved_s() const { return forward.achieved_s + backward.achieved_s; }
  // 0.1: the step was predicted to take a tenth more than it did.
  double error() const { return predicted_s() / achieved_s() - 1; }
};

// Errors: as ScratchSpace::Create (what is free is looked at before anything is written),
// CutTrainingUnits, MakeReader and MakeCpuDevice; failed reads and writes; Cancelled when
// `progress` says so, which is called some ten times a second with the share that is done.
absl::StatusOr<TrainingProbeResult> ProbeTraining(const Model& model,
                                                  const TrainingProbeOptions& options,
                                                  const TrainingProgress& progress);

}  // namespace weir

#endif  // WEIR_ENGINE_TRAINING_PROBE_H_
