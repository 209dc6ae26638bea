// Any text as the file of saved disk ceilings: parsed or ignored with a note; what was parsed is
// written and read back unchanged.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/saved_ceilings.h"
#include "io/base.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const weir::SavedCeilings saved = weir::ParseCeilings(text, "fuzz.json");
  WEIR_CHECK(saved.disks.empty() || saved.note.empty());
  const weir::SavedCeilings again =
      weir::ParseCeilings(weir::CeilingsToJson(saved.disks), "again.json");
  WEIR_CHECK(again.note.empty() && again.disks.size() == saved.disks.size());
  for (size_t i = 0; i < saved.disks.size(); ++i) {
    WEIR_CHECK(std::isfinite(saved.disks[i].bytes_per_s) && saved.disks[i].bytes_per_s > 0);
    WEIR_CHECK(again.disks[i].SameConditions(saved.disks[i]));
    WEIR_CHECK(again.disks[i].bytes_per_s == saved.disks[i].bytes_per_s);
    WEIR_CHECK(weir::FindCeiling(saved, saved.disks[i]).has_value());
  }
  return 0;
}
