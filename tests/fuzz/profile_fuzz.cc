// Any text as a machine's saved profile: parsed or ignored with a note; what was parsed has figures
// that are some, and is written and read back as the same machine with the same rows.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/machine_profile.h"
#include "io/base.h"

namespace {

void CheckFigure(const std::optional<double>& figure) {
  WEIR_CHECK(!figure || (std::isfinite(*figure) && *figure > 0));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const weir::SavedProfile saved = weir::ParseProfile(text, "fuzz.json");
  WEIR_CHECK(saved.profile.has_value() == saved.note.empty());
  if (!saved.profile) return 0;
  for (const weir::HierarchyRow& row : saved.profile->rows) {
    for (const weir::PassRates& rates : {row.one_core, row.all_cores}) {
      CheckFigure(rates.read);
      CheckFigure(rates.write);
      CheckFigure(rates.copy);
    }
    CheckFigure(row.latency_ns);
    CheckFigure(row.cycles);
    CheckFigure(row.times_l1);
  }
  const weir::SavedProfile again =
      weir::ParseProfile(weir::ProfileToJson(*saved.profile), "again.json");
  WEIR_CHECK(again.profile.has_value());
  WEIR_CHECK(again.profile->machine == saved.profile->machine);
  WEIR_CHECK(again.profile->rows.size() == saved.profile->rows.size());
  WEIR_CHECK(weir::DescribeChanges(again.profile->machine, saved.profile->machine).empty());
  return 0;
}
