// GGUF v2 and v3, read in place: a bounded parser of the header; no mmap, no weight byte read.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
//
// Every count, length, offset and product is checked against the bytes that remain, so that a file
// from a stranger costs at most memory in proportion to its own size. Errors name the file, the
// offset, what was expected and what to do.
#ifndef WEIR_MODELS_GGUF_H_
#define WEIR_MODELS_GGUF_H_

#include <string>

#include "absl/status/statusor.h"
#include "models/tensor_index.h"

namespace weir {

// Reads through the page cache in pieces, as far as the header goes; blocks. Memory: what the index
// holds, plus a small window. Opens one file, or, given "NAME-00001-of-000NN.gguf", all NN parts
// beside it. safetensors, PyTorch and other well-known files are recognised by their first bytes
// and refused by name.
absl::StatusOr<TensorIndex> OpenGguf(const std::string& path);

// The parser proper, over a whole header held in memory (used by the fuzz target and by OpenGguf).
// `file_bytes` is the size of the file the header came from: tensors must lie inside it.
// OutOfRange when `header` is too short although the file is not: call again with more of it.
absl::StatusOr<TensorIndex> ParseGgufHeader(std::string_view header, uint64_t file_bytes,
                                            const std::string& path);

}  // namespace weir

#endif  // WEIR_MODELS_GGUF_H_
