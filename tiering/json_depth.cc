#include "tiering/json_depth.h"

#include <cstddef>

namespace weir {

bool IsJsonWithinDepth(std::string_view text, int depth) {
  bool in_string = false;
  int open = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == '[' || c == '{')) {
      if (++open > depth) return false;
    } else if (!in_string && (c == ']' || c == '}')) {
      --open;
    }
  }
  return true;
}

}  // namespace weir
