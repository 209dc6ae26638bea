#include "tests/models/raw_model_helper.h"

#include <algorithm>

#include "io/base.h"
#include "tests/models/gguf_bytes_helper.h"

namespace weir {

std::string RawModel::Bytes() const {
  ByteBuilder file;
  file.Raw(magic).U32(version);
  file.U64(said_tensors.value_or(tensors.size())).U64(said_entries.value_or(entries.size()));
  for (const RawEntry& entry : entries) file.Text(entry.key).U32(entry.type).Raw(entry.value);
  for (const RawTensor& tensor : tensors) {
    file.Text(tensor.name);
    file.U32(tensor.said_dimensions.value_or(static_cast<uint32_t>(tensor.dims.size())));
    for (const uint64_t dim : tensor.dims) file.U64(dim);
    file.U32(tensor.type).U64(tensor.offset);
  }
  return file.PadTo(32).Raw(data).bytes();
}

RawEntry& RawModel::Entry(std::string_view key) {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const RawEntry& entry) { return entry.key == key; });
  if (found != entries.end()) return *found;
  entries.push_back({std::string(key), 0, ""});
  return entries.back();
}

RawTensor& RawModel::Tensor(std::string_view name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const RawTensor& tensor) { return tensor.name == name; });
  WEIR_CHECK(found != tensors.end());
  return *found;
}

void RawModel::Remove(std::string_view key) {
  WEIR_CHECK(std::erase_if(entries, [&](const RawEntry& entry) { return entry.key == key; }) == 1);
}

void RawModel::RemoveTensor(std::string_view name) {
  WEIR_CHECK(std::erase_if(tensors, [&](const RawTensor& tensor) { return tensor.name == name; }) ==
             1);
}

void RawModel::Set(std::string_view key, GgufType type, std::string value) {
  RawEntry& entry = Entry(key);
  entry.type = static_cast<uint32_t>(type);
  entry.value = std::move(value);
}

void RawModel::SetArray(std::string_view key, uint32_t type, uint64_t count,
                        std::string_view rest) {
  Set(key, GgufType::kArray, ByteBuilder().U32(type).U64(count).Raw(rest).bytes());
}

void RawModel::SetText(std::string_view key, std::string_view text) {
  Set(key, GgufType::kString, ByteBuilder().Text(text).bytes());
}

void RawModel::SetTexts(std::string_view key, const std::vector<std::string>& texts) {
  ByteBuilder rest;
  for (const std::string& text : texts) rest.Text(text);
  SetArray(key, static_cast<uint32_t>(GgufType::kString), texts.size(), rest.bytes());
}

void RawModel::SetInts(std::string_view key, const std::vector<int32_t>& numbers) {
  ByteBuilder rest;
  for (const int32_t number : numbers) rest.Number(number);
  SetArray(key, static_cast<uint32_t>(GgufType::kInt32), numbers.size(), rest.bytes());
}

void RawModel::SetFloats(std::string_view key, const std::vector<float>& numbers) {
  ByteBuilder rest;
  for (const float number : numbers) rest.Number(number);
  SetArray(key, static_cast<uint32_t>(GgufType::kFloat32), numbers.size(), rest.bytes());
}

void RawModel::SetBytes(std::string_view key, std::string_view bytes) {
  SetArray(key, static_cast<uint32_t>(GgufType::kUint8), bytes.size(), bytes);
}

void RawModel::PlaceTensors() {
  ByteBuilder bytes;
  int next = 1;
  for (RawTensor& tensor : tensors) {
    tensor.offset = bytes.PadTo(32).bytes().size();
    uint64_t elements = 1;
    for (const uint64_t dim : tensor.dims) elements *= dim;
    for (uint64_t i = 0; i < elements; ++i) {
      bytes.Number(static_cast<float>(next - 8) / 8);
      next = next * 5 % 17;  // every number from 1 to 16, over and over
    }
  }
  data = bytes.PadTo(32).bytes();
}

RawModel SoundModel(const RawSizes& sizes) {
  RawModel model;
  model.SetText("general.architecture", "llama");
  model.SetUint("llama.block_count", 1);
  model.SetUint("llama.context_length", 64);
  model.SetUint("llama.embedding_length", sizes.columns);
  model.SetUint("llama.feed_forward_length", sizes.feed_forward);
  model.SetUint("llama.attention.head_count", sizes.heads);
  model.SetUint("llama.attention.head_count_kv", 1);
  model.SetUint("llama.attention.key_length", sizes.key_columns);
  model.SetUint("llama.attention.value_length", sizes.value_columns);
  model.SetFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  model.SetFloat("llama.rope.freq_base", 10000);
  model.SetText("tokenizer.ggml.model", "llama");
  const std::string space = "\xE2\x96\x81";
  model.SetTexts("tokenizer.ggml.tokens",
                 {"<unk>", "<s>", "</s>", space, "a", "b", "ab", space + "a"});
  model.SetFloats("tokenizer.ggml.scores", {0, 0, 0, -1, -2, -3, -1, -1.5f});
  model.SetInts("tokenizer.ggml.token_type", {2, 3, 3, 1, 1, 1, 1, 1});
  const uint64_t columns = sizes.columns;
  const uint64_t key_rows = sizes.key_columns;
  const uint64_t query_rows = key_rows * sizes.heads;
  const uint64_t inner = sizes.feed_forward;
  model.tensors = {
      {.name = "token_embd.weight", .dims = {columns, sizes.rows}},
      {.name = "blk.0.attn_norm.weight", .dims = {columns}},
      {.name = "blk.0.attn_q.weight", .dims = {columns, query_rows}},
      {.name = "blk.0.attn_k.weight", .dims = {columns, key_rows}},
      {.name = "blk.0.attn_v.weight", .dims = {columns, sizes.value_columns}},
      {.name = "blk.0.attn_output.weight",
       .dims = {uint64_t{sizes.value_columns} * sizes.heads, columns}},
      {.name = "blk.0.ffn_norm.weight", .dims = {columns}},
      {.name = "blk.0.ffn_gate.weight", .dims = {columns, inner}},
      {.name = "blk.0.ffn_up.weight", .dims = {columns, inner}},
      {.name = "blk.0.ffn_down.weight", .dims = {inner, columns}},
      {.name = "output_norm.weight", .dims = {columns}},
  };
  model.PlaceTensors();
  return model;
}

RawModel SoundBpeModel() {
  RawModel model = SoundModel();
  model.SetText("tokenizer.ggml.model", "gpt2");
  model.SetText("tokenizer.ggml.pre", "gpt-2");
  model.SetTexts("tokenizer.ggml.merges", {"a b", "ab ab"});
  model.SetUint("tokenizer.ggml.bos_token_id", 1);
  model.SetUint("tokenizer.ggml.eos_token_id", 2);
  return model;
}

RawModel SoundUnigramModel() {
  RawModel model = SoundModel();
  model.SetText("tokenizer.ggml.model", "t5");
  model.SetUint("tokenizer.ggml.unknown_token_id", 0);
  model.SetUint("tokenizer.ggml.eos_token_id", 2);
  return model;
}

}  // namespace weir
