// TensorIndex: what a model file holds, without a single weight byte: names, dtypes, shapes, byte
// ranges and metadata. Formats (gguf; later safetensors) fill it in.
#ifndef WEIR_MODELS_TENSOR_INDEX_H_
#define WEIR_MODELS_TENSOR_INDEX_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/dtype.h"

namespace weir {

// Many strings in one allocation: vocabularies have a quarter of a million.
class StringTable {
 public:
  void Add(std::string_view text);  // at most 4 GiB in all (checked)
  void Reserve(size_t count);
  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t index) const;
  uint64_t heap_bytes() const;  // for the budget
  void ShrinkToFit();

 private:
  std::string bytes_;
  std::vector<uint32_t> ends_;
};

// Integers of every width are widened; `bool` stays apart. Arrays hold one kind.
using MetadataValue = std::variant<uint64_t, int64_t, double, bool, std::string, StringTable,
                                   std::vector<int64_t>, std::vector<double>, std::vector<bool>>;

// "a string", "an array of integers": for messages.
std::string_view MetadataKindName(const MetadataValue& value);

class Metadata {
 public:
  // The name of the file, for messages.
  std::string source;

  bool Has(std::string_view key) const;
  const MetadataValue* Find(std::string_view key) const;
  void Set(std::string key, MetadataValue value);  // replaces a value that is there
  // Takes a value out (a vocabulary is moved, never copied); null when absent.
  std::unique_ptr<MetadataValue> Take(std::string_view key);

  // Typed access. Absent: NotFound; of another type or out of range: InvalidArgument. Both name
  // file, key and what was expected. Signed, unsigned and bool-like conversions are made only where
  // the value fits.
  absl::StatusOr<uint64_t> GetUint(std::string_view key) const;
  absl::StatusOr<double> GetFloat(std::string_view key) const;
  absl::StatusOr<bool> GetBool(std::string_view key) const;
  absl::StatusOr<std::string> GetString(std::string_view key) const;
  // The default only where the key is absent; a value of the wrong type is still an error.
  absl::StatusOr<uint64_t> GetUintOr(std::string_view key, uint64_t fallback) const;
  absl::StatusOr<double> GetFloatOr(std::string_view key, double fallback) const;
  absl::StatusOr<bool> GetBoolOr(std::string_view key, bool fallback) const;
  absl::StatusOr<std::string> GetStringOr(std::string_view key, std::string_view fallback) const;

  // In file order.
  const std::vector<std::pair<std::string, MetadataValue>>& entries() const { return entries_; }

 private:
  std::vector<std::pair<std::string, MetadataValue>> entries_;
  absl::flat_hash_map<std::string, size_t> index_;
};

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  // Fastest dimension first, as GGUF has it: a weight [rows, columns] has dims {columns, rows}.
  std::vector<uint64_t> dims;
  uint32_t file = 0;          // index into TensorIndex::files
  uint64_t offset_bytes = 0;  // from the start of that file
  uint64_t bytes = 0;

  uint64_t columns() const { return dims.empty() ? 1 : dims[0]; }
  uint64_t rows() const;  // product of all other dims
};

struct ModelFile {
  std::string path;
  uint64_t size_bytes = 0;
};

struct TensorIndex {
  std::string format;            // "GGUF v3"
  std::vector<ModelFile> files;  // more than one for split models
  Metadata metadata;
  std::vector<TensorInfo> tensors;                     // in file order
  absl::flat_hash_map<std::string, uint32_t> by_name;  // into tensors

  const TensorInfo* Find(std::string_view name) const;  // null when absent
  uint64_t tensor_bytes() const;                        // sum over tensors
};

}  // namespace weir

#endif  // WEIR_MODELS_TENSOR_INDEX_H_
