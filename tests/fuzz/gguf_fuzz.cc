// Any bytes as a GGUF file: header, config and tensor binding must return, never crash or take
// memory out of proportion.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "io/base.h"
#include "models/config.h"
#include "models/gguf.h"
#include "models/layer_tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view header(reinterpret_cast<const char*>(data), size);
  // As if it were the whole file, and as the beginning of a file of 1 TiB.
  for (const uint64_t file_bytes : {uint64_t{size}, uint64_t{1} << 40}) {
    const absl::StatusOr<weir::TensorIndex> index =
        weir::ParseGgufHeader(header, file_bytes, "fuzz.gguf");
    if (!index.ok()) continue;
    for (const weir::TensorInfo& tensor : index->tensors) {
      WEIR_CHECK(tensor.offset_bytes <= file_bytes);
      WEIR_CHECK(tensor.bytes <= file_bytes - tensor.offset_bytes);
    }
    const absl::StatusOr<weir::ModelConfig> config = weir::MakeModelConfig(*index);
    if (!config.ok()) continue;
    const absl::StatusOr<weir::ModelTensors> tensors = weir::BindModelTensors(*index, *config);
    if (!tensors.ok()) continue;
    WEIR_CHECK(tensors->layers.size() == config->layers.size());
    WEIR_CHECK(tensors->embedding != nullptr && tensors->output != nullptr);
  }
  return 0;
}
