#include "tools/hierarchy_claims.h"

#include <limits>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr double kGb = 1e9;
constexpr double kAndMore = std::numeric_limits<double>::infinity();

using Rows = std::vector<HierarchyRow>;

std::string WhyMissing(const HierarchyRow& row) {
  return row.missing.empty() ? absl::StrCat("no figure of ", row.level) : row.missing;
}

// For a claim about a figure of `row`.
Verdict JudgeFigure(const Claim& claim, const HierarchyRow& row,
                    const std::optional<double>& figure) {
  return figure ? Judge(claim, *figure) : NotMeasured(claim, WhyMissing(row));
}

void JudgeLatencies(const Rows& rows, std::vector<Verdict>* verdicts) {
  struct Said {
    const char* level;
    double low_cycles, high_cycles;
    double times_l1;  // 0: nothing
    bool is_least;    // the factor is "and more", too
  };
  constexpr Said kSaid[] = {{"L1", 1, 4, 0, false},
                            {"L2", 10, 12, 10, false},
                            {"L3", 40, 75, 40, false},
                            {kDramLevel, 200, 300, 200, false},
                            {kDiskLevel, 100'000, kAndMore, 100'000, true}};
  for (const Said& said : kSaid) {
    const HierarchyRow* const row = FindRow(rows, said.level);
    if (row == nullptr) continue;
    const std::string name = said.level;
    verdicts->push_back(JudgeFigure(
        {name + " answers in", said.low_cycles, said.high_cycles, "cycles"}, *row, row->cycles));
    if (said.times_l1 == 0) continue;
    verdicts->push_back(JudgeFigure({name + " is slower than L1 by about", said.times_l1,
                                     said.is_least ? kAndMore : said.times_l1, "x"},
                                    *row, row->times_l1));
  }
}

// From each level with a latency to the next farther one.
void JudgeSteps(const Rows& rows, std::vector<Verdict>* verdicts) {
  const HierarchyRow* near = nullptr;
  for (const char* const level : {"L1", "L2", "L3", "L4", kDramLevel, kDiskLevel}) {
    const HierarchyRow* const far = FindRow(rows, level);
    if (far == nullptr || !far->latency_ns) continue;
    if (near != nullptr) {
      verdicts->push_back(
          Judge({absl::StrCat(far->level, " after ", near->level, ", as each level, is slower by"),
                 100, 100, "x"},
                far->cycles && near->cycles ? *far->cycles / *near->cycles
                                            : *far->latency_ns / *near->latency_ns));
    }
    near = far;
  }
}

std::optional<double> InGb(const std::optional<double>& bytes_per_s) {
  return bytes_per_s ? std::optional<double>(*bytes_per_s / kGb) : std::nullopt;
}

void JudgeRates(const Rows& rows, std::vector<Verdict>* verdicts) {
  const HierarchyRow* const dram = FindRow(rows, kDramLevel);
  const HierarchyRow* const device = FindRow(rows, kDeviceMemoryLevel);
  const HierarchyRow* const pcie = FindRow(rows, kPcieBothLevel);
  if (dram != nullptr) {
    verdicts->push_back(
        JudgeFigure({"DRAM delivers", 50, 100, "GB/s"}, *dram, InGb(dram->all_cores.read)));
  }
  if (device != nullptr) {
    verdicts->push_back(
        JudgeFigure({"GPU memory answers in", 200, 400, "cycles"}, *device, device->cycles));
    verdicts->push_back(JudgeFigure({"GPU memory delivers", 900, 2000, "GB/s"}, *device,
                                    InGb(device->all_cores.read)));
  }
  if (pcie != nullptr) {
    verdicts->push_back(JudgeFigure({"PCIe (4.0 x16) delivers, both ways together", 64, 64, "GB/s"},
                                    *pcie, InGb(pcie->all_cores.copy)));
  }
  if (device != nullptr && pcie != nullptr) {
    const Claim claim = {"PCIe is slower than GPU memory by", 30, kAndMore, "x"};
    const std::optional<double>& near = device->all_cores.read;
    const std::optional<double>& far = pcie->all_cores.copy;
    verdicts->push_back(near && far ? Judge(claim, *near / *far)
                                    : NotMeasured(claim, WhyMissing(near ? *pcie : *device)));
  }
}

}  // namespace

std::vector<Verdict> JudgeRows(const Rows& rows) {
  std::vector<Verdict> verdicts;
  JudgeLatencies(rows, &verdicts);
  JudgeSteps(rows, &verdicts);
  JudgeRates(rows, &verdicts);
  return verdicts;
}

}  // namespace weir
