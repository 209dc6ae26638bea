#include "engine/small_tensors.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/dequantize.h"

namespace weir {
namespace {

constexpr uint64_t kAlignment = 64;

uint64_t FloatBytes(uint64_t elements) { return AlignUp(elements * sizeof(float), kAlignment); }

// Every small tensor of the model, each once.
std::vector<const TensorInfo*> List(const Model& model) {
  std::vector<const TensorInfo*> list;
  auto add = [&list](const TensorInfo* tensor) {
    if (tensor != nullptr && std::find(list.begin(), list.end(), tensor) == list.end()) {
      list.push_back(tensor);
    }
  };
  for (const LayerTensors& layer : model.tensors.layers) {
    for (const TensorInfo* tensor :
         {layer.attention_norm, layer.query_bias, layer.key_bias, layer.value_bias,
          layer.query_norm, layer.key_norm, layer.attention_output_bias, layer.attention_post_norm,
          layer.feed_forward_norm, layer.feed_forward_post_norm}) {
      add(tensor);
    }
  }
  add(model.tensors.output_norm);
  for (const TensorInfo* tensor : model.tensors.rope_divisors) add(tensor);
  for (const TensorInfo* tensor : model.tensors.long_rope_divisors) add(tensor);
  return list;
}

uint64_t Elements(const TensorInfo& tensor) { return tensor.columns() * tensor.rows(); }

// One round: as many tensors as fit into `staging`, read together, then converted to `out`.
struct Staged {
  const TensorInfo* tensor;
  ReadOp op;
  uint64_t head_bytes;
};

absl::Status WaitForAll(Reader& reader, size_t count) {
  absl::Status first;
  ReadOp* done[16];
  while (count > 0) {
    const size_t got = reader.Wait(absl::MakeSpan(done), /*timeout_ns=*/-1);
    for (size_t i = 0; i < got; ++i) {
      if (first.ok()) first = done[i]->status;
    }
    count -= got;
  }
  return first;
}

// Reads tensors from list[*next] on; advances *next past those that are staged.
absl::StatusOr<std::vector<std::unique_ptr<Staged>>> ReadRound(
    const Model& model, const std::vector<const TensorInfo*>& list, size_t* next, Reader& reader,
    absl::Span<uint8_t> staging) {
  std::vector<std::unique_ptr<Staged>> round;
  uint64_t used_bytes = 0;
  while (*next < list.size() && reader.in_flight() < reader.capacity()) {
    const TensorInfo* tensor = list[*next];
    const File& file = *model.files[tensor->file];
    const AlignedRange range = file.Widen(tensor->offset_bytes, tensor->bytes);
    if (used_bytes + range.bytes > staging.size()) break;
    auto staged = std::make_unique<Staged>();
    staged->tensor = tensor;
    staged->head_bytes = range.head_bytes;
    staged->op.file = &file;
    staged->op.offset_bytes = range.offset_bytes;
    staged->op.buffer = staging.data() + used_bytes;
    staged->op.bytes = range.bytes;
    staged->op.required_bytes = range.head_bytes + tensor->bytes;
    reader.Submit(&staged->op);
    used_bytes += AlignUp(range.bytes, 4096);
    round.push_back(std::move(staged));
    ++*next;
  }
  WEIR_RETURN_IF_ERROR(WaitForAll(reader, round.size()));
  if (round.empty()) {
    const TensorInfo* tensor = list[*next];
    return absl::ResourceExhaustedError(
        absl::StrCat(model.path, ": tensor ", tensor->name, " of ", tensor->bytes,
                     " bytes does not fit the staging memory of ", staging.size(), " bytes"));
  }
  return round;
}

}  // namespace

uint64_t SmallTensors::Bytes(const Model& model) {
  uint64_t bytes = 0;
  for (const TensorInfo* tensor : List(model)) bytes += FloatBytes(Elements(*tensor));
  for (const RopeConfig& rope : model.config.ropes)
    bytes += FloatBytes(rope.inverse_frequency.size());
  return bytes;
}

absl::StatusOr<SmallTensors> SmallTensors::Load(const Model& model, uint32_t context_tokens,
                                                Reader& reader, absl::Span<uint8_t> staging,
                                                uint8_t* memory) {
  SmallTensors small;
  const std::vector<const TensorInfo*> list = List(model);
  uint8_t* free_memory = memory;
  for (size_t next = 0; next < list.size();) {
    WEIR_ASSIGN_OR_RETURN(auto round, ReadRound(model, list, &next, reader, staging));
    for (const auto& staged : round) {
      auto* out = reinterpret_cast<float*>(free_memory);
      free_memory += FloatBytes(Elements(*staged->tensor));
      DequantizeRow(staged->tensor->dtype, staged->op.buffer + staged->head_bytes,
                    Elements(*staged->tensor), out);
      small.by_tensor_[staged->tensor] = out;
    }
  }
  small.AddFrequencies(model, context_tokens, free_memory);
  return small;
}

SmallTensors SmallTensors::OfOnes(const Model& model, uint8_t* memory) {
  SmallTensors small;
  uint8_t* free_memory = memory;
  for (const TensorInfo* tensor : List(model)) {
    auto* out = reinterpret_cast<float*>(free_memory);
    free_memory += FloatBytes(Elements(*tensor));
    std::fill_n(out, Elements(*tensor), 1.0f);
    small.by_tensor_[tensor] = out;
  }
  small.AddFrequencies(model, /*context_tokens=*/1, free_memory);
  return small;
}

void SmallTensors::AddFrequencies(const Model& model, uint32_t context_tokens, uint8_t* memory) {
  for (size_t i = 0; i < model.config.ropes.size(); ++i) {
    const RopeConfig& rope = model.config.ropes[i];
    const bool is_long = rope.original_context_length > 0 &&
                         context_tokens > rope.original_context_length &&
                         model.tensors.long_rope_divisors[i] != nullptr;
    const float* divisor =
        Find(is_long ? model.tensors.long_rope_divisors[i] : model.tensors.rope_divisors[i]);
    auto* out = reinterpret_cast<float*>(memory);
    memory += FloatBytes(rope.inverse_frequency.size());
    for (size_t k = 0; k < rope.inverse_frequency.size(); ++k) {
      out[k] = rope.inverse_frequency[k] / (divisor == nullptr ? 1.0f : divisor[k]);
    }
    inverse_frequency_.push_back(out);
  }
}

SmallTensors SmallTensors::MovedTo(const uint8_t* from, uint8_t* to) const {
  auto move = [from, to](const float* tensor) {
    return reinterpret_cast<const float*>(to + (reinterpret_cast<const uint8_t*>(tensor) - from));
  };
  SmallTensors moved;
  for (const auto& [info, tensor] : by_tensor_) moved.by_tensor_[info] = move(tensor);
  for (const float* frequencies : inverse_frequency_) {
    moved.inverse_frequency_.push_back(move(frequencies));
  }
  return moved;
}

const float* SmallTensors::Find(const TensorInfo* tensor) const {
  if (tensor == nullptr) return nullptr;
  const auto it = by_tensor_.find(tensor);
  WEIR_CHECK(it != by_tensor_.end());
  return it->second;
}

}  // namespace weir
