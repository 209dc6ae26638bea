// Recognises, by their first bytes, the files that people give by mistake in place of a GGUF.
#ifndef WEIR_MODELS_FOREIGN_FORMATS_H_
#define WEIR_MODELS_FOREIGN_FORMATS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace weir {

// `head`: the first bytes of the file (512 are enough), `file_bytes`: its size. OK when the magic
// is GGUF's; otherwise InvalidArgument with one paragraph that says what the file is and what to
// do.
absl::Status CheckGgufMagic(std::string_view head, uint64_t file_bytes, const std::string& path);

}  // namespace weir

#endif  // WEIR_MODELS_FOREIGN_FORMATS_H_
