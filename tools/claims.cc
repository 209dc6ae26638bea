#include "tools/claims.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr double kSlack = 1.25;

// Three digits and no more than are there: 9.66, 205, 0.74.
std::string Figure(double value) {
  return value < 100 ? absl::StrFormat("%.3g", value) : absl::StrFormat("%.0f", value);
}

}  // namespace

Verdict Judge(const Claim& claim, double measured) {
  WEIR_CHECK(claim.low > 0 && claim.high >= claim.low && measured > 0);
  Verdict verdict;
  verdict.claim = claim;
  verdict.measured = measured;
  if (measured > claim.high) {
    verdict.factor = measured / claim.high;
    verdict.is_more = true;
  } else if (measured < claim.low) {
    verdict.factor = claim.low / measured;
  }
  verdict.holds = verdict.factor <= kSlack;
  return verdict;
}

Verdict NotMeasured(const Claim& claim, const std::string& why) {
  Verdict verdict;
  verdict.claim = claim;
  verdict.missing = why;
  return verdict;
}

std::string VerdictText(const Verdict& verdict) {
  if (!verdict.missing.empty()) return "not measured";
  if (verdict.holds) return "holds";
  return absl::StrFormat("%s times %s", Figure(verdict.factor), verdict.is_more ? "more" : "less");
}

std::string ClaimText(const Claim& claim) {
  const std::string low = Figure(claim.low);
  if (std::isinf(claim.high)) return absl::StrCat(low, " ", claim.unit, " and more");
  if (claim.low == claim.high) return absl::StrCat(low, " ", claim.unit);
  return absl::StrCat(low, " to ", Figure(claim.high), " ", claim.unit);
}

std::string VerdictsToText(const std::vector<Verdict>& verdicts) {
  std::string text = absl::StrFormat("%-44s %-24s %-18s %s\n", "what is said", "claimed",
                                     "measured here", "verdict");
  for (const Verdict& verdict : verdicts) {
    const std::string measured =
        verdict.missing.empty() ? absl::StrCat(Figure(verdict.measured), " ", verdict.claim.unit)
                                : "-";
    absl::StrAppendFormat(&text, "%-44s %-24s %-18s %s\n", verdict.claim.what,
                          ClaimText(verdict.claim), measured, VerdictText(verdict));
  }
  return text;
}

nlohmann::json VerdictsToJson(const std::vector<Verdict>& verdicts) {
  nlohmann::json list = nlohmann::json::array();
  for (const Verdict& verdict : verdicts) {
    nlohmann::json entry = {
        {"what", verdict.claim.what}, {"low", verdict.claim.low}, {"high", nullptr},
        {"unit", verdict.claim.unit}, {"measured", nullptr},      {"verdict", VerdictText(verdict)},
        {"missing", nullptr}};
    if (!std::isinf(verdict.claim.high)) entry["high"] = verdict.claim.high;
    if (verdict.missing.empty()) {
      entry["measured"] = verdict.measured;
    } else {
      entry["missing"] = verdict.missing;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace weir
