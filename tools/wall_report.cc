#include "tools/wall_report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr double kNoSlower = 1.05;
constexpr double kBarsPerDecade = 8;

std::string Times(double factor) {
  return absl::StrFormat("%.*f", factor < 10 ? 2 : factor < 100 ? 1 : 0, factor);
}

// A bar on a logarithmic scale: one mark for 1, kBarsPerDecade more for every factor of 10.
std::string Bar(double factor) {
  const double marks = 1 + kBarsPerDecade * std::log10(std::max(1.0, factor));
  return std::string(static_cast<size_t>(std::lround(marks)), '#');
}

std::string Percent(double share) { return absl::StrFormat("%.0f %%", 100 * share); }

void AppendArm(const WallReport& report, const WallArm& arm, std::string* text) {
  const std::string range =
      absl::StrFormat("(%.3g to %.3g)", arm.tokens_per_s.min, arm.tokens_per_s.max);
  absl::StrAppendFormat(
      text, "%-22s %8.3g %-18s %8s %10s %8s %8s %8s %9s %9s  %s\n",
      arm.name + (arm.is_scaled ? "*" : ""), arm.tokens_per_s.median, range,
      Times(Slowdown(report, arm)), FormatBytes(static_cast<uint64_t>(arm.bytes_per_token)),
      arm.disk_share > 0 ? Percent(arm.disk_share) : "-",
      arm.is_scaled ? "-" : Percent(arm.compute_share),
      arm.is_scaled ? "-" : Percent(arm.stall_share),
      arm.is_scaled ? "-" : absl::StrFormat("%.3g", arm.predicted_tokens_per_s),
      arm.is_scaled ? "-" : absl::StrFormat("%+.1f %%", 100 * PredictionError(arm)),
      Bar(Slowdown(report, arm)));
}

std::string PassesToText(const WallReport& report) {
  if (report.passes.empty()) return "";
  std::string text = absl::StrFormat("\n%-16s %12s %12s %8s\n", "tokens in a pass", "resident, s",
                                     "on disk, s", "slower");
  for (const WallPass& pass : report.passes) {
    absl::StrAppendFormat(&text, "%-16d %12.3f %12.3f %8s  %s\n", pass.tokens, pass.resident_s,
                          pass.disk_s, Times(pass.slowdown()), Bar(pass.slowdown()));
  }
  const double measured = MeasuredBreakEvenTokens(report);
  absl::StrAppendFormat(&text, "the wall is gone from %.0f tokens by arithmetic over link, %s\n",
                        BreakEvenTokens(report),
                        measured > 0 ? absl::StrFormat("from %.0f as measured", measured)
                                     : std::string("from more than was measured"));
  return text;
}

}  // namespace

const WallArm* WallReport::Find(const std::string& name) const {
  for (const WallArm& arm : arms) {
    if (arm.name == name) return &arm;
  }
  return nullptr;
}

double Slowdown(const WallReport& report, const WallArm& arm) {
  return report.arms.front().tokens_per_s.median / arm.tokens_per_s.median;
}

double PredictionError(const WallArm& arm) {
  return arm.predicted_tokens_per_s / arm.tokens_per_s.median - 1;
}

double BreakEvenTokens(const WallReport& report) {
  if (report.passes.empty() || report.disk_bytes_per_s <= 0 || report.parameters <= 0) return 0;
  const WallPass& widest = report.passes.back();
  const double operations_per_s = 2 * report.parameters * widest.tokens / widest.resident_s;
  const double bytes_per_parameter = static_cast<double>(report.weight_bytes) / report.parameters;
  return operations_per_s * bytes_per_parameter / (2 * report.disk_bytes_per_s);
}

double MeasuredBreakEvenTokens(const WallReport& report) {
  // The first from which on none is slower.
  size_t first = report.passes.size();
  while (first > 0 && report.passes[first - 1].slowdown() <= kNoSlower) --first;
  if (first == report.passes.size()) return 0;
  const WallPass& pass = report.passes[first];
  if (first == 0) return pass.tokens;
  const WallPass& before = report.passes[first - 1];
  const double share =
      std::log(before.slowdown() / kNoSlower) / std::log(before.slowdown() / pass.slowdown());
  return before.tokens * std::pow(double{1} * pass.tokens / before.tokens, share);
}

std::string WallSentence(const WallReport& report) {
  const WallArm* const literal = report.Find(kWallLiteral);
  const WallArm* const pipelined = report.Find(kWallPipelined);
  if (literal == nullptr || pipelined == nullptr) return "";
  std::string text = absl::StrFormat(
      "On this machine parameters on disk cost %s x at batch 1 done literally, %s x read ahead",
      Times(Slowdown(report, *literal)), Times(Slowdown(report, *pipelined)));
  const double tokens = MeasuredBreakEvenTokens(report);
  if (tokens > 0) absl::StrAppendFormat(&text, ", and nothing from %.0f tokens per pass", tokens);
  return text + ".\n";
}

std::string WallToText(const WallReport& report) {
  std::string text = absl::StrFormat(
      "%s on %s: %s of weights for each token; %s; disk %.2f GB/s\n\n%-22s %8s %-18s %8s %10s %8s "
      "%8s %8s %9s %9s\n",
      report.model, report.device, FormatBytes(report.weight_bytes),
      report.is_direct ? "reads bypass the page cache" : "reads go by way of the page cache",
      report.disk_bytes_per_s * 1e-9, "parameters are", "tok/s", "(range)", "slower", "read",
      "of disk", "compute", "waits", "predicted", "error");
  bool any_scaled = false;
  for (const WallArm& arm : report.arms) {
    AppendArm(report, arm, &text);
    any_scaled = any_scaled || arm.is_scaled;
  }
  if (any_scaled) absl::StrAppend(&text, "* scaled from a second of such reads a round\n");
  return absl::StrCat(text, PassesToText(report), "\n", WallSentence(report));
}

nlohmann::json WallToJson(const WallReport& report) {
  nlohmann::json arms = nlohmann::json::array();
  for (const WallArm& arm : report.arms) {
    nlohmann::json row = {{"name", arm.name},
                          {"tokens_per_s",
                           {{"median", arm.tokens_per_s.median},
                            {"min", arm.tokens_per_s.min},
                            {"max", arm.tokens_per_s.max}}},
                          {"slowdown", Slowdown(report, arm)},
                          {"bytes_per_token", arm.bytes_per_token},
                          {"disk_share", arm.disk_share},
                          {"scaled", arm.is_scaled}};
    if (!arm.is_scaled) {
      row["compute_share"] = arm.compute_share;
      row["stall_share"] = arm.stall_share;
      row["predicted_tokens_per_s"] = arm.predicted_tokens_per_s;
      row["prediction_error"] = PredictionError(arm);
    }
    arms.push_back(std::move(row));
  }
  nlohmann::json passes = nlohmann::json::array();
  for (const WallPass& pass : report.passes) {
    passes.push_back({{"tokens", pass.tokens},
                      {"resident_s", pass.resident_s},
                      {"disk_s", pass.disk_s},
                      {"slowdown", pass.slowdown()}});
  }
  return {{"model", report.model},
          {"device", report.device},
          {"weight_bytes", report.weight_bytes},
          {"parameters", report.parameters},
          {"direct", report.is_direct},
          {"disk_bytes_per_s", report.disk_bytes_per_s},
          {"arms", std::move(arms)},
          {"passes", std::move(passes)},
          {"break_even_tokens", BreakEvenTokens(report)},
          {"measured_break_even_tokens", MeasuredBreakEvenTokens(report)},
          {"sentence", WallSentence(report)}};
}

}  // namespace weir
