#include "tiering/plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr uint64_t kArenaAlignment = 4096;
constexpr uint32_t kMaxSlots = 64;

// A step's blocks, and one more so that the next read can go on while the step computes.
uint32_t MinSlots(const Program& program) { return std::max(1u, program.max_needs()) + 1; }

uint64_t WeightMemoryBytes(const Program& program) {
  uint64_t total = 0;
  for (const Block& block : program.blocks) {
    if (block.kind == BlockKind::kWeights) total += AlignUp(block.memory_bytes, kArenaAlignment);
  }
  return total;
}

// Marks blocks resident while `cost` of the chosen stays within `budget`, spread evenly: every
// block earns credit in proportion to its size and is taken when the credit pays for it; what
// rounding leaves over is then spent in order.
template <typename Cost>
std::vector<bool> ChooseResident(const Program& program, uint64_t budget, Cost cost) {
  uint64_t total = 0;
  for (const Block& block : program.blocks) total += cost(block);
  std::vector<bool> resident(program.blocks.size(), false);
  const double share = total == 0 ? 0.0 : static_cast<double>(budget) / static_cast<double>(total);
  double credit = 0;
  uint64_t spent = 0;
  auto take = [&](size_t i) {
    resident[i] = true;
    spent += cost(program.blocks[i]);
  };
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    const uint64_t price = cost(program.blocks[i]);
    if (program.blocks[i].kind != BlockKind::kWeights) continue;
    credit += share * static_cast<double>(price);
    if (credit < static_cast<double>(price) || price > budget - spent) continue;
    credit -= static_cast<double>(price);
    take(i);
  }
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    if (resident[i] || program.blocks[i].kind != BlockKind::kWeights) continue;
    if (cost(program.blocks[i]) <= budget - spent) take(i);
  }
  return resident;
}

// Gives every resident block its place in the arena and sizes the ring for the rest.
void LayOut(const Program& program, const std::vector<bool>& resident, uint32_t slots, Plan* plan) {
  plan->placements.assign(program.blocks.size(), Placement());
  uint32_t streamed = 0;
  uint64_t arena_bytes = 0;
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    if (program.blocks[i].kind != BlockKind::kWeights) continue;
    if (!resident[i]) {
      ++streamed;
      continue;
    }
    plan->placements[i].home = Tier::kHost;
    plan->placements[i].arena_offset_bytes = arena_bytes;
    arena_bytes += AlignUp(program.blocks[i].memory_bytes, kArenaAlignment);
  }
  plan->resident_arena_bytes = arena_bytes;
  plan->slot_bytes = AlignUp(program.max_memory_bytes(), kArenaAlignment);
  // More slots than blocks that stream would never be used.
  plan->slots = streamed == 0 ? 0 : std::min(slots, std::max(streamed, program.max_needs()));
}

void FinishPlan(const Program& program, const PlanOptions& options, Plan* plan) {
  plan->fingerprint = program.fingerprint;
  plan->shape = options.shape;
  plan->overhead = options.overhead;
  plan->prediction = PredictPlan(program, *plan, options.ceilings);
}

uint32_t PreferredSlots(const Program& program, const PlanOptions& options) {
  const uint64_t slot_bytes =
      std::max<uint64_t>(1, AlignUp(program.max_memory_bytes(), kArenaAlignment));
  const uint64_t wanted = options.preferred_ring_bytes / slot_bytes;
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(wanted, MinSlots(program), std::max(kMaxSlots, MinSlots(program))));
}

}  // namespace

PlanSummary Summarise(const Program& program, const Plan& plan) {
  PlanSummary summary;
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    const Block& block = program.blocks[i];
    if (block.kind != BlockKind::kWeights) continue;
    if (plan.placements[i].home != Tier::kDisk) {
      summary.resident_payload_bytes += block.payload_bytes;
      continue;
    }
    summary.streamed_payload_bytes += block.payload_bytes;
    for (const Segment& segment : block.segments) summary.streamed_read_bytes += segment.bytes;
  }
  return summary;
}

Prediction PredictPlan(const Program& program, const Plan& plan, const Ceilings& ceilings) {
  return Predict({.streamed_bytes = Summarise(program, plan).streamed_read_bytes,
                  .computed_bytes = program.payload_bytes()},
                 ceilings);
}

std::string DescribeOverhead(const OverheadBytes& overhead) {
  return absl::StrCat("KV pages ", FormatBytes(overhead.kv), ", activations and logits ",
                      FormatBytes(overhead.activations), ", norms and biases ",
                      FormatBytes(overhead.small_tensors), ", embedding rows ",
                      FormatBytes(overhead.rows));
}

uint64_t FloorBytes(const Program& program, const PlanOptions& options) {
  const uint64_t slot_bytes = AlignUp(program.max_memory_bytes(), kArenaAlignment);
  const uint64_t ring_bytes = MinSlots(program) * slot_bytes;
  return options.overhead.total() + std::min(ring_bytes, WeightMemoryBytes(program));
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
  auto memory = [](const Block& block) {
    return block.kind == BlockKind::kWeights ? AlignUp(block.memory_bytes, kArenaAlignment) : 0;
  };
  uint32_t slots = 0;
  uint64_t resident_budget = available;
  if (available < WeightMemoryBytes(program)) {
    const uint64_t slot_bytes = AlignUp(program.max_memory_bytes(), kArenaAlignment);
    const uint64_t half = available / 2 / slot_bytes;
    slots = static_cast<uint32_t>(std::min<uint64_t>(PreferredSlots(program, options),
                                                     std::max<uint64_t>(half, MinSlots(program))));
    resident_budget = available - slots * slot_bytes;
  }
  Plan plan;
  plan.dram_budget_bytes = dram_budget_bytes;
  LayOut(program, ChooseResident(program, resident_budget, memory), slots, &plan);
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
  auto payload = [](const Block& block) {
    return block.kind == BlockKind::kWeights ? block.payload_bytes : 0;
  };
  const auto goal = static_cast<uint64_t>(share * static_cast<double>(program.payload_bytes()));
  Plan plan;
  LayOut(program, ChooseResident(program, share == 1 ? program.payload_bytes() : goal, payload),
         PreferredSlots(program, options), &plan);
  FinishPlan(program, options, &plan);
  plan.dram_budget_bytes = plan.dram_bytes();
  return plan;
}

absl::Status CheckPlanFits(const Program& program, const Plan& plan, const std::string& source) {
  if (plan.fingerprint != program.fingerprint || plan.placements.size() != program.blocks.size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        source, ": this plan was made for another model or another way of cutting it (",
        plan.placements.size(), " blocks, here ", program.blocks.size(),
        "). Make a new one with `weir plan MODEL --json FILE`"));
  }
  // What the file says it needs must be what this program needs under it.
  uint64_t arena_bytes = 0;
  uint32_t streamed = 0;
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    const Tier home = plan.placements[i].home;
    const bool has_home = program.blocks[i].kind == BlockKind::kWeights;
    if (home == Tier::kDevice || plan.placements[i].compute_device != ComputeDevice::kCpu) {
      return absl::UnimplementedError(absl::StrCat(
          source, ": block ", i, " belongs on an accelerator, and this version has none"));
    }
    if (home == Tier::kDisk) {
      streamed += has_home ? 1 : 0;
      continue;
    }
    if (!has_home) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": block ", i,
                       " is gathered anew at every pass and cannot have the home \"host\""));
    }
    if (plan.placements[i].arena_offset_bytes != arena_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": block ", i, " lies at ", plan.placements[i].arena_offset_bytes,
                       " in the resident arena, expected ", arena_bytes));
    }
    arena_bytes += AlignUp(program.blocks[i].memory_bytes, kArenaAlignment);
  }
  const uint32_t min_slots = std::max(std::min(streamed, MinSlots(program)), program.max_needs());
  const bool ring_fits =
      streamed == 0 || (plan.slots >= min_slots && plan.slot_bytes >= program.max_memory_bytes() &&
                        plan.slot_bytes % kArenaAlignment == 0);
  if (arena_bytes != plan.resident_arena_bytes || !ring_fits ||
      plan.dram_bytes() > plan.dram_budget_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": the plan's arena (", plan.resident_arena_bytes, " bytes, expected ", arena_bytes,
        "), ring (", plan.slots, " slots of ", plan.slot_bytes, " bytes) and budget (",
        plan.dram_budget_bytes,
        " bytes) do not fit together. Make a new one with `weir plan MODEL --json FILE`"));
  }
  return absl::OkStatus();
}

}  // namespace weir
