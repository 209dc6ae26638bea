#include "engine/model.h"

#include <utility>

#include "io/base.h"
#include "models/gguf.h"

namespace weir {

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& path) {
  auto model = std::make_unique<Model>();
  model->path = path;
  WEIR_ASSIGN_OR_RETURN(model->index, OpenGguf(path));
  WEIR_ASSIGN_OR_RETURN(model->config, MakeModelConfig(model->index));
  WEIR_ASSIGN_OR_RETURN(model->tensors, BindModelTensors(model->index, model->config));
  WEIR_ASSIGN_OR_RETURN(model->chat_template,
                        model->index.metadata.GetStringOr("tokenizer.chat_template", ""));
  WEIR_ASSIGN_OR_RETURN(model->tokenizer, Tokenizer::Make(model->index.metadata));
  for (const ModelFile& file : model->index.files) {
    WEIR_ASSIGN_OR_RETURN(std::unique_ptr<File> opened,
                          File::Open(file.path, FileMode::kDirectOrBuffered));
    model->files.push_back(std::move(opened));
  }
  return model;
}

}  // namespace weir
