// What is commonly said of a memory hierarchy, to be held against what this machine shows.
#ifndef WEIR_TOOLS_CLAIMS_H_
#define WEIR_TOOLS_CLAIMS_H_

#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace weir {

struct Claim {
  std::string what;
  double low = 0;    // the claim is a range; low == high for a single figure
  double high = 0;   // infinity: "and more"
  std::string unit;  // "cycles", "x L1", "GB/s"
};

struct Verdict {
  Claim claim;
  double measured = 0;
  // How often `measured` goes into the nearer end of the range, or the end into it: 1 within.
  double factor = 1;
  bool holds = false;  // within the range and a quarter beyond its ends
  bool is_more = false;
  std::string missing;  // why nothing was measured; nothing else above says anything then
};

// `measured` is above 0, in the claim's unit.
Verdict Judge(const Claim& claim, double measured);
// For a claim that this machine did not test.
Verdict NotMeasured(const Claim& claim, const std::string& why);

// "holds", "2.3 times less", "4 times more", "not measured".
std::string VerdictText(const Verdict& verdict);
// "10 to 12 cycles", "100 x L1", "100000 cycles and more".
std::string ClaimText(const Claim& claim);

// A table of lines, with its head.
std::string VerdictsToText(const std::vector<Verdict>& verdicts);
// [{"what", "low", "high", "unit", "measured", "verdict", "missing"}]; "high" is null for "and
// more", "measured" where nothing was, and "missing" where something was.
nlohmann::json VerdictsToJson(const std::vector<Verdict>& verdicts);

}  // namespace weir

#endif  // WEIR_TOOLS_CLAIMS_H_
