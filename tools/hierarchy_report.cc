#include "tools/hierarchy_report.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr double kGb = 1e9;

// Four digits at most, and no more than are there: "0.0312", "1.25", "37.8", "1583".
std::string Figure(double value) {
  if (value >= 1000) return absl::StrFormat("%.0f", value);
  if (value >= 100) return absl::StrFormat("%.1f", value);
  if (value >= 1) return absl::StrFormat("%.2f", value);
  return absl::StrFormat("%.3g", value);
}

std::string Figure(const std::optional<double>& value, double unit) {
  return value ? Figure(*value / unit) : "-";
}

void AppendRates(const PassRates& rates, std::string* text) {
  for (const std::optional<double>& rate : {rates.read, rates.write, rates.copy}) {
    absl::StrAppendFormat(text, " %7s", Figure(rate, kGb));
  }
}

void AppendWords(const std::string& level, const std::string& words, std::string* notes) {
  if (!words.empty()) absl::StrAppend(notes, level, ": ", words, "\n");
}

}  // namespace

std::string RowsToText(const std::vector<HierarchyRow>& rows) {
  std::string text = absl::StrFormat(
      "%-28s %10s %11s %10s %10s   %-23s   %s\n%-28s %10s %11s %10s %10s  %7s %7s %7s   %7s %7s "
      "%7s\n",
      "", "", "", "", "", "GB/s: one core", "all cores, or the link", "level", "capacity",
      "latency, ns", "cycles", "x L1", "read", "write", "copy", "read", "write", "copy");
  std::string notes;
  for (const HierarchyRow& row : rows) {
    if (!row.has_figures()) {
      absl::StrAppendFormat(&text, "%-28s %s\n", row.level, row.missing);
      AppendWords(row.level, row.note, &notes);
      continue;
    }
    absl::StrAppendFormat(&text, "%-28s %10s %11s %10s %10s ", row.level,
                          row.capacity_bytes ? FormatBytes(*row.capacity_bytes) : "",
                          Figure(row.latency_ns, 1), Figure(row.cycles, 1),
                          Figure(row.times_l1, 1));
    AppendRates(row.one_core, &text);
    absl::StrAppend(&text, "  ");
    AppendRates(row.all_cores, &text);
    text.push_back('\n');
    AppendWords(row.level, row.note, &notes);
    AppendWords(row.level, row.missing, &notes);
  }
  return text + notes;
}

nlohmann::json RowsToJson(const std::vector<HierarchyRow>& rows) {
  nlohmann::json table = nlohmann::json::array();
  for (const HierarchyRow& row : rows) table.push_back(RowToJson(row));
  return table;
}

}  // namespace weir
