#include "tools/levers_report.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"

namespace weir {
namespace {

std::string Bytes(double bytes) { return FormatBytes(static_cast<uint64_t>(bytes)); }

std::string PrecisionToText(const LeversReport& report) {
  if (report.precision.empty()) return "";
  std::string text = absl::StrFormat("%-16s %12s %15s %15s %11s\n", "weights as", "bytes",
                                     "resident tok/s", "on disk tok/s", "perplexity");
  for (const PrecisionLever& row : report.precision) {
    absl::StrAppendFormat(&text, "%-16s %12s %15.3g %15.3g %11s\n", row.format, Bytes(row.bytes),
                          row.tokens_per_s, row.disk_tokens_per_s,
                          row.perplexity > 0 ? absl::StrFormat("%.2f", row.perplexity) : "-");
  }
  return text + "\n";
}

std::string AttentionToText(const LeversReport& report) {
  if (report.attention.empty()) return "";
  std::string text =
      absl::StrFormat("%-16s %7s %10s %10s %8s %12s %12s %11s\n", "attention over", "tokens",
                      "naive, s", "tiled, s", "faster", "naive moves", "tiled moves", "difference");
  for (const AttentionComparison& row : report.attention) {
    absl::StrAppendFormat(&text, "%-16d %7d %10.4f %10.4f %8.2f %12s %12s %11.1e\n",
                          row.size.context, row.size.tokens, row.naive_s, row.tiled_s,
                          row.naive_s / row.tiled_s, FormatBytes(row.naive_bytes),
                          FormatBytes(row.tiled_bytes), row.largest_difference);
  }
  return text + "\n";
}

std::string InPlaceToText(const LeversReport& report) {
  if (!report.compute_in_place.has_value()) return "";
  const InPlaceLever& lever = *report.compute_in_place;
  return absl::StrFormat(
      "weights in DRAM: multiplied there %.4f s a token (%.1f GB/s can be read), sent over the "
      "link "
      "(%s) %.4f s (%.1f GB/s): %s is faster\n\n",
      lever.in_place_s, lever.dram_bytes_per_s * 1e-9, lever.link, lever.moved_s,
      lever.link_bytes_per_s * 1e-9,
      lever.in_place_s <= lever.moved_s ? "computing in place" : "moving");
}

std::string KvToText(const LeversReport& report) {
  if (report.kv.empty()) return "";
  std::string text = absl::StrFormat("%-8s %14s %12s %16s %22s\n", "KV as", "a token", "budget",
                                     "largest context", "sequences of 4096");
  for (const KvLever& lever : report.kv) {
    for (const KvBudget& row : lever.budgets) {
      absl::StrAppendFormat(&text, "%-8s %14s %12s %16.0f %22.0f\n", lever.type,
                            Bytes(lever.bytes_per_token), Bytes(row.budget_bytes),
                            row.largest_context, row.largest_batch);
    }
  }
  return text + "\n";
}

std::string RecomputeToText(const LeversReport& report) {
  if (report.recompute.empty()) return "";
  std::string text = absl::StrFormat("%-16s %16s %16s %18s\n", "tokens a step", "activations kept",
                                     "recomputed", "more operations");
  for (const RecomputeLever& row : report.recompute) {
    absl::StrAppendFormat(&text, "%-16.0f %16s %16s %16.0f %%\n", row.tokens, Bytes(row.keep_bytes),
                          Bytes(row.recompute_bytes), 100 * row.extra_operations_share);
  }
  return text + "\n";
}

nlohmann::json PrecisionToJson(const LeversReport& report) {
  nlohmann::json rows = nlohmann::json::array();
  for (const PrecisionLever& row : report.precision) {
    nlohmann::json json = {{"format", row.format},
                           {"bytes", row.bytes},
                           {"tokens_per_s", row.tokens_per_s},
                           {"disk_tokens_per_s", row.disk_tokens_per_s}};
    if (row.perplexity > 0) json["perplexity"] = row.perplexity;
    rows.push_back(std::move(json));
  }
  return rows;
}

nlohmann::json AttentionToJson(const LeversReport& report) {
  nlohmann::json rows = nlohmann::json::array();
  for (const AttentionComparison& row : report.attention) {
    rows.push_back({{"tokens", row.size.context},
                    {"chunk_tokens", row.size.tokens},
                    {"naive_s", row.naive_s},
                    {"tiled_s", row.tiled_s},
                    {"naive_bytes", row.naive_bytes},
                    {"tiled_bytes", row.tiled_bytes},
                    {"same", row.largest_difference}});
  }
  return rows;
}

nlohmann::json KvToJson(const LeversReport& report) {
  nlohmann::json rows = nlohmann::json::array();
  for (const KvLever& lever : report.kv) {
    nlohmann::json budgets = nlohmann::json::array();
    for (const KvBudget& row : lever.budgets) {
      budgets.push_back({{"budget_bytes", row.budget_bytes},
                         {"largest_context", row.largest_context},
                         {"largest_batch", row.largest_batch}});
    }
    rows.push_back({{"type", lever.type},
                    {"bytes_per_token", lever.bytes_per_token},
                    {"budgets", std::move(budgets)}});
  }
  return rows;
}

nlohmann::json RecomputeToJson(const LeversReport& report) {
  nlohmann::json rows = nlohmann::json::array();
  for (const RecomputeLever& row : report.recompute) {
    rows.push_back({{"tokens", row.tokens},
                    {"keep_bytes", row.keep_bytes},
                    {"recompute_bytes", row.recompute_bytes},
                    {"extra_operations_share", row.extra_operations_share}});
  }
  return rows;
}

}  // namespace

std::vector<LeverClaim> JudgeLevers(const LeversReport& report) {
  std::vector<LeverClaim> claims;
  if (!report.attention.empty()) {
    const AttentionComparison& row = report.attention.back();
    claims.push_back(
        {.what = "FlashAttention is a memory optimisation",
         .where = absl::StrFormat("over a context of %d", row.size.context),
         .fewer_bytes = static_cast<double>(row.naive_bytes) / static_cast<double>(row.tiled_bytes),
         .faster = row.naive_s / row.tiled_s});
  }
  if (report.precision.size() < 2) return claims;
  const PrecisionLever& wide = report.precision.front();
  const PrecisionLever& narrow = report.precision.back();
  const std::string formats = absl::StrCat(narrow.format, " instead of ", wide.format);
  claims.push_back({.what = "Low precision is a memory optimisation",
                    .where = formats + ", resident",
                    .fewer_bytes = wide.bytes / narrow.bytes,
                    .faster = narrow.tokens_per_s / wide.tokens_per_s});
  claims.push_back({.what = "Low precision is a memory optimisation",
                    .where = formats + ", on disk",
                    .fewer_bytes = wide.bytes / narrow.bytes,
                    .faster = narrow.disk_tokens_per_s / wide.disk_tokens_per_s});
  return claims;
}

std::string LeversToText(const LeversReport& report) {
  std::string claims;
  for (const LeverClaim& claim : JudgeLevers(report)) {
    absl::StrAppendFormat(&claims, "%s: %s, %.3g times fewer bytes, %.3g times as fast: %s\n",
                          claim.what, claim.where, claim.fewer_bytes, claim.faster,
                          claim.holds() ? "holds" : "does not hold");
  }
  if (!claims.empty()) claims.push_back('\n');
  return absl::StrCat(PrecisionToText(report), AttentionToText(report), claims,
                      InPlaceToText(report), KvToText(report), RecomputeToText(report));
}

nlohmann::json LeversToJson(const LeversReport& report) {
  nlohmann::json json = nlohmann::json::object();
  if (!report.precision.empty()) json["precision"] = PrecisionToJson(report);
  if (!report.attention.empty()) json["attention"] = AttentionToJson(report);
  if (report.compute_in_place.has_value()) {
    const InPlaceLever& lever = *report.compute_in_place;
    json["compute_in_place"] = {{"dram_bytes_per_s", lever.dram_bytes_per_s},
                                {"link_bytes_per_s", lever.link_bytes_per_s},
                                {"link", lever.link},
                                {"in_place_s", lever.in_place_s},
                                {"moved_s", lever.moved_s}};
  }
  for (const LeverClaim& claim : JudgeLevers(report)) {
    json["claims"].push_back({{"what", claim.what},
                              {"where", claim.where},
                              {"fewer_bytes", claim.fewer_bytes},
                              {"faster", claim.faster},
                              {"holds", claim.holds()}});
  }
  if (!report.kv.empty()) json["kv"] = KvToJson(report);
  if (!report.recompute.empty()) json["recompute"] = RecomputeToJson(report);
  return json;
}

}  // namespace weir
