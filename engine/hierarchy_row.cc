#include "engine/hierarchy_row.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/json_members.h"

namespace weir {
namespace {

using nlohmann::json;

constexpr double kGb = 1e9;
constexpr double kMostFigure = 1e18;  // beyond any; what comes of it by arithmetic stays finite
constexpr size_t kMostTextBytes = 4096;

template <typename T>
json OrNull(const std::optional<T>& value) {
  return value.has_value() ? json(*value) : json(nullptr);
}

json RatesToJson(const PassRates& rates) {
  if (rates.is_empty()) return nullptr;
  const auto in_gb = [](const std::optional<double>& rate) {
    return rate.has_value() ? json(std::min(*rate / kGb, kMostFigure)) : json(nullptr);
  };
  return {{"read", in_gb(rates.read)}, {"write", in_gb(rates.write)}, {"copy", in_gb(rates.copy)}};
}

// Null or a figure.
bool GetFigure(const json& object, const char* name, double unit, std::optional<double>* value) {
  const auto member = object.find(name);
  if (member == object.end()) return false;
  if (member->is_null()) return true;
  double figure = 0;
  if (!GetMember(object, name, &figure) || !(figure > 0 && figure <= kMostFigure)) return false;
  *value = figure * unit;
  return true;
}

// Null or a text.
bool GetText(const json& object, const char* name, std::string* value) {
  const auto member = object.find(name);
  if (member == object.end()) return false;
  if (member->is_null()) return true;
  return GetMember(object, name, value) && value->size() <= kMostTextBytes;
}

bool GetRates(const json& object, const char* name, PassRates* rates) {
  const auto member = object.find(name);
  if (member == object.end()) return false;
  if (member->is_null()) return true;
  return member->is_object() && GetFigure(*member, "read", kGb, &rates->read) &&
         GetFigure(*member, "write", kGb, &rates->write) &&
         GetFigure(*member, "copy", kGb, &rates->copy);
}

bool GetCapacity(const json& object, HierarchyRow* row) {
  const auto member = object.find("capacity_bytes");
  if (member == object.end()) return false;
  if (member->is_null()) return true;
  uint64_t bytes = 0;
  if (!GetMember(object, "capacity_bytes", &bytes)) return false;
  row->capacity_bytes = bytes;
  return true;
}

json TextOrNull(const std::string& text) { return text.empty() ? json(nullptr) : json(text); }

}  // namespace

const HierarchyRow* FindRow(const std::vector<HierarchyRow>& rows, const std::string& level) {
  for (const HierarchyRow& row : rows) {
    if (row.level == level) return &row;
  }
  return nullptr;
}

void RelateToL1(double clock_hz, std::vector<HierarchyRow>* rows) {
  for (HierarchyRow& row : *rows) {
    if (row.latency_ns && !row.cycles && clock_hz > 0) {
      row.cycles = *row.latency_ns * clock_hz * 1e-9;
    }
  }
  const HierarchyRow* const first = FindRow(*rows, "L1");
  if (first == nullptr) return;
  const HierarchyRow l1 = *first;
  for (HierarchyRow& row : *rows) {
    // The clock changes: cycles tell more than nanoseconds.
    if (row.cycles && l1.cycles) {
      row.times_l1 = *row.cycles / *l1.cycles;
    } else if (row.latency_ns && l1.latency_ns) {
      row.times_l1 = *row.latency_ns / *l1.latency_ns;
    }
  }
}

json RowToJson(const HierarchyRow& row) {
  return {{"level", row.level},
          {"capacity_bytes", OrNull(row.capacity_bytes)},
          {"latency_ns", OrNull(row.latency_ns)},
          {"cycles", OrNull(row.cycles)},
          {"times_l1", OrNull(row.times_l1)},
          {"one_core", RatesToJson(row.one_core)},
          {"all_cores", RatesToJson(row.all_cores)},
          {"missing", TextOrNull(row.missing)},
          {"note", TextOrNull(row.note)}};
}

bool RowFromJson(const json& object, HierarchyRow* row) {
  if (!object.is_object()) return false;
  HierarchyRow read;
  const bool is_good =
      GetText(object, "level", &read.level) && !read.level.empty() && GetCapacity(object, &read) &&
      GetFigure(object, "latency_ns", 1, &read.latency_ns) &&
      GetFigure(object, "cycles", 1, &read.cycles) &&
      GetFigure(object, "times_l1", 1, &read.times_l1) &&
      GetRates(object, "one_core", &read.one_core) &&
      GetRates(object, "all_cores", &read.all_cores) && GetText(object, "missing", &read.missing) &&
      GetText(object, "note", &read.note);
  if (is_good) *row = std::move(read);
  return is_good;
}

}  // namespace weir
