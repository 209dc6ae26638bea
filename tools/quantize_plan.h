// What `weir quantize` makes of each tensor: a decision from the index alone.
#ifndef WEIR_TOOLS_QUANTIZE_PLAN_H_
#define WEIR_TOOLS_QUANTIZE_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/tensor_index.h"

namespace weir {

struct QuantizeFormats {
  DType matrices = DType::kQ8_0;
  // Of the output matrix and of the token embedding; absent: as `matrices`.
  std::optional<DType> output = {}, embedding = {};
};

struct QuantizePlan {
  std::vector<DType> dtypes;   // [index.tensors]; that of the source where a
                               // tensor stays as it is
  uint64_t changed_count = 0;  // tensors that get another format
  // For the user, one sentence each: which matrices could not have the format
  // that was asked for, and which have lost something before.
  std::vector<std::string> notes;
};

// Matrices get the format that was asked for, those whose rows are not whole
// blocks of it Q8_0 or F16. Vectors stay as they are, and so do the small
// matrices whose values decide (norms, routers, rope divisors, positions).
// InvalidArgument for a format that weir cannot write, for a model without
// matrices, and for an output format where the embedding serves as output.
absl::StatusOr<QuantizePlan> PlanQuantization(const TensorIndex& index,
                                              const QuantizeFormats& formats);

// `general.file_type` of a file whose matrices have this format: llama.cpp's
// enum llama_ftype.
uint32_t GgufFileType(DType dtype);

}  // namespace weir

#endif  // WEIR_TOOLS_QUANTIZE_PLAN_H_
