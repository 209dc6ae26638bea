// Passes of more and more tokens, with all parameters resident and with all on disk, read ahead:
// where arithmetic fills the time that the disk takes, the wall is gone.
#ifndef WEIR_TOOLS_WALL_PASSES_H_
#define WEIR_TOOLS_WALL_PASSES_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "nlohmann/json.hpp"
#include "tools/wall_arms.h"
#include "tools/wall_report.h"

namespace weir {

class WallPasses {
 public:
  // The arms are for chunks as wide as the widest pass. `model` and the arms outlive it.
  WallPasses(const Model& model, const WallArmSpec& resident, const WallArmSpec& disk,
             uint32_t most_tokens, TokenId token)
      : model_(model),
        resident_spec_(resident),
        disk_spec_(disk),
        most_tokens_(most_tokens),
        token_(token) {}

  // Both engines by turns, round after round, and what a simulated machine makes of the resident
  // pass's time and the disk's rate. A round that takes longer than kLongPassS is the only one;
  // otherwise one more comes first, which does not count: it brings what stays. Both engines stay
  // open for the next call.
  absl::StatusOr<WallPass> Measure(uint32_t tokens, uint32_t rounds);
  void Close();

 private:
  absl::Status Open();
  absl::StatusOr<double> TimePass(Engine& engine, uint32_t tokens) const;
  double Predict(double resident_s) const;

  const Model& model_;
  const WallArmSpec& resident_spec_;
  const WallArmSpec& disk_spec_;
  const uint32_t most_tokens_;
  const TokenId token_;
  std::optional<OpenedArm> resident_;
  std::optional<OpenedArm> disk_;
};

inline constexpr double kLongPassS = 10;

nlohmann::json ToJson(const WallPass& pass);
// DataLoss for what ToJson did not write.
absl::StatusOr<WallPass> WallPassFrom(const nlohmann::json& json);

}  // namespace weir

#endif  // WEIR_TOOLS_WALL_PASSES_H_
