// Rotary frequencies from a file's metadata: base, linear scaling, YaRN, LongRoPE, Llama 3's
// divisors.
#ifndef WEIR_MODELS_ROPE_CONFIG_H_
#define WEIR_MODELS_ROPE_CONFIG_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "models/architecture.h"
#include "models/config.h"
#include "models/tensor_index.h"

namespace weir {

// One element, or two where windowed layers have a base of their own (the second is theirs).
// `key_columns` and `context_length` as in the config. Divisor tensors are named where the index
// has them; their shapes are checked by BindModelTensors.
absl::StatusOr<std::vector<RopeConfig>> MakeRopeConfigs(const TensorIndex& index,
                                                        const Architecture& architecture,
                                                        uint32_t key_columns,
                                                        uint32_t context_length);

}  // namespace weir

#endif  // WEIR_MODELS_ROPE_CONFIG_H_
