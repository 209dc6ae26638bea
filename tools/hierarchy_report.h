// The machine's table of levels as lines of text and as JSON.
#ifndef WEIR_TOOLS_HIERARCHY_REPORT_H_
#define WEIR_TOOLS_HIERARCHY_REPORT_H_

#include <string>
#include <vector>

#include "engine/hierarchy_row.h"
#include "nlohmann/json.hpp"

namespace weir {

// A line for each level, then what was refused or is missing beside figures, and notes.
std::string RowsToText(const std::vector<HierarchyRow>& rows);
// As RowToJson, in their order.
nlohmann::json RowsToJson(const std::vector<HierarchyRow>& rows);

}  // namespace weir

#endif  // WEIR_TOOLS_HIERARCHY_REPORT_H_
