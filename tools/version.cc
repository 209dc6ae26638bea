#include "tools/version.h"

#include "absl/strings/str_cat.h"
#include "kernels/isa.h"

namespace weir {

std::string VersionText() {
  return absl::StrCat("weir ", WEIR_VERSION, " (kernels: ", SelectedIsa(), ")");
}

}  // namespace weir
