#include "tools/wall_passes.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "engine/json_members.h"
#include "engine/spread.h"
#include "io/base.h"
#include "io/clock.h"
#include "tiering/simulate.h"
#include "tools/interrupt.h"

namespace weir {
namespace {

constexpr uint32_t kSimulatedPasses = 4;

// Steps that take as much longer as the whole pass does.
std::vector<int64_t> Scaled(const std::vector<int64_t>& step_ns, double pass_s) {
  const int64_t pass_ns = std::accumulate(step_ns.begin(), step_ns.end(), int64_t{0});
  const double factor = pass_s * 1e9 / static_cast<double>(std::max<int64_t>(1, pass_ns));
  std::vector<int64_t> scaled;
  scaled.reserve(step_ns.size());
  for (const int64_t ns : step_ns) {
    scaled.push_back(static_cast<int64_t>(static_cast<double>(ns) * factor));
  }
  return scaled;
}

}  // namespace

absl::Status WallPasses::Open() {
  const ContextNeeds needs = {.min_context_tokens = most_tokens_ + 1,
                              .prompt_tokens = most_tokens_};
  WEIR_ASSIGN_OR_RETURN(resident_,
                        OpenArm(model_, resident_spec_.options, needs, /*measures=*/false));
  WEIR_ASSIGN_OR_RETURN(disk_, OpenArm(model_, disk_spec_.options, needs, /*measures=*/true));
  return absl::OkStatus();
}

void WallPasses::Close() {
  disk_.reset();
  resident_.reset();
}

absl::StatusOr<double> WallPasses::TimePass(Engine& engine, uint32_t tokens) const {
  const std::vector<TokenId> ids(tokens, token_);
  const std::unique_ptr<Session> session = engine.NewSession();
  const RealClock clock;
  const int64_t begin_ns = clock.NowNs();
  WEIR_RETURN_IF_ERROR(engine.Forward(*session, ids, 1, /*expect_more=*/true));
  return static_cast<double>(clock.NowNs() - begin_ns) * 1e-9;
}

double WallPasses::Predict(double resident_s) const {
  Ceilings ceilings = disk_->run.ceilings;
  ceilings.step_ns = Scaled(ceilings.step_ns, resident_s);
  // Wide passes run on the accelerator alone, where there is one.
  const Engine& engine = *disk_->engine;
  const Simulation simulation =
      SimulateDecode(engine.program(), engine.plan(), SimHardwareFrom(ceilings), SimFaults(),
                     {.passes = kSimulatedPasses}, nullptr);
  return simulation.status.ok() ? simulation.pass_ns() * 1e-9 : 0;
}

absl::StatusOr<WallPass> WallPasses::Measure(uint32_t tokens, uint32_t rounds) {
  if (!disk_.has_value()) WEIR_RETURN_IF_ERROR(Open());
  std::vector<double> resident_s, disk_s;
  for (uint32_t round = 0; round <= rounds; ++round) {
    WEIR_RETURN_IF_ERROR(CheckInterrupted());
    WEIR_ASSIGN_OR_RETURN(const double resident_one_s, TimePass(*resident_->engine, tokens));
    WEIR_ASSIGN_OR_RETURN(const double disk_one_s, TimePass(*disk_->engine, tokens));
    const bool is_long = resident_one_s > kLongPassS;
    if (round == 0 && !is_long) continue;
    resident_s.push_back(resident_one_s);
    disk_s.push_back(disk_one_s);
    if (is_long) break;
  }
  WallPass pass = {.tokens = tokens,
                   .resident_s = SpreadOf(std::move(resident_s)).median,
                   .disk_s = SpreadOf(std::move(disk_s)).median};
  pass.predicted_disk_s = Predict(pass.resident_s);
  return pass;
}

nlohmann::json ToJson(const WallPass& pass) {
  return {{"tokens", pass.tokens},
          {"resident_s", pass.resident_s},
          {"disk_s", pass.disk_s},
          {"predicted_disk_s", pass.predicted_disk_s}};
}

absl::StatusOr<WallPass> WallPassFrom(const nlohmann::json& json) {
  WallPass pass;
  uint64_t tokens = 0;
  const bool is_whole = json.is_object() && GetMember(json, "tokens", &tokens) &&
                        GetMember(json, "resident_s", &pass.resident_s) &&
                        GetMember(json, "disk_s", &pass.disk_s) &&
                        GetMember(json, "predicted_disk_s", &pass.predicted_disk_s);
  pass.tokens = static_cast<uint32_t>(tokens);
  if (!is_whole || pass.tokens == 0 || pass.resident_s <= 0 || pass.disk_s <= 0 ||
      pass.predicted_disk_s < 0) {
    return absl::DataLossError("the journal has a pass that makes no sense");
  }
  return pass;
}

}  // namespace weir
