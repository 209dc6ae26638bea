// What `weir wall` found: one model with its parameters in different places, and passes of more and
// more tokens. Pure: from figures to tables, JSON and one sentence.
#ifndef WEIR_TOOLS_WALL_REPORT_H_
#define WEIR_TOOLS_WALL_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/spread.h"
#include "nlohmann/json.hpp"

namespace weir {

inline constexpr char kWallResident[] = "resident";
inline constexpr char kWallPipelined[] = "on disk, read ahead";
inline constexpr char kWallLiteral[] = "on disk, literally";
inline constexpr char kWallMapped[] = "on disk, through mmap";
inline constexpr char kWallPageByPage[] = "on disk, page by page";

// One place for the parameters. Rates are of generating one token at a time.
struct WallArm {
  std::string name;
  Spread tokens_per_s;
  double bytes_per_token = 0;       // read from disk
  double link_bytes_per_token = 0;  // copied to an accelerator
  double disk_share = 0;            // of the disk's ceiling while generating; 0: nothing was read
  double link_share = 0;
  double compute_share = 0;     // of the time: some step was running
  double disk_stall_share = 0;  // of the time: the next step waited for the disk
  double copy_stall_share = 0;  // or for a copy
  // Medians of rounds, each with its own ceilings: compute and link as measured just before, the
  // disk just before and just after. Not of a scaled arm.
  double predicted_tokens_per_s = 0;
  double prediction_error = 0;  // (predicted - measured) / measured
  bool is_scaled = false;       // from parts that were measured, not run as a whole
};

// A pass of so many tokens, with all parameters resident and with all on disk, read ahead: medians
// of rounds that took turns.
struct WallPass {
  uint32_t tokens = 0;
  double resident_s = 0;
  double disk_s = 0;
  double predicted_disk_s = 0;  // from resident_s and the disk's rate; 0: not predicted

  double slowdown() const { return disk_s / resident_s; }
  double predicted_slowdown() const { return predicted_disk_s / resident_s; }
};

// What else was measured, in its own words.
struct WallSection {
  std::string name;  // of the JSON's field
  std::string text;
  nlohmann::json json;
};

struct WallReport {
  std::string model;
  std::string ladder = "cpu";  // "cpu", "emulated", "cuda:0"
  std::string device;
  double weight_bytes = 0;  // of a pass
  double parameters = 0;    // multiplied in a pass
  bool is_direct = true;    // reads bypass the page cache
  double disk_bytes_per_s = 0;
  double link_bytes_per_s = 0;   // to an accelerator
  std::vector<WallArm> arms;     // the first: resident
  std::vector<WallPass> passes;  // ascending in tokens; may be empty
  std::vector<WallSection> sections;

  const WallArm* Find(const std::string& name) const;
};

// How the page cache was kept out of the figures.
std::string PageCacheText(const WallReport& report);

double Slowdown(const WallReport& report, const WallArm& arm);

// From how many tokens arithmetic takes as long as the disk: rate x bytes of a parameter /
// (2 x disk), with the rate of the widest pass. 0 without passes.
double BreakEvenTokens(const WallReport& report);
// The same as measured: where a resident pass takes as long as one of a single token takes on disk,
// between passes on logarithmic scales; 0: nowhere.
double MeasuredBreakEvenTokens(const WallReport& report);
// From where on a pass on disk takes no more than kNoSlower times as long as resident, likewise; 0:
// nowhere. Reads and compute overlap only as well as they do, so that it is more than the above.
inline constexpr double kNoSlower = 1.1;
double NoSlowerTokens(const WallReport& report, double (WallPass::*slowdown)() const);

std::string WallSentence(const WallReport& report);
std::string WallToText(const WallReport& report);
// Format "weir-wall", version 1: docs/memory-wall.md.
nlohmann::json WallToJson(const WallReport& report);

}  // namespace weir

#endif  // WEIR_TOOLS_WALL_REPORT_H_
