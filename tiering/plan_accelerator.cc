// Plans for three tiers.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "tiering/plan.h"
#include "tiering/plan_layout.h"

namespace weir {
namespace {

// Shares of the host-homed weights that are tried for the CPU: 0, 1/32, .. 1.
constexpr uint32_t kShares = 32;

uint32_t CountWeightBlocks(const Program& program) {
  return static_cast<uint32_t>(WeightBlocks(program, [](BlockId) { return true; }).size());
}

// The smallest ring that all blocks can pass through one after the other.
uint64_t SmallestRingBytes(const Program& program) {
  return MinSlotsFor(program, CountWeightBlocks(program)) * SlotBytes(program);
}

absl::Status CheckBudgets(const Program& program, uint64_t dram_budget_bytes,
                          uint64_t hbm_budget_bytes, const PlanOptions& options) {
  const uint64_t hbm_floor = HbmFloorBytes(program, options);
  if (hbm_budget_bytes < hbm_floor) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a budget of ", FormatBytes(hbm_budget_bytes),
        " of the accelerator's memory is below the floor of ", FormatBytes(hbm_floor),
        " for a context of ", options.shape.context_tokens, " tokens: ",
        DescribeOverhead(options.device_overhead), ", smallest ring of device slots for weights ",
        FormatBytes(hbm_floor - options.device_overhead.total()),
        ". Raise --hbm, or lower the context with -c"));
  }
  const uint64_t dram_floor = AcceleratorDramFloorBytes(program, options);
  if (dram_budget_bytes < dram_floor) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a DRAM budget of ", FormatBytes(dram_budget_bytes), " is below the floor of ",
                     FormatBytes(dram_floor), " beside an accelerator, for a context of ",
                     options.shape.context_tokens, " tokens: ", DescribeOverhead(options.overhead),
                     ", smallest ring of weight slots ", FormatBytes(SmallestRingBytes(program)),
                     ". Raise --dram, or lower the context with -c"));
  }
  return absl::OkStatus();
}

void SettleOnDevice(const Program& program, const PlanOptions& options, Plan* plan) {
  AcceleratorPlan& accelerator = *plan->accelerator;
  const uint64_t available = accelerator.hbm_budget_bytes - accelerator.overhead.total();
  const std::vector<BlockId> all = WeightBlocks(program, [](BlockId) { return true; });
  accelerator.slot_bytes = SlotBytes(program);
  uint64_t arena_budget = available;
  if (available < WeightArenaBytes(program)) {
    accelerator.slots = RingSlots(program, available, options.preferred_device_ring_bytes,
                                  MinSlotsFor(program, static_cast<uint32_t>(all.size())));
    arena_budget = available - accelerator.slots * accelerator.slot_bytes;
  }
  SettleEvenly(program, all, arena_budget, Tier::kDevice, plan);
  accelerator.arena_bytes = LayOutArena(program, Tier::kDevice, plan);
  const auto copied = static_cast<uint32_t>(WeightBlocks(program, [plan](BlockId id) {
                                              return plan->placements[id].home != Tier::kDevice;
                                            }).size());
  accelerator.slots =
      copied == 0 ? 0 : std::min(accelerator.slots, std::max(copied, program.max_needs()));
}

// What is not on the accelerator: host arena and ring. A ring that is there for loading only, once,
// never takes the place of blocks that would then be read at every pass.
void SettleOnHost(const Program& program, const PlanOptions& options, Plan* plan) {
  const uint64_t available = plan->dram_budget_bytes - plan->overhead.total();
  const auto is_left = [plan](BlockId id) { return plan->placements[id].home == Tier::kDisk; };
  const std::vector<BlockId> left = WeightBlocks(program, is_left);
  const uint32_t loaded = CountWeightBlocks(program) - static_cast<uint32_t>(left.size());
  uint64_t left_bytes = 0;
  for (BlockId block : left) left_bytes += ArenaBytes(program.blocks[block]);
  plan->slot_bytes = SlotBytes(program);
  const uint64_t loading_bytes = loaded == 0 ? 0 : MinSlotsFor(program, loaded) * plan->slot_bytes;
  uint32_t slots = 0;
  if (left_bytes + loading_bytes <= available) {
    if (loaded > 0) {
      slots = static_cast<uint32_t>(
          std::min<uint64_t>(PreferredSlots(program, options.preferred_ring_bytes),
                             (available - left_bytes) / plan->slot_bytes));
    }
  } else {
    slots = RingSlots(program, available, options.preferred_ring_bytes,
                      MinSlotsFor(program, CountWeightBlocks(program)));
  }
  SettleEvenly(program, left, available - slots * plan->slot_bytes, Tier::kHost, plan);
  plan->resident_arena_bytes = LayOutArena(program, Tier::kHost, plan);
  const uint32_t read = loaded + static_cast<uint32_t>(WeightBlocks(program, is_left).size());
  plan->slots = read == 0 ? 0 : std::min(slots, std::max(read, program.max_needs()));
}

// Steps that the CPU can multiply in place: something of theirs stays in host memory and nothing on
// the accelerator.
std::vector<StepId> InPlaceCandidates(const Program& program, const Plan& plan) {
  std::vector<StepId> steps;
  for (StepId step = 0; step < program.steps.size(); ++step) {
    bool on_host = false;
    bool on_device = false;
    for (BlockId block : program.steps[step].needs) {
      on_host = on_host || plan.placements[block].home == Tier::kHost;
      on_device = on_device || plan.placements[block].home == Tier::kDevice;
    }
    if (on_host && !on_device) steps.push_back(step);
  }
  return steps;
}

// The CPU takes `share` of the candidates' bytes.
void TakeInPlace(const Program& program, const std::vector<StepId>& candidates, double share,
                 Plan* plan) {
  std::vector<uint64_t> prices;
  uint64_t all = 0;
  for (StepId step : candidates) {
    prices.push_back(program.steps[step].payload_bytes);
    all += prices.back();
  }
  const auto goal = static_cast<uint64_t>(share * static_cast<double>(all));
  const std::vector<bool> taken = ChooseEvenly(prices, share == 1 ? all : goal);
  for (size_t i = 0; i < candidates.size(); ++i) {
    const ComputeDevice device = taken[i] ? ComputeDevice::kCpu : ComputeDevice::kAccelerator;
    for (BlockId block : program.steps[candidates[i]].needs) {
      if (program.blocks[block].kind == BlockKind::kWeights) {
        plan->placements[block].compute_device = device;
      }
    }
  }
}

// The share that makes a pass shortest, the smallest of those.
double BestShare(const Program& program, const std::vector<StepId>& candidates,
                 const Ceilings& ceilings, Plan* plan) {
  double best_share = 0;
  double best_s = 0;
  for (uint32_t i = 0; i <= kShares; ++i) {
    const double share = static_cast<double>(i) / kShares;
    TakeInPlace(program, candidates, share, plan);
    const double pass_s = PredictPlan(program, *plan, ceilings).pass_s;
    if (pass_s <= 0) return 0;  // a ceiling that it takes was not measured
    if (i > 0 && pass_s >= best_s) continue;
    best_s = pass_s;
    best_share = share;
  }
  return best_share;
}

void ChooseComputeDevices(const Program& program, const PlanOptions& options, Plan* plan) {
  for (BlockId block : WeightBlocks(program, [](BlockId) { return true; })) {
    plan->placements[block].compute_device = ComputeDevice::kAccelerator;
  }
  const std::vector<StepId> candidates = InPlaceCandidates(program, *plan);
  double share = 0;
  switch (options.in_place) {
    case InPlace::kAuto:
      share = BestShare(program, candidates, options.ceilings, plan);
      break;
    case InPlace::kOff:
      break;
    case InPlace::kOn:
      share = 1;
      break;
  }
  TakeInPlace(program, candidates, share, plan);
}

}  // namespace

std::string DescribeOverhead(const DeviceOverheadBytes& overhead) {
  return absl::StrCat("KV pages ", FormatBytes(overhead.kv), ", activations and logits ",
                      FormatBytes(overhead.activations), ", norms and biases ",
                      FormatBytes(overhead.small_tensors), ", a pass's inputs ",
                      FormatBytes(overhead.inputs), ", scratch of kernels ",
                      FormatBytes(overhead.scratch));
}

uint64_t AcceleratorDramFloorBytes(const Program& program, const PlanOptions& options) {
  return options.overhead.total() + SmallestRingBytes(program);
}

uint64_t HbmFloorBytes(const Program& program, const PlanOptions& options) {
  return options.device_overhead.total() +
         std::min(SmallestRingBytes(program), WeightArenaBytes(program));
}

absl::StatusOr<Plan> MakeAcceleratorPlan(const Program& program, uint64_t dram_budget_bytes,
                                         uint64_t hbm_budget_bytes, const PlanOptions& options) {
  WEIR_RETURN_IF_ERROR(CheckBudgets(program, dram_budget_bytes, hbm_budget_bytes, options));
  Plan plan;
  plan.fingerprint = program.fingerprint;
  plan.shape = options.shape;
  plan.dram_budget_bytes = dram_budget_bytes;
  plan.overhead = options.overhead;
  plan.placements.assign(program.blocks.size(), Placement());
  AcceleratorPlan& accelerator = plan.accelerator.emplace();
  accelerator.hbm_budget_bytes = hbm_budget_bytes;
  accelerator.overhead = options.device_overhead;
  accelerator.in_place_tokens = options.in_place_tokens;
  SettleOnDevice(program, options, &plan);
  SettleOnHost(program, options, &plan);
  ChooseComputeDevices(program, options, &plan);
  plan.prediction = PredictPlan(program, plan, options.ceilings);
  WEIR_CHECK(plan.dram_bytes() <= dram_budget_bytes);
  WEIR_CHECK(accelerator.hbm_bytes() <= hbm_budget_bytes);
  return plan;
}

}  // namespace weir
