// One level of the machine's hierarchy of memory, from the first cache to the disk and the
// accelerator's memory, as `weir probe all` shows and saves it: figures where there are some, and
// in words why others are not there.
#ifndef WEIR_ENGINE_HIERARCHY_ROW_H_
#define WEIR_ENGINE_HIERARCHY_ROW_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace weir {

// Names of levels that claims and readers look for.
inline constexpr char kDramLevel[] = "DRAM";
inline constexpr char kRemoteDramLevel[] = "DRAM, remote node";
inline constexpr char kDiskLevel[] = "disk";
inline constexpr char kPcieInLevel[] = "PCIe to device";
inline constexpr char kPcieOutLevel[] = "PCIe from device";
inline constexpr char kPcieBothLevel[] = "PCIe both ways at once";
inline constexpr char kDeviceMemoryLevel[] = "GPU memory";

// Bytes a second, by what is done with the level's bytes. A copy counts both sides.
struct PassRates {
  std::optional<double> read, write, copy;
  bool is_empty() const { return !read && !write && !copy; }
};

struct HierarchyRow {
  std::string level;  // "L1", "DRAM", kDiskLevel
  std::optional<uint64_t> capacity_bytes;
  std::optional<double> latency_ns;
  std::optional<double> cycles;    // of the CPU's clock
  std::optional<double> times_l1;  // latency by that of L1
  PassRates one_core;
  // Of all cores together; of a link (disk, PCIe) what it gives, however many cores it takes. To a
  // device host memory is read, from it written.
  PassRates all_cores;
  std::string missing;  // why there are no figures, or which were refused and why; else empty
  std::string note;     // how it was measured, where the level's name does not tell

  bool has_figures() const {
    return latency_ns || cycles || !one_core.is_empty() || !all_cores.is_empty();
  }
};

// The row of that level; null: there is none.
const HierarchyRow* FindRow(const std::vector<HierarchyRow>& rows, const std::string& level);

// Sets `cycles`, where they are not set, and `times_l1` of every row with a latency; `clock_hz` 0:
// not known.
void RelateToL1(double clock_hz, std::vector<HierarchyRow>* rows);

// {"level", "capacity_bytes", "latency_ns", "cycles", "times_l1", "one_core", "all_cores":
//  {"read", "write", "copy"}, "missing", "note"}, rates in 10^9 bytes a second; null for what is
// not there.
nlohmann::json RowToJson(const HierarchyRow& row);
// False for what RowToJson does not write, figures that are none (negative, too large) included.
bool RowFromJson(const nlohmann::json& object, HierarchyRow* row);

}  // namespace weir

#endif  // WEIR_ENGINE_HIERARCHY_ROW_H_
