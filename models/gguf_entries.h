// The metadata of a GGUF file as bytes, for a file that is made from another and keeps what it does
// not know: types of integers and floats included, which models/tensor_index.h widens.
#ifndef WEIR_MODELS_GGUF_ENTRIES_H_
#define WEIR_MODELS_GGUF_ENTRIES_H_

#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "models/gguf_writer.h"

namespace weir {

// All entries of the file at `path` whose key `is_wanted`, in file order. For files that OpenGguf
// has accepted; one that has changed since is an error, never more memory than its own size.
// Blocks.
absl::StatusOr<GgufEntries> ReadGgufEntries(const std::string& path,
                                            absl::FunctionRef<bool(std::string_view)> is_wanted);

}  // namespace weir

#endif  // WEIR_MODELS_GGUF_ENTRIES_H_
