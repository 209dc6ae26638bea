// What is commonly said of the levels of a machine, held against the rows that were measured.
#ifndef WEIR_TOOLS_HIERARCHY_CLAIMS_H_
#define WEIR_TOOLS_HIERARCHY_CLAIMS_H_

#include <vector>

#include "engine/hierarchy_row.h"
#include "tools/claims.h"

namespace weir {

// Of levels that have a row: latencies in cycles and beside L1's, the step from each level to the
// next, rates of DRAM, GPU memory and PCIe. A row without the figure makes "not measured", with its
// reason.
std::vector<Verdict> JudgeRows(const std::vector<HierarchyRow>& rows);

}  // namespace weir

#endif  // WEIR_TOOLS_HIERARCHY_CLAIMS_H_
