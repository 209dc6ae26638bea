// The part "levers" of `weir wall`: one call measures and counts. The precision ladder is not in
// it: whoever runs models in several formats fills LeversReport::precision.
#ifndef WEIR_TOOLS_MEASURE_LEVERS_H_
#define WEIR_TOOLS_MEASURE_LEVERS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "tools/levers_report.h"

namespace weir {

struct LeverOptions {
  uint32_t threads = 1;
  std::string isa;
  std::vector<uint32_t> contexts = {256, 1024, 4096};  // of attention
  uint32_t attention_rounds = 5;
  double attention_limit_s = 15;  // for each context
  // The link that weights would go over. 0: there is none, and no such lever.
  double link_bytes_per_s = 0;
  std::string link;  // its name
  std::vector<double> kv_budget_bytes = {0x1p30, 0x1p32, 0x1p34, 0x1p36};
  std::vector<uint32_t> recompute_tokens = {512, 4096, 32768};
};

// What `type` keeps of each token in all layers. Layers with a sliding window are counted as the
// engine has them: it keeps all positions of every layer, in pages of kKvPageTokens.
std::vector<KvLever> CountKv(const ModelConfig& config, const std::vector<double>& budget_bytes);

std::vector<RecomputeLever> CountRecompute(const Model& model, const std::vector<uint32_t>& tokens);

// Memory: 256 MiB, and for attention 4 bytes for each query head, position of the longest context
// and 256 tokens (50 MiB for 12 heads and 4096). Time: seconds; attention_limit_s for each context
// and one round at most. `progress` hears the share that is done; may be null. Ends early, with the
// exit code of an interrupt, once interrupted.
absl::StatusOr<LeversReport> MeasureLevers(const Model& model, const LeverOptions& options,
                                           const std::function<void(double share)>& progress);

}  // namespace weir

#endif  // WEIR_TOOLS_MEASURE_LEVERS_H_
