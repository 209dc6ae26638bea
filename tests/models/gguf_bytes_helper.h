// Builds GGUF files byte by byte, right or wrong on purpose.
#ifndef WEIR_TESTS_MODELS_GGUF_BYTES_HELPER_H_
#define WEIR_TESTS_MODELS_GGUF_BYTES_HELPER_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "models/gguf_parser.h"

namespace weir {

class ByteBuilder {
 public:
  template <typename T>
  ByteBuilder& Number(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    bytes_.append(bytes, sizeof(T));
    return *this;
  }
  ByteBuilder& U32(uint32_t value) { return Number(value); }
  ByteBuilder& U64(uint64_t value) { return Number(value); }
  ByteBuilder& Type(GgufType type) { return U32(static_cast<uint32_t>(type)); }
  ByteBuilder& Raw(std::string_view text) {
    bytes_.append(text);
    return *this;
  }
  ByteBuilder& Text(std::string_view text) { return U64(text.size()).Raw(text); }
  // Magic, version and counts.
  ByteBuilder& Start(uint64_t tensors, uint64_t entries, uint32_t version = 3) {
    return Raw("GGUF").U32(version).U64(tensors).U64(entries);
  }
  ByteBuilder& Entry(std::string_view key, std::string_view text) {
    return Text(key).Type(GgufType::kString).Text(text);
  }
  ByteBuilder& Entry(std::string_view key, uint32_t value) {
    return Text(key).Type(GgufType::kUint32).U32(value);
  }
  ByteBuilder& Array(std::string_view key, GgufType type, uint64_t count) {
    return Text(key).Type(GgufType::kArray).Type(type).U64(count);
  }
  ByteBuilder& Tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                      uint64_t offset) {
    Text(name).U32(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) U64(dim);
    return U32(type).U64(offset);
  }
  ByteBuilder& Zeros(uint64_t count) {
    bytes_.append(count, '\0');
    return *this;
  }
  ByteBuilder& PadTo(uint64_t alignment) {
    while (bytes_.size() % alignment != 0) bytes_.push_back('\0');
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// A folder that is gone, with all in it, when the test ends.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string File(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

void WriteFile(const std::string& path, std::string_view bytes);

}  // namespace weir

#endif  // WEIR_TESTS_MODELS_GGUF_BYTES_HELPER_H_
