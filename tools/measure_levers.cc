#include "tools/measure_levers.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "engine/compute_probe.h"
#include "engine/hardware_probe.h"
#include "engine/kv_pages.h"
#include "engine/planner.h"
#include "engine/spread.h"
#include "engine/training_units.h"
#include "io/base.h"
#include "kernels/host_memory.h"
#include "tiering/training_cost.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"

namespace weir {
namespace {

constexpr uint64_t kDramBytes = 256 * kMiB;
constexpr int kDramRounds = 3;
constexpr uint32_t kPosition = 128;      // tokens before the one that is rehearsed
constexpr double kAttentionShare = 0.9;  // of the work, for progress

// What threads read of memory that no cache holds.
absl::StatusOr<double> DramRate(uint32_t threads) {
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> memory, MapHostMemory(kDramBytes, 64));
  TouchZeroPages(memory->data(), kDramBytes);
  std::vector<double> rates;
  for (int round = 0; round < kDramRounds; ++round) {
    WEIR_ASSIGN_OR_RETURN(const MemoryProbeResult result,
                          ProbeMemoryRead({memory->data(), kDramBytes}, threads));
    rates.push_back(result.bytes_per_s);
  }
  return SpreadOf(std::move(rates)).median;
}

absl::StatusOr<InPlaceLever> MeasureInPlace(const Model& model, const LeverOptions& options) {
  InPlaceLever lever;
  lever.link = options.link;
  lever.link_bytes_per_s = options.link_bytes_per_s;
  WEIR_ASSIGN_OR_RETURN(lever.dram_bytes_per_s, DramRate(options.threads));
  PlannerOptions planner;
  planner.resident_share = 0;
  planner.context_tokens = 2 * kPosition;
  planner.threads = options.threads;
  WEIR_ASSIGN_OR_RETURN(const ModelPlan plan, PlanModel(model, planner));
  ComputeProbeOptions probe;
  probe.threads = options.threads;
  probe.isa = options.isa;
  probe.position = kPosition;
  WEIR_ASSIGN_OR_RETURN(const std::vector<int64_t> step_ns,
                        ProbeSteps(model, *plan.transformer, probe));
  const int64_t pass_ns = std::accumulate(step_ns.begin(), step_ns.end(), int64_t{0});
  lever.in_place_s = static_cast<double>(pass_ns) * 1e-9;
  lever.moved_s =
      static_cast<double>(plan.transformer->program().payload_bytes()) / options.link_bytes_per_s;
  return lever;
}

}  // namespace

std::vector<KvLever> CountKv(const ModelConfig& config, const std::vector<double>& budget_bytes) {
  std::vector<KvLever> levers;
  for (const KvFormat format : {KvFormat::kF16, KvFormat::kQ8_0}) {
    const KvFormats formats = {.keys = format, .values = format};
    if (!CheckKvFormats(config, formats).ok()) continue;
    const auto page_bytes = static_cast<double>(KvBytes(config, formats, kKvPageTokens));
    const auto sequence_bytes = static_cast<double>(KvBytes(config, formats, kKvBatchTokens));
    KvLever lever;
    lever.type = std::string(KvFormatName(format));
    lever.bytes_per_token = page_bytes / kKvPageTokens;
    for (const double budget : budget_bytes) {
      lever.budgets.push_back({.budget_bytes = budget,
                               .largest_context = std::floor(budget / page_bytes) * kKvPageTokens,
                               .largest_batch = std::floor(budget / sequence_bytes)});
    }
    levers.push_back(std::move(lever));
  }
  return levers;
}

std::vector<RecomputeLever> CountRecompute(const Model& model,
                                           const std::vector<uint32_t>& tokens) {
  const TrainingShape shape = TrainingShapeOf(model);
  const TrainingOperations operations = OperationsOf(shape);
  std::vector<RecomputeLever> levers;
  levers.reserve(tokens.size());
  for (const uint32_t count : tokens) {
    levers.push_back({.tokens = double{1} * count,
                      .keep_bytes = count * KeptActivationBytes(shape),
                      .recompute_bytes = count * RecomputedActivationBytes(shape),
                      .extra_operations_share =
                          operations.recompute / (operations.forward + operations.backward)});
  }
  return levers;
}

absl::StatusOr<LeversReport> MeasureLevers(const Model& model, const LeverOptions& options,
                                           const std::function<void(double share)>& progress) {
  LeversReport report;
  report.kv = CountKv(model.config, options.kv_budget_bytes);
  report.recompute = CountRecompute(model, options.recompute_tokens);
  AttentionExperimentOptions attention;
  attention.contexts = options.contexts;
  attention.rounds = options.attention_rounds;
  attention.limit_s = options.attention_limit_s;
  attention.threads = options.threads;
  attention.isa = options.isa;
  absl::StatusOr<std::vector<AttentionComparison>> compared =
      CompareAttention(AttentionShapeOf(model.config), attention, [&](double share) {
        if (progress) progress(kAttentionShare * share);
        return !Interrupted();
      });
  WEIR_RETURN_IF_ERROR(CheckInterrupted());
  WEIR_RETURN_IF_ERROR(compared.status());
  report.attention = *std::move(compared);
  if (options.link_bytes_per_s > 0) {
    WEIR_ASSIGN_OR_RETURN(report.compute_in_place, MeasureInPlace(model, options));
  }
  if (progress) progress(1);
  WEIR_RETURN_IF_ERROR(CheckInterrupted());
  return report;
}

}  // namespace weir
