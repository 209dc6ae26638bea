// Model: what is known of a model from its header alone: tensors, shape, tokenizer, chat template.
// No weight byte is read.
#ifndef WEIR_ENGINE_MODEL_H_
#define WEIR_ENGINE_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "io/file.h"
#include "models/config.h"
#include "models/layer_tensors.h"
#include "models/tensor_index.h"
#include "models/tokenizer.h"

namespace weir {

struct Model {
  std::string path;
  TensorIndex index;
  ModelConfig config;
  ModelTensors tensors;  // points into index
  std::unique_ptr<Tokenizer> tokenizer;
  std::string chat_template;  // Jinja source; empty when the file has none

  // Parts of a split model, opened for direct reads where the file system allows it; parallel to
  // index.files.
  std::vector<std::unique_ptr<File>> files;
};

// Reads the header and checks that every tensor of the architecture is there with its shape.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& path);

}  // namespace weir

#endif  // WEIR_ENGINE_MODEL_H_
