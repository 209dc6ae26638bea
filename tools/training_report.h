// The training form of the memory wall: what one training step moves and computes, what follows
// from measured ceilings, and one measured step of such traffic. Pure: from figures to text and
// JSON.
#ifndef WEIR_TOOLS_TRAINING_REPORT_H_
#define WEIR_TOOLS_TRAINING_REPORT_H_

#include <string>
#include <vector>

#include "engine/training_probe.h"
#include "nlohmann/json.hpp"
#include "tiering/training_cost.h"

namespace weir {

struct TrainingReport {
  double parameters = 0;            // trained
  std::vector<TrainingFlow> flows;  // of a step of measured.tokens
  TrainingOperations operations;    // of a token
  double kept_bytes = 0;            // of activations, of a token
  double recomputed_bytes = 0;      // likewise
  TrainingPrediction prediction;    // of the whole model, from measured.ceilings
  double predicted_step_s = 0;      // of the whole model with measured.tokens
  TrainingProbeResult measured;
};

// From a model's shape and a measured step.
TrainingReport MakeTrainingReport(const TrainingShape& shape, TrainingProbeResult measured);

// "Training with everything on disk is bound by the disk below 1800 tokens a step ..."
std::string TrainingSentence(const TrainingReport& report);
std::string TrainingToText(const TrainingReport& report);
// The section "training" of `weir wall --json`. Beside it: "hidden_tokens" (from how many tokens
// each phase hides the disk), "ceilings", and by phase what was predicted and achieved.
nlohmann::json TrainingToJson(const TrainingReport& report);

}  // namespace weir

#endif  // WEIR_TOOLS_TRAINING_REPORT_H_
