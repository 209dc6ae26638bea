#include "tests/tiering/accelerator_helper.h"

#include <algorithm>
#include <string>
#include <vector>

#include "tiering/plan_layout.h"

namespace weir {
namespace {

Plan PlannedForAnyBudgets(const Program& program, Dice* dice) {
  PlanOptions options = SmallAcceleratorOptions();
  options.preferred_ring_bytes = dice->Between(1, 64) * 65536;
  options.preferred_device_ring_bytes = dice->Between(1, 64) * 65536;
  options.in_place = static_cast<InPlace>(dice->Below(3));
  if (dice->OneIn(2)) {
    options.ceilings.disk_bytes_per_s = 1e8 * static_cast<double>(dice->Between(1, 100));
    options.ceilings.compute_bytes_per_s = 1e9 * static_cast<double>(dice->Between(1, 100));
    options.ceilings.host_compute_bytes_per_s = 1e8 * static_cast<double>(dice->Between(1, 100));
    options.ceilings.link_bytes_per_s = 1e8 * static_cast<double>(dice->Between(1, 100));
  }
  uint64_t all_bytes = 1 << 16;
  for (const Block& block : program.blocks) all_bytes += block.memory_bytes;
  const uint64_t dram_bytes = AcceleratorDramFloorBytes(program, options) + dice->Below(all_bytes);
  const uint64_t hbm_bytes = HbmFloorBytes(program, options) + dice->Below(all_bytes);
  return *MakeAcceleratorPlan(program, dram_bytes, hbm_bytes, options);
}

// Of a random kind for the whole plan: none, all, or any share.
double RandomShare(Dice* dice) {
  return dice->OneIn(4) ? 0.0 : dice->OneIn(4) ? 1.0 : dice->Share();
}

void SettleRandomly(const Program& program, Dice* dice, Plan* plan) {
  const double cpu_share = RandomShare(dice);
  const double device_share = RandomShare(dice);
  const double host_share = RandomShare(dice);
  for (const Step& step : program.steps) {
    const bool on_cpu = dice->Share() < cpu_share;
    for (BlockId block : step.needs) {
      if (program.blocks[block].kind != BlockKind::kWeights) continue;
      Placement& placement = plan->placements[block];
      placement.compute_device = on_cpu ? ComputeDevice::kCpu : ComputeDevice::kAccelerator;
      if (!on_cpu && dice->Share() < device_share) {
        placement.home = Tier::kDevice;
      } else if (dice->Share() < host_share) {
        placement.home = Tier::kHost;
      }
    }
  }
}

uint32_t CountHome(const Program& program, const Plan& plan, Tier home) {
  const auto is_home = [&](BlockId id) { return plan.placements[id].home == home; };
  return static_cast<uint32_t>(WeightBlocks(program, is_home).size());
}

Plan EmptyPlan(const Program& program) {
  Plan plan;
  plan.fingerprint = program.fingerprint;
  plan.shape = SmallOverhead().shape;
  plan.overhead = SmallOverhead().overhead;
  plan.placements.assign(program.blocks.size(), Placement());
  plan.accelerator.emplace();
  plan.accelerator->overhead = SmallDeviceOverhead();
  plan.accelerator->in_place_tokens = 4;
  return plan;
}

// Arenas, rings of so many slots if anything passes through them, and budgets that just hold them.
void FinishPlan(const Program& program, uint32_t slots, uint32_t device_slots, Plan* plan) {
  AcceleratorPlan& accelerator = *plan->accelerator;
  const uint32_t on_disk = CountHome(program, *plan, Tier::kDisk);
  const uint32_t read = on_disk + CountHome(program, *plan, Tier::kDevice);
  const uint32_t copied = on_disk + CountHome(program, *plan, Tier::kHost);
  const auto ring = [&](uint32_t blocks, uint32_t wanted) {
    const uint32_t most = std::max(blocks, program.max_needs());
    return blocks == 0 ? 0 : std::clamp(wanted, MinSlotsFor(program, blocks), most);
  };
  plan->slots = ring(read, slots);
  accelerator.slots = ring(copied, device_slots);
  plan->slot_bytes = accelerator.slot_bytes = SlotBytes(program);
  plan->resident_arena_bytes = LayOutArena(program, Tier::kHost, plan);
  accelerator.arena_bytes = LayOutArena(program, Tier::kDevice, plan);
  plan->dram_budget_bytes = plan->dram_bytes();
  accelerator.hbm_budget_bytes = accelerator.hbm_bytes();
}

}  // namespace

Program GroupedProgram(uint32_t layers, uint64_t block_bytes) {
  constexpr uint32_t kBlocks = 8;
  Program program = UniformProgram({.layers = layers,
                                    .blocks_per_layer = kBlocks,
                                    .head_blocks = kBlocks,
                                    .block_bytes = block_bytes});
  for (StepId step = 2; step < program.steps.size(); ++step) {
    const uint32_t at = (step - 1) % kBlocks;
    const bool begins_group = at == 0 || at == 3 || at == 4 || at == 7;
    program.steps[step].joins_previous =
        step > program.head_step || (step < program.head_step && !begins_group);
  }
  return program;
}

DeviceOverheadBytes SmallDeviceOverhead() {
  return {.small_tensors = 6000,
          .kv = 80'000,
          .activations = 20'000,
          .inputs = 3000,
          .scratch = 10'000};
}

PlanOptions SmallAcceleratorOptions() {
  PlanOptions options = SmallOverhead();
  options.device_overhead = SmallDeviceOverhead();
  return options;
}

Plan PlanOfShares(const Program& program, const TierShares& shares) {
  Plan plan = EmptyPlan(program);
  const auto settle = [&](Tier home, double share) {
    const auto left =
        WeightBlocks(program, [&](BlockId id) { return plan.placements[id].home == Tier::kDisk; });
    uint64_t bytes = 0;
    for (BlockId block : left) bytes += ArenaBytes(program.blocks[block]);
    SettleEvenly(program, left, static_cast<uint64_t>(share * static_cast<double>(bytes)), home,
                 &plan);
  };
  settle(Tier::kDevice, shares.device);
  settle(Tier::kHost, shares.host);
  double credit = 0;
  for (BlockId block : WeightBlocks(program, [](BlockId) { return true; })) {
    plan.placements[block].compute_device = ComputeDevice::kAccelerator;
    if (plan.placements[block].home != Tier::kHost) continue;
    credit += shares.cpu;
    if (credit < 1 - 1e-9) continue;
    credit -= 1;
    plan.placements[block].compute_device = ComputeDevice::kCpu;
  }
  FinishPlan(program, shares.slots, shares.device_slots, &plan);
  return plan;
}

Plan RandomAcceleratorPlan(const Program& program, Dice* dice) {
  if (dice->OneIn(4)) return PlannedForAnyBudgets(program, dice);
  Plan plan = EmptyPlan(program);
  SettleRandomly(program, dice, &plan);
  const uint64_t more = dice->OneIn(2) ? 2 : 12;
  const auto extra = [&] { return static_cast<uint32_t>(dice->Below(more)); };
  const uint32_t slots = MinSlots(program) + extra();
  FinishPlan(program, slots, MinSlots(program) + extra(), &plan);
  return plan;
}

void AddRandomAccelerator(Dice* dice, SimHardware* hardware) {
  hardware->host_compute_bytes_per_s = 1e8 * static_cast<double>(dice->Between(1, 100));
  hardware->link_bytes_per_s = 1e8 * static_cast<double>(dice->Between(1, 100));
  hardware->link_latency_ns = static_cast<int64_t>(dice->Below(50'000));
  hardware->max_copies = static_cast<uint32_t>(dice->Between(1, 8));
}

uint64_t CopiedUses(const Program& program, const Plan& plan, const PassSpec& pass) {
  uint64_t uses = 0;
  for (StepId step = 0; step < StepsOf(program, pass); ++step) {
    if (StepDevice(program, plan, step, pass.wide) == ComputeDevice::kCpu) continue;
    for (BlockId block : program.steps[step].needs) {
      const bool weights = program.blocks[block].kind == BlockKind::kWeights;
      uses += weights && plan.placements[block].home != Tier::kDevice ? 1 : 0;
    }
  }
  return uses;
}

uint64_t CpuSteps(const Program& program, const Plan& plan, const PassSpec& pass) {
  uint64_t steps = 0;
  for (StepId step = 0; step < StepsOf(program, pass); ++step) {
    steps += StepDevice(program, plan, step, pass.wide) == ComputeDevice::kCpu ? 1 : 0;
  }
  return steps;
}

}  // namespace weir
