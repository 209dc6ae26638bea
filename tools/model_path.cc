#include "tools/model_path.h"

#include <sys/stat.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "tools/exit_codes.h"

namespace weir {
namespace {

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

}  // namespace

std::string UserCacheFolder() {
  const char* xdg = std::getenv("XDG_CACHE_HOME");
  if (xdg != nullptr && xdg[0] == '/') return absl::StrCat(xdg, "/weir");
  const char* home = std::getenv("HOME");
  return home == nullptr || home[0] == '\0' ? "" : absl::StrCat(home, "/.cache/weir");
}

absl::StatusOr<std::string> ResolveModel(const std::string& model) {
  if (Exists(model)) return model;
  const bool plain_name = !model.empty() && model.find('/') == std::string::npos;
  if (!plain_name) {
    return WithExitCode(
        ExitCode::kBadModel,
        absl::NotFoundError(absl::StrCat(
            model,
            ": no such file. Give the path of a GGUF file, or the name of a model that "
            "`tools/fetch_model` has fetched")));
  }
  const std::string cached = absl::StrCat(UserCacheFolder(), "/models/", model, ".gguf");
  if (Exists(cached)) return cached;
  return WithExitCode(ExitCode::kBadModel,
                      absl::NotFoundError(absl::StrCat(
                          model, ": no such file here, and no such model in ", UserCacheFolder(),
                          "/models. Fetch it with `tools/fetch_model ", model,
                          "`, or give the path of a GGUF file")));
}

}  // namespace weir
