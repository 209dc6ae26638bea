// What moves the memory wall: fewer bytes for each weight, attention that keeps its scores in
// caches, arithmetic where the bytes are, smaller keys and values, activations made again. Pure:
// from figures to text and JSON.
#ifndef WEIR_TOOLS_LEVERS_REPORT_H_
#define WEIR_TOOLS_LEVERS_REPORT_H_

#include <optional>
#include <string>
#include <vector>

#include "engine/attention_experiment.h"
#include "nlohmann/json.hpp"

namespace weir {

// One format of the weights.
struct PrecisionLever {
  std::string format;
  double bytes = 0;              // of a pass
  double tokens_per_s = 0;       // resident
  double disk_tokens_per_s = 0;  // on disk, read ahead
  double perplexity = 0;         // 0: not measured
};

// The weights of a pass multiplied by the CPU where they lie in DRAM, or sent over a link.
struct InPlaceLever {
  std::string link;             // "PCIe", "emulated, 8 GB/s"
  double dram_bytes_per_s = 0;  // what all threads read
  double link_bytes_per_s = 0;
  double in_place_s = 0;  // a pass of one token on the CPU
  double moved_s = 0;     // the same bytes over the link
};

struct KvBudget {
  double budget_bytes = 0;
  double largest_context = 0;  // tokens of one sequence
  double largest_batch = 0;    // sequences of kKvBatchTokens
};
inline constexpr uint32_t kKvBatchTokens = 4096;

struct KvLever {
  std::string type;  // "f16", "q8_0"
  double bytes_per_token = 0;
  std::vector<KvBudget> budgets;
};

struct RecomputeLever {
  double tokens = 0;
  double keep_bytes = 0;
  double recompute_bytes = 0;
  double extra_operations_share = 0;  // of a step's operations
};

// Whatever is empty was not measured, and is left out of text and JSON.
struct LeversReport {
  std::vector<PrecisionLever> precision;
  std::vector<AttentionComparison> attention;
  std::optional<InPlaceLever> compute_in_place;
  std::vector<KvLever> kv;
  std::vector<RecomputeLever> recompute;
};

// What is commonly said of a lever, beside what it did here: so many times fewer bytes for the same
// operations, so many times as fast.
struct LeverClaim {
  std::string what;
  std::string where;
  double fewer_bytes = 1;
  double faster = 1;
  bool holds() const { return fewer_bytes > 1 && faster >= kLeastFaster; }
  static constexpr double kLeastFaster = 1.1;
};
// Of attention over the longest context, and of the ladder's first format against its last; as many
// as were measured.
std::vector<LeverClaim> JudgeLevers(const LeversReport& report);

std::string LeversToText(const LeversReport& report);
// The section "levers" of `weir wall --json`.
nlohmann::json LeversToJson(const LeversReport& report);

}  // namespace weir

#endif  // WEIR_TOOLS_LEVERS_REPORT_H_
