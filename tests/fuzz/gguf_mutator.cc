// Mutates a GGUF file field by field (libFuzzer's LLVMFuzzerCustomMutator), so that lengths and
// counts stay true while what they measure changes; now and then one of them is made to lie.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "io/split_mix.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace weir {
namespace {

constexpr uint32_t kString = 8;
constexpr uint32_t kArray = 9;

constexpr std::string_view kKeys[] = {
    "general.architecture",
    "general.alignment",
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.attention.sliding_window",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scaling.type",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.original_context_length",
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.chat_template",
    "split.count",
};
constexpr std::string_view kTexts[] = {"llama",
                                       "qwen2",
                                       "qwen3",
                                       "gemma",
                                       "gemma2",
                                       "gemma3",
                                       "phi3",
                                       "gpt2",
                                       "t5",
                                       "yarn",
                                       "none",
                                       "linear",
                                       "longrope",
                                       "default",
                                       "llama-bpe",
                                       "a b",
                                       "</s>",
                                       "<0x0A>",
                                       "<|im_start|>system\\n",
                                       "[INST][/INST]",
                                       "\xE2\x96\x81"};
constexpr uint64_t kNumbers[] = {
    0,          1,          2,          3,          4,        7,          8,          16,
    32,         255,        4096,       0xFFFF,     1u << 20, 0x7FFFFFFF, 0x80000000, ~0u,
    1ull << 32, 1ull << 61, 1ull << 62, 1ull << 63, ~0ull,    0x7FC00000, 0x7F800000, 0x3F800000};

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() { return SplitMix64(&state_); }
  size_t Below(size_t limit) { return limit == 0 ? 0 : Next() % limit; }
  template <typename T, size_t N>
  const T& Pick(const T (&items)[N]) {
    return items[Below(N)];
  }

 private:
  uint64_t state_;
};

struct Entry {
  std::string key;
  uint32_t type = 0;
  uint32_t element_type = 0;          // kArray
  std::vector<std::string> elements;  // one for a value that is no array
};
struct Tensor {
  std::string name;
  std::vector<uint64_t> dims;
  uint32_t type = 0;
  uint64_t offset = 0;
};
struct Model {
  uint32_t version = 3;
  std::vector<Entry> entries;
  std::vector<Tensor> tensors;
  std::string data;
  int64_t lie_about_tensors = 0;
  int64_t lie_about_entries = 0;
};

size_t WidthOf(uint32_t type) {
  constexpr size_t kWidths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < std::size(kWidths) ? kWidths[type] : 0;
}

// As much of a file as makes sense.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  Model Read() {
    Model model;
    Take(4);
    model.version = Number<uint32_t>();
    const uint64_t tensors = Number<uint64_t>();
    const uint64_t entries = Number<uint64_t>();
    for (uint64_t i = 0; i < entries && good_; ++i) ReadEntry(&model);
    for (uint64_t i = 0; i < tensors && good_; ++i) ReadTensor(&model);
    Take(std::min<size_t>((32 - at_ % 32) % 32, bytes_.size() - at_));
    model.data = bytes_.substr(at_);
    return model;
  }

 private:
  std::string Take(uint64_t count) {
    if (count > bytes_.size() - at_) good_ = false;
    if (!good_) return {};
    at_ += count;
    return std::string(bytes_.substr(at_ - count, count));
  }
  template <typename T>
  T Number() {
    const std::string bytes = Take(sizeof(T));
    T value{};
    if (good_) std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
  std::string Value(uint32_t type) {
    return Take(type == kString ? Number<uint64_t>() : WidthOf(type));
  }
  void ReadEntry(Model* model) {
    Entry entry;
    entry.key = Value(kString);
    entry.type = Number<uint32_t>();
    uint64_t count = 1;
    if (entry.type == kArray) {
      entry.element_type = Number<uint32_t>();
      count = Number<uint64_t>();
    }
    const uint32_t type = entry.type == kArray ? entry.element_type : entry.type;
    if (type != kString && WidthOf(type) == 0) good_ = false;
    for (uint64_t i = 0; i < count && good_; ++i) entry.elements.push_back(Value(type));
    if (good_) model->entries.push_back(std::move(entry));
  }
  void ReadTensor(Model* model) {
    Tensor tensor;
    tensor.name = Value(kString);
    const uint32_t dims = Number<uint32_t>();
    for (uint32_t i = 0; i < dims && good_; ++i) tensor.dims.push_back(Number<uint64_t>());
    tensor.type = Number<uint32_t>();
    tensor.offset = Number<uint64_t>();
    if (good_) model->tensors.push_back(std::move(tensor));
  }

  std::string_view bytes_;
  size_t at_ = 0;
  bool good_ = true;
};

template <typename T>
void Append(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void AppendValue(uint32_t type, const std::string& value, std::string* out) {
  if (type == kString) Append<uint64_t>(value.size(), out);
  std::string fitted = value;
  if (WidthOf(type) != 0) fitted.resize(WidthOf(type));
  out->append(fitted);
}

std::string Write(const Model& model) {
  std::string out = "GGUF";
  Append(model.version, &out);
  Append<uint64_t>(model.tensors.size() + static_cast<uint64_t>(model.lie_about_tensors), &out);
  Append<uint64_t>(model.entries.size() + static_cast<uint64_t>(model.lie_about_entries), &out);
  for (const Entry& entry : model.entries) {
    AppendValue(kString, entry.key, &out);
    Append(entry.type, &out);
    if (entry.type == kArray) {
      Append(entry.element_type, &out);
      Append<uint64_t>(entry.elements.size(), &out);
    }
    const uint32_t type = entry.type == kArray ? entry.element_type : entry.type;
    for (const std::string& element : entry.elements) AppendValue(type, element, &out);
  }
  for (const Tensor& tensor : model.tensors) {
    AppendValue(kString, tensor.name, &out);
    Append(static_cast<uint32_t>(tensor.dims.size()), &out);
    for (const uint64_t dim : tensor.dims) Append(dim, &out);
    Append(tensor.type, &out);
    Append(tensor.offset, &out);
  }
  out.append((32 - out.size() % 32) % 32, '\0');
  return out + model.data;
}

std::string MutateText(std::string text, Random& random) {
  if (random.Below(3) == 0) return std::string(random.Pick(kTexts));
  const size_t size = text.size();
  text.resize(size + 16);
  text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), size, text.size()));
  return text;
}

std::string SomeNumber(Random& random) {
  const uint64_t number = random.Below(4) == 0 ? random.Next() : random.Pick(kNumbers);
  std::string bytes;
  Append(number, &bytes);
  return bytes;
}

void MutateEntry(Model* model, Random& random) {
  if (model->entries.empty() || random.Below(6) == 0) {
    model->entries.push_back({std::string(random.Pick(kKeys)),
                              static_cast<uint32_t>(random.Below(13)),
                              static_cast<uint32_t>(random.Below(13)),
                              {SomeNumber(random)}});
    return;
  }
  Entry& entry = model->entries[random.Below(model->entries.size())];
  const bool is_text =
      entry.type == kString || (entry.type == kArray && entry.element_type == kString);
  switch (random.Below(8)) {
    case 0:
      entry.key = random.Pick(kKeys);
      break;
    case 1:
      entry.type = static_cast<uint32_t>(random.Below(14));
      break;
    case 2:
      entry.element_type = static_cast<uint32_t>(random.Below(14));
      break;
    case 3:
      if (!entry.elements.empty()) entry.elements.erase(entry.elements.begin());
      break;
    case 4:
      entry.elements.push_back(is_text ? std::string(random.Pick(kTexts)) : SomeNumber(random));
      break;
    case 5:
      std::swap(entry, model->entries[random.Below(model->entries.size())]);
      break;
    default:
      if (entry.elements.empty()) break;
      std::string& element = entry.elements[random.Below(entry.elements.size())];
      element = is_text ? MutateText(element, random) : SomeNumber(random);
  }
}

void MutateTensor(Model* model, Random& random) {
  if (model->tensors.empty()) {
    model->tensors.push_back({"token_embd.weight", {4, 8}, 0, 0});
    return;
  }
  const size_t at = random.Below(model->tensors.size());
  Tensor& tensor = model->tensors[at];
  switch (random.Below(7)) {
    case 0:
      tensor.dims.push_back(random.Pick(kNumbers));
      break;
    case 1:
      if (!tensor.dims.empty())
        tensor.dims[random.Below(tensor.dims.size())] = random.Pick(kNumbers);
      break;
    case 2:
      tensor.type = static_cast<uint32_t>(random.Below(45));
      break;
    case 3:
      tensor.offset = random.Below(2) == 0 ? random.Pick(kNumbers) : 32 * random.Below(64);
      break;
    case 4:
      tensor.name = MutateText(tensor.name, random);
      break;
    case 5:
      model->tensors.erase(model->tensors.begin() + static_cast<ptrdiff_t>(at));
      break;
    default:
      std::swap(tensor.dims, model->tensors[random.Below(model->tensors.size())].dims);
  }
}

}  // namespace
}  // namespace weir

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  weir::Random random(seed);
  // One in eight is left to chance altogether.
  if (random.Below(8) == 0) return LLVMFuzzerMutate(data, size, max_size);
  weir::Model model =
      weir::Reader(std::string_view(reinterpret_cast<const char*>(data), size)).Read();
  for (size_t i = 0; i < 1 + random.Below(3); ++i) {
    const size_t kind = random.Below(12);
    if (kind < 7) {
      weir::MutateEntry(&model, random);
    } else if (kind < 10) {
      weir::MutateTensor(&model, random);
    } else if (kind == 10) {
      model.data.resize(random.Below(4096));
    } else {
      const auto lie = static_cast<int64_t>(weir::SomeNumber(random)[0]);
      (random.Below(2) == 0 ? model.lie_about_tensors : model.lie_about_entries) = lie;
    }
  }
  const std::string out = weir::Write(model);
  if (out.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::copy(out.begin(), out.end(), data);
  return out.size();
}
