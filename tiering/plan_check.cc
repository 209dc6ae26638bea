// Whether a plan, perhaps read from a file, is one for this program.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "tiering/plan.h"
#include "tiering/plan_layout.h"

namespace weir {
namespace {

constexpr absl::string_view kMakeNew = ". Make a new one with `weir plan MODEL --json FILE`";

std::string BlockAt(const std::string& source, size_t block) {
  return absl::StrCat(source, ": block ", block);
}

absl::Status CheckPlacement(const Program& program, const Plan& plan, size_t i,
                            const std::string& source) {
  const Placement& placement = plan.placements[i];
  const bool on_accelerator = placement.compute_device == ComputeDevice::kAccelerator;
  if (program.blocks[i].kind != BlockKind::kWeights) {
    if (placement.home == Tier::kDisk && !on_accelerator) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        BlockAt(source, i), " is gathered anew at every pass and cannot have the ",
        on_accelerator ? "compute device \"accelerator\"" : "home \"host\" or \"device\""));
  }
  if (!plan.accelerator.has_value() && (placement.home == Tier::kDevice || on_accelerator)) {
    return absl::InvalidArgumentError(absl::StrCat(
        BlockAt(source, i), " belongs on an accelerator, and the plan has none", kMakeNew));
  }
  if (placement.home == Tier::kDevice && !on_accelerator) {
    return absl::InvalidArgumentError(
        absl::StrCat(BlockAt(source, i),
                     " has the home \"device\" and the compute device \"cpu\", which cannot reach "
                     "it. Give it \"accelerator\", or another home"));
  }
  return absl::OkStatus();
}

// Blocks of one tier follow each other in its arena without gaps and fill it.
absl::Status CheckArena(const Program& program, const Plan& plan, Tier home, uint64_t arena_bytes,
                        const std::string& source) {
  const char* name = home == Tier::kHost ? "resident" : "device";
  uint64_t expected = 0;
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    if (plan.placements[i].home != home) continue;
    if (plan.placements[i].arena_offset_bytes != expected) {
      return absl::InvalidArgumentError(
          absl::StrCat(BlockAt(source, i), " lies at ", plan.placements[i].arena_offset_bytes,
                       " in the ", name, " arena, expected ", expected));
    }
    expected += ArenaBytes(program.blocks[i]);
  }
  if (expected == arena_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(source, ": the plan's ", name, " arena (",
                                                 arena_bytes, " bytes, expected ", expected,
                                                 ") and its blocks do not fit together", kMakeNew));
}

// A ring that `blocks` pass through.
absl::Status CheckRing(const Program& program, uint32_t blocks, uint32_t slots, uint64_t slot_bytes,
                       const char* name, const std::string& source) {
  const uint32_t least = MinSlotsFor(program, blocks);
  if (blocks == 0 || (slots >= least && slot_bytes >= program.max_memory_bytes() &&
                      slot_bytes % kArenaAlignment == 0)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      source, ": the plan's ", name, " (", slots, " slots of ", slot_bytes, " bytes) and its ",
      blocks, " blocks that pass through do not fit together: at least ", least, " slots of ",
      SlotBytes(program), " bytes, each a multiple of ", kArenaAlignment, kMakeNew));
}

absl::Status CheckSteps(const Program& program, const Plan& plan, const std::string& source) {
  for (StepId step = 0; step < program.steps.size(); ++step) {
    const ComputeDevice device = StepDevice(program, plan, step, /*wide=*/false);
    for (BlockId block : program.steps[step].needs) {
      if (program.blocks[block].kind != BlockKind::kWeights) continue;
      if (plan.placements[block].compute_device == device) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          BlockAt(source, block), " has another compute device than the other blocks of its step"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBudget(uint64_t bytes, uint64_t budget_bytes, const char* name,
                         const std::string& source) {
  if (bytes <= budget_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(source, ": what the plan takes of ", name, " (",
                                                 bytes, " bytes) and its budget (", budget_bytes,
                                                 " bytes) do not fit together", kMakeNew));
}

uint32_t CountHomes(const Program& program, const Plan& plan, Tier home) {
  const auto blocks =
      WeightBlocks(program, [&plan, home](BlockId id) { return plan.placements[id].home == home; });
  return static_cast<uint32_t>(blocks.size());
}

absl::Status CheckAccelerator(const Program& program, const Plan& plan, const std::string& source) {
  const AcceleratorPlan& accelerator = *plan.accelerator;
  WEIR_RETURN_IF_ERROR(CheckArena(program, plan, Tier::kDevice, accelerator.arena_bytes, source));
  const uint32_t copied =
      CountHomes(program, plan, Tier::kDisk) + CountHomes(program, plan, Tier::kHost);
  WEIR_RETURN_IF_ERROR(
      CheckRing(program, copied, accelerator.slots, accelerator.slot_bytes, "device ring", source));
  WEIR_RETURN_IF_ERROR(CheckSteps(program, plan, source));
  return CheckBudget(accelerator.hbm_bytes(), accelerator.hbm_budget_bytes,
                     "the accelerator's memory", source);
}

}  // namespace

absl::Status CheckPlanFits(const Program& program, const Plan& plan, const std::string& source) {
  if (plan.fingerprint != program.fingerprint || plan.placements.size() != program.blocks.size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        source, ": this plan was made for another model or another way of cutting it (",
        plan.placements.size(), " blocks, here ", program.blocks.size(), ")", kMakeNew));
  }
  // What the file says it needs must be what this program needs under it.
  for (size_t i = 0; i < program.blocks.size(); ++i) {
    WEIR_RETURN_IF_ERROR(CheckPlacement(program, plan, i, source));
  }
  WEIR_RETURN_IF_ERROR(CheckArena(program, plan, Tier::kHost, plan.resident_arena_bytes, source));
  const uint32_t read =
      CountHomes(program, plan, Tier::kDisk) + CountHomes(program, plan, Tier::kDevice);
  WEIR_RETURN_IF_ERROR(CheckRing(program, read, plan.slots, plan.slot_bytes, "ring", source));
  WEIR_RETURN_IF_ERROR(CheckBudget(plan.dram_bytes(), plan.dram_budget_bytes, "DRAM", source));
  if (!plan.accelerator.has_value()) return absl::OkStatus();
  return CheckAccelerator(program, plan, source);
}

}  // namespace weir
