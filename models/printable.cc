#include "models/printable.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr size_t kShownBytes = 80;

}  // namespace

std::string Printable(std::string_view text) {
  std::string shown = absl::CHexEscape(AbslView(text.substr(0, kShownBytes)));
  if (text.size() <= kShownBytes) return shown;
  return absl::StrCat(shown, "... (", text.size(), " bytes)");
}

}  // namespace weir
