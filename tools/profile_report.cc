#include "tools/profile_report.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"
#include "kernels/quantized_activations.h"

namespace weir {
namespace {

// The rows' sum and the clock of the run see the same span but for a few calls between them.
constexpr double kSumTolerance = 0.02;

double Ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

bool TakesQuantized(const OpLabel& label, ActivationFormat activations) {
  return label.weight.has_value() && UsesQuantizedActivations(*label.weight) &&
         activations != ActivationFormat::kF32;
}

// Figures of one unit from those of all.
ProfileRow RowOf(const OpLabel& label, const OpCount& count, const PhaseProfile& phase,
                 ActivationFormat activations, const ProfileCeilings& ceilings) {
  const auto units = static_cast<double>(phase.units);
  const double seconds = static_cast<double>(count.run_ns) * 1e-9;
  const auto bytes = static_cast<double>(count.work.bytes);
  const auto operations = static_cast<double>(count.work.operations);
  ProfileRow row;
  row.op = std::string(ProfiledOpName(label.op));
  if (label.weight.has_value()) row.format = std::string(GetDTypeInfo(*label.weight).name);
  if (label.op == ProfiledOp::kAttention) row.format = "F16";
  row.calls = static_cast<double>(count.calls) / units;
  row.ms = seconds * 1e3 / units;
  row.bytes = bytes / units;
  row.bytes_per_s = Ratio(bytes, seconds);
  row.dram_share = Ratio(row.bytes_per_s, ceilings.dram_bytes_per_s());
  row.operations_per_s = Ratio(operations, seconds);
  row.peak_share = Ratio(row.operations_per_s, PeakFor(label, activations, ceilings));
  return row;
}

ProfileRow WaitRow(const char* what, int64_t ns, const PhaseProfile& phase) {
  ProfileRow row;
  row.op = what;
  row.ms = static_cast<double>(ns) * 1e-6 / static_cast<double>(phase.units);
  return row;
}

void AddSum(ProfileTable* table, const ProfileCeilings& ceilings) {
  ProfileRow& sum = table->sum;
  sum.op = "sum";
  for (const ProfileRow& row : table->rows) {
    sum.ms += row.ms;
    sum.bytes += row.bytes;
  }
  for (ProfileRow& row : table->rows) row.share = Ratio(row.ms, sum.ms);
  sum.share = sum.ms > 0 ? 1 : 0;
  sum.bytes_per_s = Ratio(sum.bytes, sum.ms * 1e-3);
  sum.dram_share = Ratio(sum.bytes_per_s, ceilings.dram_bytes_per_s());
}

// A share above 1 is never left without a word.
void AddNotes(ProfileTable* table, const ProfileCeilings& ceilings) {
  const double off = Ratio(table->sum.ms, table->unit_ms) - 1;
  if (std::abs(off) > kSumTolerance) {
    table->notes.push_back(absl::StrFormat(
        "the rows add up to %.4g ms and a %s took %.4g: %+.1f %%, of which the rows say nothing",
        table->sum.ms, table->unit, table->unit_ms, 100 * off));
  }
  bool above_dram = table->sum.dram_share > 1;
  bool above_peak = false;
  for (const ProfileRow& row : table->rows) {
    above_dram = above_dram || row.dram_share > 1;
    above_peak = above_peak || row.peak_share > 1;
  }
  const auto cache_bytes = static_cast<double>(ceilings.cache_bytes);
  if (above_dram) {
    const std::string working_set = FormatBytes(static_cast<uint64_t>(table->sum.bytes));
    const std::string cache =
        cache_bytes > 0 ? FormatBytes(ceilings.cache_bytes) : std::string("an unknown size");
    table->notes.push_back(
        table->sum.bytes < cache_bytes
            ? absl::StrCat("* more than DRAM gives: what a ", table->unit, " reads (", working_set,
                           ") fits into the last-level cache (", cache,
                           "), and some of it came from there")
            : absl::StrCat("* more than DRAM gave to plain reading: a part of what a ", table->unit,
                           " reads (", working_set, ") came from caches (the last level has ",
                           cache, "), or memory's rate changed meanwhile"));
  }
  if (above_peak) {
    table->notes.emplace_back(
        "* more than the measured peak of arithmetic: the processor's clock changed meanwhile");
  }
}

std::string ShareText(double share) {
  if (share <= 0) return "";
  return absl::StrFormat("%.0f %%%s", 100 * share, share > 1 ? "*" : "");
}

// Empty where there is nothing to say.
std::string FigureText(double value, const char* format) {
  if (value <= 0) return "";
  char text[32];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

std::string RowText(const ProfileRow& row) {
  return absl::StrFormat("  %-30s %-7s %7s %9.3f %6.1f %% %9s %7s %7s %8s %7s\n", row.op,
                         row.format, FigureText(row.calls, "%.0f"), row.ms, 100 * row.share,
                         FigureText(row.bytes / static_cast<double>(kMiB), "%.2f"),
                         FigureText(row.bytes_per_s * 1e-9, "%.1f"), ShareText(row.dram_share),
                         FigureText(row.operations_per_s * 1e-9, "%.0f"),
                         ShareText(row.peak_share));
}

nlohmann::json ToJson(const ProfileRow& row) {
  return {{"op", row.op},
          {"format", row.format},
          {"calls", row.calls},
          {"ms", row.ms},
          {"share", row.share},
          {"bytes", row.bytes},
          {"gb_per_s", row.bytes_per_s * 1e-9},
          {"dram_share", row.dram_share},
          {"gop_per_s", row.operations_per_s * 1e-9},
          {"peak_share", row.peak_share}};
}

}  // namespace

void PhaseProfile::Add(const OpCounts& begin, const OpCounts& end) {
  total.at_ns += end.at_ns - begin.at_ns;
  total.idle_ns += end.idle_ns - begin.idle_ns;
  for (size_t i = 0; i < total.counts.size(); ++i) {
    OpCount& sum = total.counts[i];
    sum.calls += end.counts[i].calls - begin.counts[i].calls;
    sum.run_ns += end.counts[i].run_ns - begin.counts[i].run_ns;
    sum.wait_ns += end.counts[i].wait_ns - begin.counts[i].wait_ns;
    sum.work.bytes += end.counts[i].work.bytes - begin.counts[i].work.bytes;
    sum.work.operations += end.counts[i].work.operations - begin.counts[i].work.operations;
  }
}

double PeakFor(const OpLabel& label, ActivationFormat activations,
               const ProfileCeilings& ceilings) {
  if (!TakesQuantized(label, activations)) return ceilings.float_operations_per_s;
  return ceilings.byte_operations_per_s / PlanesOf(activations);
}

ProfileTable MakeProfileTable(const PhaseProfile& phase, ActivationFormat activations,
                              const ProfileCeilings& ceilings) {
  WEIR_CHECK(phase.units > 0);
  ProfileTable table;
  table.unit = phase.unit;
  table.unit_ms = phase.seconds * 1e3 / static_cast<double>(phase.units);
  int64_t between_ns = phase.total.idle_ns;
  int64_t within_ns = 0;
  for (uint32_t i = 0; i < kOpLabels; ++i) {
    const OpCount& count = phase.total.counts[i];
    const OpLabel label = OpLabel::FromNumber(i);
    // A pass begins with its embedding rows.
    (label.op == ProfiledOp::kEmbed ? between_ns : within_ns) += count.wait_ns;
    if (count.calls == 0 && count.run_ns == 0) continue;
    table.rows.push_back(RowOf(label, count, phase, activations, ceilings));
  }
  table.rows.push_back(WaitRow("waiting: disk, scheduling", within_ns, phase));
  table.rows.push_back(WaitRow("waiting: between passes", between_ns, phase));
  AddSum(&table, ceilings);
  AddNotes(&table, ceilings);
  return table;
}

std::string CeilingsText(const ProfileCeilings& ceilings, ActivationFormat activations) {
  std::string text = absl::StrFormat(
      "  profile, ceilings of %u thread%s, %s, in this run: DRAM read %.1f GB/s (%.1f before, %.1f "
      "after; %s)",
      ceilings.threads, ceilings.threads == 1 ? "" : "s", ceilings.isa,
      ceilings.dram_bytes_per_s() * 1e-9, ceilings.dram_before_bytes_per_s * 1e-9,
      ceilings.dram_after_bytes_per_s * 1e-9, FormatBytes(ceilings.probe_bytes));
  absl::StrAppendFormat(&text, ",\n  products of bytes %.0f GOP/s",
                        ceilings.byte_operations_per_s * 1e-9);
  if (PlanesOf(activations) == 2) {
    absl::StrAppendFormat(&text, " (16-bit activations take two each: %.0f)",
                          ceilings.byte_operations_per_s * 0.5e-9);
  }
  absl::StrAppendFormat(&text, ", of floats %.0f GOP/s\n", ceilings.float_operations_per_s * 1e-9);
  if (ceilings.probe_bytes < 2 * ceilings.cache_bytes) {
    absl::StrAppend(&text, "  the last-level cache (", FormatBytes(ceilings.cache_bytes),
                    ") holds much of what was read to measure DRAM: its figure may be too high\n");
  }
  return text;
}

std::string TableText(const ProfileTable& table) {
  std::string text =
      absl::StrFormat("  %-30s %-7s %7s %9s %8s %9s %7s %7s %8s %7s\n",
                      absl::StrCat("where a ", table.unit, "'s time goes"), "format", "calls", "ms",
                      "of all", "MiB", "GB/s", "of DRAM", "GOP/s", "of peak");
  for (const ProfileRow& row : table.rows) text += RowText(row);
  text += RowText(table.sum);
  absl::StrAppendFormat(&text, "  a %s took %.3f ms by the clock: the rows add up to %.1f %%\n",
                        table.unit, table.unit_ms, 100 * Ratio(table.sum.ms, table.unit_ms));
  for (const std::string& note : table.notes) absl::StrAppend(&text, "  ", note, "\n");
  return text;
}

nlohmann::json ToJson(const ProfileCeilings& ceilings) {
  return {{"threads", ceilings.threads},
          {"isa", ceilings.isa},
          {"dram_gb_per_s", ceilings.dram_bytes_per_s() * 1e-9},
          {"dram_before_gb_per_s", ceilings.dram_before_bytes_per_s * 1e-9},
          {"dram_after_gb_per_s", ceilings.dram_after_bytes_per_s * 1e-9},
          {"dram_probe_bytes", ceilings.probe_bytes},
          {"cache_bytes", ceilings.cache_bytes},
          {"byte_gop_per_s", ceilings.byte_operations_per_s * 1e-9},
          {"float_gop_per_s", ceilings.float_operations_per_s * 1e-9}};
}

nlohmann::json ToJson(const ProfileTable& table) {
  nlohmann::json rows = nlohmann::json::array();
  for (const ProfileRow& row : table.rows) rows.push_back(ToJson(row));
  return {{"unit", table.unit},
          {"unit_ms", table.unit_ms},
          {"rows", rows},
          {"sum", ToJson(table.sum)},
          {"notes", table.notes}};
}

}  // namespace weir
