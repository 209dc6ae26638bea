// Any bytes as a GGUF file: header, config, tensor binding, vocabulary and chat template must
// return, never crash or take memory out of proportion; and a tokenizer that was made must encode
// and decode. gguf_mutator.cc keeps inputs close enough to files that all of this is reached.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "io/base.h"
#include "models/chat_template.h"
#include "models/config.h"
#include "models/gguf.h"
#include "models/layer_tensors.h"
#include "models/tokenizer.h"

namespace weir {
namespace {

void UseTokenizer(TensorIndex& index) {
  const std::string source = index.metadata.GetStringOr("tokenizer.chat_template", "").value_or("");
  const absl::StatusOr<std::unique_ptr<Tokenizer>> made = Tokenizer::Make(index.metadata);
  if (!made.ok()) return;
  const Tokenizer& tokenizer = **made;
  std::string text = " ab a<s>\xE2\x96\x81\xff<|im_start|>";
  if (const auto family = RecogniseChatTemplate(source)) {
    text += FormatChat(*family, source, {{"user", "ab"}}, true).value_or("").substr(0, 4096);
  }
  const std::vector<TokenId> ids = tokenizer.Encode(text, {});
  for (const TokenId id : ids) WEIR_CHECK(id >= 0 && static_cast<uint32_t>(id) < tokenizer.size());
  (void)tokenizer.Decode(ids, true);
}

void UseIndex(TensorIndex index, uint64_t file_bytes) {
  for (const TensorInfo& tensor : index.tensors) {
    WEIR_CHECK(tensor.offset_bytes <= file_bytes);
    WEIR_CHECK(tensor.bytes <= file_bytes - tensor.offset_bytes);
  }
  const absl::StatusOr<ModelConfig> config = MakeModelConfig(index);
  if (config.ok()) {
    const absl::StatusOr<ModelTensors> tensors = BindModelTensors(index, *config);
    if (tensors.ok()) {
      WEIR_CHECK(tensors->layers.size() == config->layers.size());
      WEIR_CHECK(tensors->embedding != nullptr && tensors->output != nullptr);
    }
  }
  // Also of a file whose network cannot be run: `weir tokenize` needs no network.
  UseTokenizer(index);
}

}  // namespace
}  // namespace weir

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view header(reinterpret_cast<const char*>(data), size);
  // As if it were the whole file, and as the beginning of a file of 1 TiB.
  for (const uint64_t file_bytes : {uint64_t{size}, uint64_t{1} << 40}) {
    absl::StatusOr<weir::TensorIndex> index =
        weir::ParseGgufHeader(header, file_bytes, "fuzz.gguf");
    if (index.ok()) weir::UseIndex(*std::move(index), file_bytes);
  }
  return 0;
}
