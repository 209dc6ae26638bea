// What `weir bench --profile` says: the time of a token, or of a prompt, by op, with the share that
// each op reaches of what this machine's memory and arithmetic give.
#ifndef WEIR_TOOLS_PROFILE_REPORT_H_
#define WEIR_TOOLS_PROFILE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/op_profile.h"
#include "kernels/ops.h"
#include "nlohmann/json.hpp"

namespace weir {

// Measured in the same run, with as many threads as computed.
struct ProfileCeilings {
  uint32_t threads = 0;
  std::string isa;
  // Plain reading of DRAM, before the engine opened and after it closed; memory's rate drifts.
  double dram_before_bytes_per_s = 0;
  double dram_after_bytes_per_s = 0;
  uint64_t probe_bytes = 0;           // of memory that was read
  uint64_t cache_bytes = 0;           // of the last level; 0: not known
  double byte_operations_per_s = 0;   // Arithmetic::kBytes
  double float_operations_per_s = 0;  // Arithmetic::kFloats

  double dram_bytes_per_s() const { return (dram_before_bytes_per_s + dram_after_bytes_per_s) / 2; }
};

// Differences of OpCounts over all repetitions.
struct PhaseProfile {
  std::string unit;    // what the figures are of: "token" or "prompt"
  uint64_t units = 0;  // how many
  double seconds = 0;  // that they took, by the clock of whoever ran them
  OpCounts total;

  // From one moment to a later one.
  void Add(const OpCounts& begin, const OpCounts& end);
};

// Of one unit. A figure that an op does not have is 0.
struct ProfileRow {
  std::string op;
  std::string format;  // of the weights
  double calls = 0;
  double ms = 0;
  double share = 0;  // of the unit's time, 0 to 1
  double bytes = 0;
  double bytes_per_s = 0;
  double dram_share = 0;  // of ProfileCeilings::dram_bytes_per_s; above 1 where caches helped
  double operations_per_s = 0;
  double peak_share = 0;  // of what arithmetic gives to products of this kind
};

struct ProfileTable {
  std::string unit;
  double unit_ms = 0;  // by the clock of whoever ran them
  // In the order of a pass; then the times in which no kernel was enqueued. They add up to `sum`.
  std::vector<ProfileRow> rows;
  ProfileRow sum;
  std::vector<std::string> notes;
};

// What arithmetic gives to a product: with weights in blocks and activations in 16 bits a product
// of bytes is half of one.
double PeakFor(const OpLabel& label, ActivationFormat activations, const ProfileCeilings& ceilings);

ProfileTable MakeProfileTable(const PhaseProfile& phase, ActivationFormat activations,
                              const ProfileCeilings& ceilings);

// Lines, each with a newline.
std::string CeilingsText(const ProfileCeilings& ceilings, ActivationFormat activations);
std::string TableText(const ProfileTable& table);

// Field names: README.
nlohmann::json ToJson(const ProfileCeilings& ceilings);
nlohmann::json ToJson(const ProfileTable& table);

}  // namespace weir

#endif  // WEIR_TOOLS_PROFILE_REPORT_H_
