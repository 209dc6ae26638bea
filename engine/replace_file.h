// Small files that readers never see half of.
#ifndef WEIR_ENGINE_REPLACE_FILE_H_
#define WEIR_ENGINE_REPLACE_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace weir {

// Writes `text` beside `path`, then gives it that name in one step. The folder is there already.
// Errors name the path; nothing is left beside it then.
absl::Status ReplaceFile(const std::string& path, const std::string& text);

}  // namespace weir

#endif  // WEIR_ENGINE_REPLACE_FILE_H_
