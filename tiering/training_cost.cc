#include "tiering/training_cost.h"

#include <algorithm>

namespace weir {
namespace {

constexpr double kFloatBytes = 4;
constexpr double kForwardOperations = 2;  // of a parameter and token
constexpr double kBackwardOperations = 4;

double HeadActivationFloats(const TrainingShape& shape) {
  return 2.0 * shape.columns + shape.vocabulary;
}

void AddDisk(const char* what, TrainingPhase phase, bool is_write, double bytes,
             std::vector<TrainingFlow>* flows) {
  flows->push_back({what, TrainingLink::kDisk, phase, is_write, bytes});
}

void AddDram(const char* what, TrainingPhase phase, bool is_write, double bytes,
             std::vector<TrainingFlow>* flows) {
  flows->push_back({what, TrainingLink::kDram, phase, is_write, bytes});
}

std::vector<TrainingFlow> DiskFlows(const TrainingShape& shape) {
  const double gradient_bytes = kGradientBytes * shape.parameters;
  const double state_bytes = kFloatBytes * shape.parameters;
  constexpr TrainingPhase kBackward = TrainingPhase::kBackward;
  std::vector<TrainingFlow> flows;
  AddDisk("weights, forward", TrainingPhase::kForward, false, shape.multiplied_bytes, &flows);
  AddDisk("weights, backward", kBackward, false, shape.multiplied_bytes, &flows);
  AddDisk("gradients", kBackward, true, gradient_bytes, &flows);
  AddDisk("gradients, for the update", kBackward, false, gradient_bytes, &flows);
  for (const bool is_write : {false, true}) {
    AddDisk("Adam m", kBackward, is_write, state_bytes, &flows);
    AddDisk("Adam v", kBackward, is_write, state_bytes, &flows);
    AddDisk("master weights", kBackward, is_write, state_bytes, &flows);
  }
  AddDisk("weights, updated", kBackward, true, shape.weight_bytes, &flows);
  return flows;
}

}  // namespace

std::vector<TrainingFlow> TrainingFlows(const TrainingShape& shape, double tokens,
                                        bool recomputes) {
  std::vector<TrainingFlow> flows = DiskFlows(shape);
  for (const TrainingPhase phase : {TrainingPhase::kForward, TrainingPhase::kBackward}) {
    const TrainingWork work = WorkOf(shape, phase, tokens, recomputes);
    AddDram("what the disk gives", phase, true, work.read_bytes, &flows);
    AddDram("the same, used", phase, false, work.read_bytes, &flows);
    if (work.written_bytes == 0) continue;
    AddDram("what is made", phase, true, work.written_bytes, &flows);
    AddDram("the same, for the disk", phase, false, work.written_bytes, &flows);
  }
  // Made once and used once; recomputed ones are made again, behind the inputs
  // that were kept.
  const double all_bytes = tokens * KeptActivationBytes(shape);
  const double inputs_bytes =
      tokens * kFloatBytes * shape.columns * static_cast<double>(shape.layers.size());
  if (recomputes) {
    AddDram("layers' inputs, kept", TrainingPhase::kForward, true, inputs_bytes, &flows);
    AddDram("layers' inputs, used", TrainingPhase::kBackward, false, inputs_bytes, &flows);
    AddDram("activations, recomputed", TrainingPhase::kBackward, true, all_bytes, &flows);
  } else {
    AddDram("activations, kept", TrainingPhase::kForward, true, all_bytes, &flows);
  }
  AddDram("activations, used", TrainingPhase::kBackward, false, all_bytes, &flows);
  return flows;
}

double LayerActivationFloats(const TrainingShape& shape, const TrainingLayer& layer) {
  const double columns = shape.columns;
  const double queries = double{1} * layer.heads * shape.key_columns;
  const double keys = double{1} * layer.kv_heads * shape.key_columns;
  const double values = double{1} * layer.kv_heads * shape.value_columns;
  const double attended = double{1} * layer.heads * shape.value_columns + layer.heads;
  double floats = 4 * columns + queries + keys + values + attended +
                  3 * static_cast<double>(layer.feed_forward_columns);
  if (layer.has_head_norms) floats += queries + keys;
  if (layer.has_post_norms) floats += 2 * columns;
  return floats;
}

double KeptActivationBytes(const TrainingShape& shape) {
  double floats = HeadActivationFloats(shape);
  for (const TrainingLayer& layer : shape.layers) floats += LayerActivationFloats(shape, layer);
  return kFloatBytes * floats;
}

double RecomputedActivationBytes(const TrainingShape& shape) {
  double largest = HeadActivationFloats(shape);
  for (const TrainingLayer& layer : shape.layers) {
    largest = std::max(largest, LayerActivationFloats(shape, layer));
  }
  return kFloatBytes *
         (largest + double{1} * shape.columns * static_cast<double>(shape.layers.size()));
}

TrainingOperations OperationsOf(const TrainingShape& shape) {
  return {.forward = kForwardOperations * shape.multiplied_parameters,
          .backward = kBackwardOperations * shape.multiplied_parameters,
          .recompute = kForwardOperations * shape.multiplied_parameters};
}

TrainingWork WorkOf(const TrainingShape& shape, TrainingPhase phase, double tokens,
                    bool recomputes) {
  const TrainingOperations operations = OperationsOf(shape);
  TrainingWork work;
  for (const TrainingFlow& flow : DiskFlows(shape)) {
    if (flow.phase == phase) (flow.is_write ? work.written_bytes : work.read_bytes) += flow.bytes;
  }
  if (phase == TrainingPhase::kForward) {
    work.operations = tokens * operations.forward;
  } else {
    work.operations = tokens * (operations.backward + (recomputes ? operations.recompute : 0));
    work.updated_parameters = shape.parameters;
  }
  return work;
}

double TrafficSeconds(double read_bytes, double written_bytes, const TrainingCeilings& ceilings) {
  const auto seconds = [](double bytes, double rate) { return bytes > 0 ? bytes / rate : 0; };
  if (ceilings.mixed_bytes_per_s <= 0) {
    return std::max(seconds(read_bytes, ceilings.read_bytes_per_s),
                    seconds(written_bytes, ceilings.write_bytes_per_s));
  }
  const double both = std::min(read_bytes, written_bytes);
  return seconds(2 * both, ceilings.mixed_bytes_per_s) +
         seconds(read_bytes - both, ceilings.read_bytes_per_s) +
         seconds(written_bytes - both, ceilings.write_bytes_per_s);
}

PhaseTimes PredictPhase(const TrainingWork& work, double units, const TrainingCeilings& ceilings) {
  PhaseTimes times;
  times.disk_s = TrafficSeconds(work.read_bytes, work.written_bytes, ceilings);
  times.compute_s = work.operations / ceilings.operations_per_s;
  if (ceilings.update_parameters_per_s > 0) {
    times.compute_s += work.updated_parameters / ceilings.update_parameters_per_s;
  }
  times.compute_s += (work.read_bytes + work.written_bytes) * ceilings.core_s_per_disk_byte;
  times.total_s = std::max(times.disk_s, times.compute_s) +
                  std::min(times.disk_s, times.compute_s) / std::max(1.0, units);
  return times;
}

TrainingPrediction PredictTraining(const TrainingShape& shape, bool recomputes,
                                   const TrainingCeilings& ceilings) {
  TrainingPrediction prediction;
  for (const TrainingPhase phase : {TrainingPhase::kForward, TrainingPhase::kBackward}) {
    const TrainingWork one = WorkOf(shape, phase, 1, recomputes);
    const double disk_s = TrafficSeconds(one.read_bytes, one.written_bytes, ceilings);
    const double token_s = one.operations / ceilings.operations_per_s;
    prediction.disk_s_per_step += disk_s;
    prediction.compute_s_per_token += token_s;
    prediction.hidden_tokens = std::max(prediction.hidden_tokens, disk_s / token_s);
  }
  prediction.break_even_tokens = prediction.disk_s_per_step / prediction.compute_s_per_token;
  return prediction;
}

double PredictStepSeconds(const TrainingShape& shape, double tokens, bool recomputes, double units,
                          const TrainingCeilings& ceilings) {
  double seconds = 0;
  for (const TrainingPhase phase : {TrainingPhase::kForward, TrainingPhase::kBackward}) {
    seconds += PredictPhase(WorkOf(shape, phase, tokens, recomputes), units, ceilings).total_s;
  }
  return seconds;
}

}  // namespace weir
