// Where models are: a path, or the name of a model that tools/fetch_model keeps in the user's cache
// folder.
#ifndef WEIR_TOOLS_MODEL_PATH_H_
#define WEIR_TOOLS_MODEL_PATH_H_

#include <string>

#include "absl/status/statusor.h"

namespace weir {

// ${XDG_CACHE_HOME:-~/.cache}/weir (XDG Base Directory Specification); empty when neither variable
// is set.
std::string UserCacheFolder();

// A path that exists is taken as it is; a plain name is looked up in the cache folder's models/.
// NotFound says how to fetch it.
absl::StatusOr<std::string> ResolveModel(const std::string& model);

}  // namespace weir

#endif  // WEIR_TOOLS_MODEL_PATH_H_
