// What `weir wall` found: one model with its parameters in different places, and passes of more and
// more tokens. Pure: from figures to tables, JSON and one sentence.
#ifndef WEIR_TOOLS_WALL_REPORT_H_
#define WEIR_TOOLS_WALL_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tools/spread.h"

namespace weir {

// One place for the parameters. Rates are of generating one token at a time.
struct WallArm {
  std::string name;
  Spread tokens_per_s;
  double bytes_per_token = 0;         // read from disk
  double disk_share = 0;              // of the disk's ceiling while generating; 0: nothing was read
  double compute_share = 0;           // of the time: some step was running
  double stall_share = 0;             // of the time: the next step waited for the disk
  double predicted_tokens_per_s = 0;  // the median round's; not of a scaled arm
  bool is_scaled = false;             // from a part that was measured, not run as a whole
};

// A pass of so many tokens, with all parameters resident and with all on disk, read ahead: medians
// of rounds that took turns.
struct WallPass {
  uint32_t tokens = 0;
  double resident_s = 0;
  double disk_s = 0;

  double slowdown() const { return disk_s / resident_s; }
};

struct WallReport {
  std::string model;
  std::string device;
  uint64_t weight_bytes = 0;  // of a pass
  double parameters = 0;      // multiplied in a pass
  bool is_direct = true;      // reads bypass the page cache
  double disk_bytes_per_s = 0;
  std::vector<WallArm> arms;     // the first: resident
  std::vector<WallPass> passes;  // ascending in tokens; may be empty

  const WallArm* Find(const std::string& name) const;
};

inline constexpr char kWallResident[] = "resident";
inline constexpr char kWallPipelined[] = "on disk, read ahead";
inline constexpr char kWallLiteral[] = "on disk, literally";

double Slowdown(const WallReport& report, const WallArm& arm);
// (predicted - measured) / measured. Not of a scaled arm.
double PredictionError(const WallArm& arm);

// From how many tokens a pass on disk takes as long as resident: what arithmetic does meanwhile
// fills the time that the disk takes. rate x bytes of a parameter / (2 x disk), with the rate of
// the widest pass. 0 without passes.
double BreakEvenTokens(const WallReport& report);
// The same as measured: where slowdown falls below 1.05 for good, between passes on a logarithmic
// scale; 0: nowhere.
double MeasuredBreakEvenTokens(const WallReport& report);

std::string WallSentence(const WallReport& report);
std::string WallToText(const WallReport& report);
nlohmann::json WallToJson(const WallReport& report);

}  // namespace weir

#endif  // WEIR_TOOLS_WALL_REPORT_H_
