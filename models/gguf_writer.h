// Writes GGUF files: for `weir synth` and `weir quantize`, and for tests that need files of every
// kind.
#ifndef WEIR_MODELS_GGUF_WRITER_H_
#define WEIR_MODELS_GGUF_WRITER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/dtype.h"
#include "models/tensor_index.h"

namespace weir {

struct GgufTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<uint64_t> dims;  // fastest first
};

// Metadata entries as they lie in a header.
struct GgufEntries {
  std::string bytes;
  uint64_t count = 0;
};

struct GgufLayoutOptions {
  uint32_t version = 3;           // 2 or 3: the layout is the same
  uint64_t alignment_bytes = 32;  // a power of two; written as general.alignment unless 32
  // Written after `metadata`, with other keys and not general.alignment: what comes from another
  // file and keeps its types.
  GgufEntries entries = {};
};

// A file before its tensor data: the header with its padding, and where each tensor will lie.
struct GgufLayout {
  std::string header;
  std::vector<TensorInfo> tensors;  // offset_bytes from the start of the file, in file order
  uint64_t file_bytes = 0;
};

// Integers are written as 32 bits where they fit (what readers expect), numbers as float32; split.*
// keys in the widths that llama.cpp demands. InvalidArgument for shapes that no format can hold.
absl::StatusOr<GgufLayout> LayOutGguf(const Metadata& metadata,
                                      absl::Span<const GgufTensor> tensors,
                                      const GgufLayoutOptions& options);

// Fills in `out` with the bytes of tensor number `tensor` from `offset_bytes` on. Called in file
// order, in pieces of GgufPieceBytes(dtype) (the last of a tensor may be shorter).
using FillTensor =
    std::function<void(size_t tensor, uint64_t offset_bytes, absl::Span<uint8_t> out)>;

// About 1 MiB, whole blocks.
uint64_t GgufPieceBytes(DType dtype);

struct GgufWriteOptions {
  bool overwrite = false;
  bool sync = true;  // fsync file and directory before returning
  // Called after every piece.
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;
  // Asked each time that a piece was filled in; what is not OK ends the writing. May be null.
  std::function<absl::Status()> check = {};
};

// Writes to a temporary name beside `path` and renames; the partial file is removed on any error.
// AlreadyExists without `overwrite`; ResourceExhausted says bytes wanted and free. Blocks.
absl::Status WriteGguf(const std::string& path, const GgufLayout& layout, const FillTensor& fill,
                       const GgufWriteOptions& options);

}  // namespace weir

#endif  // WEIR_MODELS_GGUF_WRITER_H_
