#include "tiering/plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "tiering/plan_layout.h"

namespace weir {
namespace {

constexpr double kNanosPerSecond = 1e9;

// The homes are settled: arena and ring for them, of at most `slots`.
void LayOut(const Program& program, uint32_t slots, Plan* plan) {
  plan->resident_arena_bytes = LayOutArena(program, Tier::kHost, plan);
  plan->slot_bytes = SlotBytes(program);
  const auto streamed = static_cast<uint32_t>(WeightBlocks(program, [plan](BlockId id) {
                                                return plan->placements[id].home == Tier::kDisk;
                                              }).size());
  // More slots than blocks that stream would never be used.
  plan->slots = streamed == 0 ? 0 : std::min(slots, std::max(streamed, program.max_needs()));
}

void FinishPlan(const Program& program, const PlanOptions& options, Plan* plan) {
  plan->fingerprint = program.fingerprint;
  plan->shape = options.shape;
  plan->overhead = options.overhead;
  plan->prediction = PredictPlan(program, *plan, options.ceilings);
}

std::vector<BlockId> AllWeightBlocks(const Program& program) {
  return WeightBlocks(program, [](BlockId) { return true; });
}

// Seconds of a step; negative when the ceiling was not measured.
double StepSeconds(const Program& program, StepId step, const std::vector<int64_t>& step_ns,
                   double bytes_per_s) {
  if (!step_ns.empty()) return static_cast<double>(step_ns[step]) / kNanosPerSecond;
  const auto bytes = static_cast<double>(program.steps[step].payload_bytes);
  if (bytes == 0) return 0;
  return bytes_per_s > 0 ? bytes / bytes_per_s : -1;
}

Prediction PredictAcceleratorPlan(const Program& program, const Plan& plan,
                                  const Ceilings& ceilings) {
  const PlanSummary summary = Summarise(program, plan);
  AcceleratedPass pass;
  pass.streamed_bytes = summary.streamed_read_bytes;
  pass.copied_bytes = summary.copied_bytes;
  StepId end = 0;
  for (StepId step = 0; step < program.steps.size(); ++step) {
    if (step == end) {
      end = program.group_end(step);
      pass.groups.emplace_back();
    }
    const bool on_cpu = StepDevice(program, plan, step, /*wide=*/false) == ComputeDevice::kCpu;
    const double seconds =
        on_cpu
            ? StepSeconds(program, step, ceilings.host_step_ns, ceilings.host_compute_bytes_per_s)
            : StepSeconds(program, step, ceilings.step_ns, ceilings.compute_bytes_per_s);
    if (seconds < 0) return Prediction();
    (on_cpu ? pass.groups.back().host_compute_s : pass.groups.back().compute_s) += seconds;
  }
  return PredictAccelerated(pass, ceilings);
}

}  // namespace

PlanSummary Summarise(const Program& program, const Plan& plan) {
  PlanSummary summary;
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    const Block& block = program.blocks[i];
    const Placement& placement = plan.placements[i];
    if (block.kind != BlockKind::kWeights) continue;
    if (placement.home != Tier::kDisk) {
      summary.resident_payload_bytes += block.payload_bytes;
    } else {
      summary.streamed_payload_bytes += block.payload_bytes;
      for (const Segment& segment : block.segments) summary.streamed_read_bytes += segment.bytes;
    }
    if (!plan.accelerator.has_value()) continue;
    if (placement.home == Tier::kDevice) {
      summary.device_payload_bytes += block.payload_bytes;
    } else if (placement.compute_device == ComputeDevice::kCpu) {
      summary.in_place_payload_bytes += block.payload_bytes;
    } else {
      summary.copied_payload_bytes += block.payload_bytes;
      summary.copied_bytes += block.memory_bytes;
    }
  }
  return summary;
}

ComputeDevice StepDevice(const Program& program, const Plan& plan, StepId step, bool wide) {
  if (!plan.accelerator.has_value()) return ComputeDevice::kCpu;
  if (wide) return ComputeDevice::kAccelerator;
  for (BlockId block : program.steps[step].needs) {
    if (program.blocks[block].kind == BlockKind::kWeights)
      return plan.placements[block].compute_device;
  }
  return ComputeDevice::kAccelerator;
}

Prediction PredictPlan(const Program& program, const Plan& plan, const Ceilings& ceilings) {
  const Prediction prediction =
      plan.accelerator.has_value()
          ? PredictAcceleratorPlan(program, plan, ceilings)
          : Predict({.streamed_bytes = Summarise(program, plan).streamed_read_bytes,
                     .computed_bytes = program.payload_bytes()},
                    ceilings);
  return plan.shape.reads_ahead ? prediction : InTurn(prediction);
}

std::string DescribeOverhead(const OverheadBytes& overhead) {
  return absl::StrCat("KV pages ", FormatBytes(overhead.kv), ", activations and logits ",
                      FormatBytes(overhead.activations), ", norms and biases ",
                      FormatBytes(overhead.small_tensors), ", embedding rows ",
                      FormatBytes(overhead.rows));
}

uint64_t FloorBytes(const Program& program, const PlanOptions& options) {
  const uint64_t ring_bytes = MinSlots(program) * SlotBytes(program);
  return options.overhead.total() + std::min(ring_bytes, WeightArenaBytes(program));
}

absl::StatusOr<Plan> MakePlan(const Program& program, uint64_t dram_budget_bytes,
                              const PlanOptions& options) {
  const uint64_t floor_bytes = FloorBytes(program, options);
  if (dram_budget_bytes < floor_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a DRAM budget of ", FormatBytes(dram_budget_bytes), " is below the floor of ",
        FormatBytes(floor_bytes), " for a context of ", options.shape.context_tokens,
        " tokens: ", DescribeOverhead(options.overhead), ", smallest ring of weight slots ",
        FormatBytes(floor_bytes - options.overhead.total()),
        ". Raise --dram, or lower the context with -c"));
  }
  const uint64_t available = dram_budget_bytes - options.overhead.total();
  uint32_t slots = 0;
  uint64_t resident_budget = available;
  if (available < WeightArenaBytes(program)) {
    slots = RingSlots(program, available, options.preferred_ring_bytes, MinSlots(program));
    resident_budget = available - slots * SlotBytes(program);
  }
  Plan plan;
  plan.dram_budget_bytes = dram_budget_bytes;
  plan.placements.assign(program.blocks.size(), Placement());
  SettleEvenly(program, AllWeightBlocks(program), resident_budget, Tier::kHost, &plan);
  LayOut(program, slots, &plan);
  FinishPlan(program, options, &plan);
  WEIR_CHECK(plan.dram_bytes() <= dram_budget_bytes);
  return plan;
}

absl::StatusOr<Plan> MakePlanForResidentShare(const Program& program, double share,
                                              const PlanOptions& options) {
  if (!(share >= 0 && share <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a resident share of ", share * 100, " % is not between 0 and 100 %"));
  }
  const uint64_t all = program.payload_bytes();
  const auto goal = static_cast<uint64_t>(share * static_cast<double>(all));
  const std::vector<BlockId> blocks = AllWeightBlocks(program);
  std::vector<uint64_t> prices;
  prices.reserve(blocks.size());
  for (BlockId block : blocks) prices.push_back(program.blocks[block].payload_bytes);
  const std::vector<bool> resident = ChooseEvenly(prices, share == 1 ? all : goal);
  Plan plan;
  plan.placements.assign(program.blocks.size(), Placement());
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (resident[i]) plan.placements[blocks[i]].home = Tier::kHost;
  }
  LayOut(program, PreferredSlots(program, options.preferred_ring_bytes), &plan);
  FinishPlan(program, options, &plan);
  plan.dram_budget_bytes = plan.dram_bytes();
  return plan;
}

}  // namespace weir
