// From measurements to the rows of the machine's table: what goes into which figure, and which
// figures are refused because their link cannot give them.
#ifndef WEIR_TOOLS_HIERARCHY_ROWS_H_
#define WEIR_TOOLS_HIERARCHY_ROWS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/buffered_probe.h"
#include "engine/figure_limits.h"
#include "engine/hardware_probe.h"
#include "engine/hierarchy_probe.h"
#include "engine/hierarchy_row.h"
#include "engine/numa_nodes.h"
#include "tools/cmd_probe_gpu.h"

namespace weir {

inline constexpr uint32_t kDeepReads = 64;  // small reads in flight

// Of the levels that were measured. A rate beyond the next nearer level's is refused.
std::vector<HierarchyRow> CpuRows(const CpuHierarchy& hierarchy);
// L1, L2 and L3 where `rows` lack them, in their places, with the reason.
void AddMissingLevels(std::vector<HierarchyRow>* rows);

HierarchyRow RemoteRow(const NodeChoice& choice, const NodeMemoryFigures& figures,
                       const RateSpread& near_read);
HierarchyRow NoRemoteRow(const std::string& why);

// What was read of one file. Without direct reads both sweeps are empty.
struct DiskLevels {
  std::string buffered_reason;  // why there are no direct reads; empty: there are
  std::vector<DiskSweepCell> sequential, random;
  absl::StatusOr<BufferedProbeResult> buffered = absl::UnavailableError("not measured");
  std::optional<PcieLink> link;  // of the disk, where the kernel tells
};

// The sweep's cells without those that are refused; `*why` holds a reason when some are.
std::vector<DiskSweepCell> AcceptedCells(const std::vector<DiskSweepCell>& cells,
                                         const std::optional<PcieLink>& link,
                                         const RateSpread& dram_read, std::string* why);

// kDiskLevel with the latency of small reads one by one and the best sequential rate, then small
// reads alone and many at once, and reads through the page cache. `dram_read`: of all cores.
std::vector<HierarchyRow> DiskRows(const DiskLevels& levels, const RateSpread& dram_read);
std::vector<HierarchyRow> NoDiskRows(const std::string& why);

// Of a GPU, behind `link` where the kernel tells it, or of an emulated accelerator, whose levels
// have names of their own. A copy's latency is that of the smallest copy alone.
std::vector<HierarchyRow> GpuRows(const GpuProbe& probe, const std::optional<PcieLink>& link);
// `why` in few words for each row; `details` once.
std::vector<HierarchyRow> NoGpuRows(const std::string& why, const std::string& details);

}  // namespace weir

#endif  // WEIR_TOOLS_HIERARCHY_ROWS_H_
