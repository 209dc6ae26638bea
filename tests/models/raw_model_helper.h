// A GGUF model as its raw fields, so that each of them can be wrong on its own.
#ifndef WEIR_TESTS_MODELS_RAW_MODEL_HELPER_H_
#define WEIR_TESTS_MODELS_RAW_MODEL_HELPER_H_

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/gguf_parser.h"

namespace weir {

struct RawEntry {
  std::string key;
  uint32_t type = 0;
  std::string value;  // as in the file
};

struct RawTensor {
  std::string name;
  std::vector<uint64_t> dims;
  uint32_t type = 0;  // F32
  uint64_t offset = 0;
  std::optional<uint32_t> said_dimensions = std::nullopt;  // else dims.size()
};

struct RawModel {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> said_tensors;  // else tensors.size()
  std::optional<uint64_t> said_entries;  // else entries.size()
  std::vector<RawEntry> entries;
  std::vector<RawTensor> tensors;
  std::string data;

  std::string Bytes() const;

  RawEntry& Entry(std::string_view key);     // adds one where there is none
  RawTensor& Tensor(std::string_view name);  // of those that are there
  void Remove(std::string_view key);
  void RemoveTensor(std::string_view name);

  template <typename T>
  void SetNumber(std::string_view key, GgufType type, T value) {
    std::string bytes(sizeof(T), '\0');
    std::memcpy(bytes.data(), &value, sizeof(T));
    Set(key, type, bytes);
  }
  void SetUint(std::string_view key, uint32_t value) { SetNumber(key, GgufType::kUint32, value); }
  void SetFloat(std::string_view key, float value) { SetNumber(key, GgufType::kFloat32, value); }
  void SetText(std::string_view key, std::string_view text);
  void SetTexts(std::string_view key, const std::vector<std::string>& texts);
  void SetInts(std::string_view key, const std::vector<int32_t>& numbers);
  void SetFloats(std::string_view key, const std::vector<float>& numbers);
  void SetBytes(std::string_view key, std::string_view bytes);  // an array of uint8
  // An array whose head says this, followed by `rest`.
  void SetArray(std::string_view key, uint32_t type, uint64_t count, std::string_view rest);
  void Set(std::string_view key, GgufType type, std::string value);

  // Puts the tensors behind one another and gives them data: small numbers of both signs.
  void PlaceTensors();
};

// Sizes of the sound model; odd ones where nothing forbids it.
struct RawSizes {
  uint32_t columns = 4;
  uint32_t heads = 2;
  uint32_t key_columns = 2;
  uint32_t value_columns = 2;
  uint32_t feed_forward = 4;
  uint32_t rows = 8;  // of token_embd.weight; the vocabulary has 8 tokens
};

// One layer of F32, a SentencePiece vocabulary: loads and runs.
RawModel SoundModel(const RawSizes& sizes = {});
// The same with byte-level BPE, and with a unigram vocabulary.
RawModel SoundBpeModel();
RawModel SoundUnigramModel();

}  // namespace weir

#endif  // WEIR_TESTS_MODELS_RAW_MODEL_HELPER_H_
