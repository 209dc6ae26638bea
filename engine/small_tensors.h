// SmallTensors: norms, biases and rope factors as float32, always in memory. Together they are a
// fraction of a percent of a model, so they never stream.
#ifndef WEIR_ENGINE_SMALL_TENSORS_H_
#define WEIR_ENGINE_SMALL_TENSORS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/model.h"
#include "io/reader.h"

namespace weir {

class SmallTensors {
 public:
  // What Load will need, for the budget.
  static uint64_t Bytes(const Model& model);

  // Reads them all through `reader` into `memory` (Bytes long, 64-byte aligned), by way of
  // `staging` (4096-byte aligned; the larger, the fewer rounds). `context_tokens` chooses between
  // short and long rope factors.
  static absl::StatusOr<SmallTensors> Load(const Model& model, uint32_t context_tokens,
                                           Reader& reader, absl::Span<uint8_t> staging,
                                           uint8_t* memory);

  // Every value 1, nothing read: to measure what the model's steps take.
  static SmallTensors OfOnes(const Model& model, uint8_t* memory);

  // The same tensors in another memory that holds a copy of the first: `from` is where that began.
  SmallTensors MovedTo(const uint8_t* from, uint8_t* to) const;

  // Null for null; otherwise a tensor that the model has (checked).
  const float* Find(const TensorInfo* tensor) const;
  // [rotary_columns / 2] of config.ropes[index], with the divisor tensor applied.
  const float* inverse_frequency(uint32_t index) const { return inverse_frequency_[index]; }

 private:
  void AddFrequencies(const Model& model, uint32_t context_tokens, uint8_t* memory);

  absl::flat_hash_map<const TensorInfo*, const float*> by_tensor_;
  std::vector<const float*> inverse_frequency_;
};

}  // namespace weir

#endif  // WEIR_ENGINE_SMALL_TENSORS_H_
