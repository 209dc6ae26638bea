#include "engine/training_units.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/dtype.h"

namespace weir {
namespace {

constexpr uint32_t kRowGrain = 16;  // kernels decode so many rows together

std::vector<const TensorInfo*> MatricesOf(const LayerTensors& layer) {
  std::vector<const TensorInfo*> matrices;
  for (const TensorInfo* matrix : {layer.query, layer.key, layer.value, layer.fused_qkv,
                                   layer.attention_output, layer.gate, layer.up, layer.down}) {
    if (matrix != nullptr) matrices.push_back(matrix);
  }
  return matrices;
}

// In the order of the forward pass.
std::vector<const TensorInfo*> MultipliedMatrices(const Model& model) {
  std::vector<const TensorInfo*> all;
  for (const LayerTensors& layer : model.tensors.layers) {
    const std::vector<const TensorInfo*> matrices = MatricesOf(layer);
    all.insert(all.end(), matrices.begin(), matrices.end());
  }
  all.push_back(model.tensors.output);
  return all;
}

double Elements(const TensorInfo& tensor) {
  return static_cast<double>(tensor.rows()) * static_cast<double>(tensor.columns());
}

TrainingUnit UnitOf(const Model& model, const TensorInfo& tensor, uint64_t first_row, uint64_t rows,
                    uint64_t alignment_bytes) {
  const File& file = *model.files[tensor.file];
  const uint64_t row_bytes = RowBytes(tensor.dtype, tensor.columns());
  TrainingUnit unit;
  unit.tensor = &tensor;
  unit.first_row = static_cast<uint32_t>(first_row);
  unit.rows = static_cast<uint32_t>(rows);
  const uint64_t begin_bytes = tensor.offset_bytes + first_row * row_bytes;
  // Widened to what the scratch file needs, too, into which they are written.
  unit.weights.offset_bytes = AlignDown(begin_bytes, alignment_bytes);
  unit.weights.head_bytes = begin_bytes - unit.weights.offset_bytes;
  unit.weights.bytes = AlignUp(unit.weights.head_bytes + rows * row_bytes, alignment_bytes);
  unit.weights_required_bytes =
      std::min(unit.weights.bytes, file.size_bytes() - unit.weights.offset_bytes);
  unit.parameters = rows * tensor.columns();
  unit.float_bytes = AlignUp(unit.parameters * sizeof(float), alignment_bytes);
  return unit;
}

}  // namespace

TrainingShape TrainingShapeOf(const Model& model) {
  TrainingShape shape;
  for (const TensorInfo* tensor : MultipliedMatrices(model)) {
    shape.multiplied_parameters += Elements(*tensor);
    shape.multiplied_bytes += static_cast<double>(tensor->bytes);
  }
  shape.parameters = shape.multiplied_parameters;
  shape.weight_bytes = shape.multiplied_bytes;
  if (model.tensors.embedding != model.tensors.output) {
    shape.parameters += Elements(*model.tensors.embedding);
    shape.weight_bytes += static_cast<double>(model.tensors.embedding->bytes);
  }
  const ModelConfig& config = model.config;
  shape.columns = config.columns;
  shape.key_columns = config.key_columns;
  shape.value_columns = config.value_columns;
  shape.vocabulary = config.vocabulary;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerTensors& tensors = model.tensors.layers[i];
    shape.layers.push_back({.heads = config.layers[i].heads,
                            .kv_heads = config.layers[i].kv_heads,
                            .feed_forward_columns = config.layers[i].feed_forward_columns,
                            .has_head_norms = tensors.query_norm != nullptr,
                            .has_post_norms = tensors.attention_post_norm != nullptr});
  }
  return shape;
}

double TrainingUnits::parameters() const {
  double sum = 0;
  for (const TrainingUnit& unit : units) sum += static_cast<double>(unit.parameters);
  return sum;
}

absl::StatusOr<TrainingUnits> CutTrainingUnits(const Model& model, const TrainingCut& cut) {
  WEIR_CHECK(cut.unit_parameters > 0 && cut.alignment_bytes > 0);
  TrainingUnits result;
  result.alignment_bytes = cut.alignment_bytes;
  result.model_parameters = TrainingShapeOf(model).parameters;
  uint64_t at_bytes = 0;
  for (const TensorInfo* tensor : MultipliedMatrices(model)) {
    const uint64_t wanted_rows = cut.unit_parameters / tensor->columns();
    const uint64_t unit_rows = std::max<uint64_t>(kRowGrain, AlignDown(wanted_rows, kRowGrain));
    for (uint64_t row = 0; row < tensor->rows(); row += unit_rows) {
      const uint64_t rows = std::min(unit_rows, tensor->rows() - row);
      TrainingUnit unit = UnitOf(model, *tensor, row, rows, cut.alignment_bytes);
      unit.gradient_offset_bytes = at_bytes;
      unit.state_offset_bytes = at_bytes + unit.float_bytes;
      if (unit.scratch_end_bytes() > cut.scratch_bytes) {
        if (!result.units.empty()) return result;
        return absl::InvalidArgumentError(absl::StrCat(
            "scratch space of ", cut.scratch_bytes, " bytes is too little for a training step: ",
            unit.scratch_end_bytes(), " bytes hold the least part of one"));
      }
      at_bytes = unit.scratch_end_bytes();
      result.units.push_back(unit);
    }
  }
  return result;
}

TrainingWork WorkOfUnits(const TrainingUnits& units, TrainingPhase phase, double tokens,
                         bool recomputes) {
  TrainingShape shape;
  shape.parameters = shape.multiplied_parameters = units.parameters();
  const bool is_forward = phase == TrainingPhase::kForward;
  TrainingWork work = WorkOf(shape, phase, tokens, recomputes);
  // As they are, rounded up to whole pages.
  work.read_bytes = work.written_bytes = 0;
  for (const TrainingUnit& unit : units.units) {
    work.read_bytes += static_cast<double>(unit.weights_required_bytes);
    if (is_forward) continue;
    work.read_bytes += static_cast<double>(unit.float_bytes + unit.state_bytes());
    work.written_bytes += static_cast<double>(unit.float_bytes + unit.written_bytes());
  }
  return work;
}

}  // namespace weir
