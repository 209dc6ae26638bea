#include "tools/wall_report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"

namespace weir {
namespace {

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
std::string Bytes(double bytes) {
  return bytes > 0 ? FormatBytes(static_cast<uint64_t>(bytes)) : "-";
}

bool HasLink(const WallReport& report) { return report.link_bytes_per_s > 0; }

void AppendHead(const WallReport& report, std::string* text) {
  absl::StrAppendFormat(text, "%-22s %8s %-18s %8s %10s %8s", "parameters are", "tok/s", "(range)",
                        "slower", "read", "of disk");
  if (HasLink(report)) absl::StrAppendFormat(text, " %10s %8s", "copied", "of link");
  absl::StrAppendFormat(text, " %8s %8s", "compute", "disk w.");
  if (HasLink(report)) absl::StrAppendFormat(text, " %8s", "copy w.");
  absl::StrAppendFormat(text, " %9s %9s\n", "predicted", "error");
}

void AppendArm(const WallReport& report, const WallArm& arm, std::string* text) {
  const auto share = [](double value) { return value > 0 ? Percent(value) : std::string("-"); };
  const auto of_run = [&](double value) {
    return arm.is_scaled ? std::string("-") : Percent(value);
  };
  const std::string range =
      absl::StrFormat("(%.3g to %.3g)", arm.tokens_per_s.min, arm.tokens_per_s.max);
  absl::StrAppendFormat(text, "%-22s %8.3g %-18s %8s %10s %8s",
                        arm.name + (arm.is_scaled ? "*" : ""), arm.tokens_per_s.median, range,
                        Times(Slowdown(report, arm)), Bytes(arm.bytes_per_token),
                        share(arm.disk_share));
  if (HasLink(report)) {
    absl::StrAppendFormat(text, " %10s %8s", Bytes(arm.link_bytes_per_token),
                          share(arm.link_share));
  }
  absl::StrAppendFormat(text, " %8s %8s", of_run(arm.compute_share), of_run(arm.disk_stall_share));
  if (HasLink(report)) absl::StrAppendFormat(text, " %8s", of_run(arm.copy_stall_share));
  absl::StrAppendFormat(
      text, " %9s %9s  %s\n",
      arm.is_scaled ? "-" : absl::StrFormat("%.3g", arm.predicted_tokens_per_s),
      arm.is_scaled ? "-" : absl::StrFormat("%+.1f %%", 100 * arm.prediction_error),
      Bar(Slowdown(report, arm)));
}

std::string FromTokens(double tokens) {
  return tokens > 0 ? absl::StrFormat("%.0f", tokens) : std::string("more than was measured");
}

std::string PassesToText(const WallReport& report) {
  if (report.passes.empty()) return "";
  std::string text = absl::StrFormat("\n%-16s %12s %12s %8s %10s\n", "tokens in a pass",
                                     "resident, s", "on disk, s", "slower", "predicted");
  for (const WallPass& pass : report.passes) {
    absl::StrAppendFormat(&text, "%-16d %12.3f %12.3f %8s %10s  %s\n", pass.tokens, pass.resident_s,
                          pass.disk_s, Times(pass.slowdown()),
                          pass.predicted_disk_s > 0 ? Times(pass.predicted_slowdown()) : "-",
                          Bar(pass.slowdown()));
  }
  absl::StrAppendFormat(
      &text,
      "arithmetic takes as long as the disk from %.0f tokens on (rate x bytes of a parameter / "
      "(2 x disk)); measured: %s\n"
      "no more than %.0f %% slower on disk from %s tokens on as predicted, %s as measured\n",
      BreakEvenTokens(report), FromTokens(MeasuredBreakEvenTokens(report)), 100 * (kNoSlower - 1),
      FromTokens(NoSlowerTokens(report, &WallPass::predicted_slowdown)),
      FromTokens(NoSlowerTokens(report, &WallPass::slowdown)));
  return text;
}

// Where y, which goes from y0 at x0 to y1 at x1, is `wanted`, all on logarithmic scales.
double Between(double x0, double y0, double x1, double y1, double wanted) {
  return x0 * std::pow(x1 / x0, std::log(wanted / y0) / std::log(y1 / y0));
}

nlohmann::json ArmToJson(const WallReport& report, const WallArm& arm) {
  nlohmann::json row = {{"name", arm.name},
                        {"ladder", report.ladder},
                        {"tokens_per_s",
                         {{"median", arm.tokens_per_s.median},
                          {"min", arm.tokens_per_s.min},
                          {"max", arm.tokens_per_s.max}}},
                        {"slowdown", Slowdown(report, arm)},
                        {"bytes_per_token", arm.bytes_per_token},
                        {"link_bytes_per_token", arm.link_bytes_per_token},
                        {"disk_share", arm.disk_share},
                        {"link_share", arm.link_share},
                        {"scaled", arm.is_scaled}};
  if (arm.is_scaled) return row;
  row["compute_share"] = arm.compute_share;
  row["disk_stall_share"] = arm.disk_stall_share;
  row["copy_stall_share"] = arm.copy_stall_share;
  row["predicted_tokens_per_s"] = arm.predicted_tokens_per_s;
  row["prediction_error"] = arm.prediction_error;
  return row;
}

}  // namespace

const WallArm* WallReport::Find(const std::string& name) const {
  for (const WallArm& arm : arms) {
    if (arm.name == name) return &arm;
  }
  return nullptr;
}

std::string PageCacheText(const WallReport& report) {
  return report.is_direct
             ? "reads bypass the page cache (O_DIRECT); before a pass through mmap it is emptied"
             : "reads go by way of the page cache, which this file system has no way round: what "
               "was read is given back at once";
}

double Slowdown(const WallReport& report, const WallArm& arm) {
  return report.arms.front().tokens_per_s.median / arm.tokens_per_s.median;
}

double BreakEvenTokens(const WallReport& report) {
  if (report.passes.empty() || report.disk_bytes_per_s <= 0 || report.parameters <= 0) return 0;
  const WallPass& widest = report.passes.back();
  const double operations_per_s = 2 * report.parameters * widest.tokens / widest.resident_s;
  const double bytes_per_parameter = report.weight_bytes / report.parameters;
  return operations_per_s * bytes_per_parameter / (2 * report.disk_bytes_per_s);
}

double MeasuredBreakEvenTokens(const WallReport& report) {
  const std::vector<WallPass>& passes = report.passes;
  if (passes.empty()) return 0;
  const double disk_s = passes.front().disk_s;
  for (size_t i = 0; i < passes.size(); ++i) {
    if (passes[i].resident_s < disk_s) continue;
    if (i == 0) return passes[i].tokens;
    return Between(passes[i - 1].tokens, passes[i - 1].resident_s, passes[i].tokens,
                   passes[i].resident_s, disk_s);
  }
  return 0;
}

double NoSlowerTokens(const WallReport& report, double (WallPass::*slowdown)() const) {
  const std::vector<WallPass>& passes = report.passes;
  for (const WallPass& pass : passes) {
    if ((pass.*slowdown)() <= 0) return 0;  // not predicted
  }
  // The first from which on none is slower.
  size_t first = passes.size();
  while (first > 0 && (passes[first - 1].*slowdown)() <= kNoSlower) --first;
  if (first == passes.size()) return 0;
  if (first == 0) return passes.front().tokens;
  return Between(passes[first - 1].tokens, (passes[first - 1].*slowdown)(), passes[first].tokens,
                 (passes[first].*slowdown)(), kNoSlower);
}

std::string WallSentence(const WallReport& report) {
  const WallArm* const literal = report.Find(kWallLiteral);
  const WallArm* const pipelined = report.Find(kWallPipelined);
  if (literal == nullptr || pipelined == nullptr) return "";
  std::string text = absl::StrFormat(
      "On this machine parameters on disk cost %s x at batch 1 done literally, %s x read ahead",
      Times(Slowdown(report, *literal)), Times(Slowdown(report, *pipelined)));
  const double tokens = NoSlowerTokens(report, &WallPass::slowdown);
  if (tokens > 0) absl::StrAppendFormat(&text, ", and nothing from %.0f tokens per pass", tokens);
  return text + ".\n";
}

std::string WallToText(const WallReport& report) {
  std::string text =
      absl::StrFormat("%s on %s%s: %s of weights for each token; disk %.2f GB/s", report.model,
                      report.device, report.ladder == "emulated" ? " (no figure is a GPU's)" : "",
                      Bytes(report.weight_bytes), report.disk_bytes_per_s * 1e-9);
  if (HasLink(report))
    absl::StrAppendFormat(&text, ", link %.2f GB/s", report.link_bytes_per_s * 1e-9);
  absl::StrAppend(&text, "\n", PageCacheText(report), "\n\n");
  AppendHead(report, &text);
  bool any_scaled = false;
  for (const WallArm& arm : report.arms) {
    AppendArm(report, arm, &text);
    any_scaled = any_scaled || arm.is_scaled;
  }
  if (any_scaled) {
    absl::StrAppend(&text,
                    "* put together: a pass's bytes as such reads bring them, then its compute\n");
  }
  absl::StrAppend(&text, PassesToText(report));
  for (const WallSection& section : report.sections) absl::StrAppend(&text, "\n", section.text);
  return absl::StrCat(text, "\n", WallSentence(report));
}

nlohmann::json WallToJson(const WallReport& report) {
  nlohmann::json arms = nlohmann::json::array();
  for (const WallArm& arm : report.arms) arms.push_back(ArmToJson(report, arm));
  nlohmann::json passes = nlohmann::json::array();
  for (const WallPass& pass : report.passes) {
    passes.push_back({{"tokens", pass.tokens},
                      {"resident_s", pass.resident_s},
                      {"disk_s", pass.disk_s},
                      {"slowdown", pass.slowdown()},
                      {"predicted_disk_s", pass.predicted_disk_s},
                      {"predicted_slowdown", pass.predicted_slowdown()}});
  }
  nlohmann::json json = {
      {"format", "weir-wall"},
      {"version", 1},
      {"model", report.model},
      {"ladder", report.ladder},
      {"device", report.device},
      {"weight_bytes", report.weight_bytes},
      {"parameters", report.parameters},
      {"direct", report.is_direct},
      {"page_cache", PageCacheText(report)},
      {"disk_bytes_per_s", report.disk_bytes_per_s},
      {"link_bytes_per_s", report.link_bytes_per_s},
      {"arms", std::move(arms)},
      {"passes", std::move(passes)},
      {"break_even_tokens", BreakEvenTokens(report)},
      {"measured_break_even_tokens", MeasuredBreakEvenTokens(report)},
      {"no_slower",
       {{"factor", kNoSlower},
        {"measured_tokens", NoSlowerTokens(report, &WallPass::slowdown)},
        {"predicted_tokens", NoSlowerTokens(report, &WallPass::predicted_slowdown)}}},
      {"sentence", WallSentence(report)}};
  for (const WallSection& section : report.sections) {
    if (!section.json.is_null()) json[section.name] = section.json;
  }
  return json;
}

}  // namespace weir
