#include "tiering/plan_layout.h"

#include <algorithm>
#include <numeric>

#include "io/base.h"

namespace weir {
namespace {

constexpr uint32_t kMaxSlots = 64;

}  // namespace

uint64_t ArenaBytes(const Block& block) {
  return block.kind == BlockKind::kWeights ? AlignUp(block.memory_bytes, kArenaAlignment) : 0;
}

uint64_t WeightArenaBytes(const Program& program) {
  uint64_t total = 0;
  for (const Block& block : program.blocks) total += ArenaBytes(block);
  return total;
}

uint64_t SlotBytes(const Program& program) {
  return AlignUp(program.max_memory_bytes(), kArenaAlignment);
}

uint32_t MinSlots(const Program& program) { return std::max(1u, program.max_needs()) + 1; }

uint32_t MinSlotsFor(const Program& program, uint32_t blocks) {
  return std::max(std::min(blocks, MinSlots(program)), program.max_needs());
}

uint32_t PreferredSlots(const Program& program, uint64_t ring_bytes) {
  const uint64_t wanted = ring_bytes / std::max<uint64_t>(1, SlotBytes(program));
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(wanted, MinSlots(program), std::max(kMaxSlots, MinSlots(program))));
}

uint32_t RingSlots(const Program& program, uint64_t available_bytes, uint64_t preferred_ring_bytes,
                   uint32_t least) {
  const uint64_t most = available_bytes / 4 * 3 / SlotBytes(program);
  return static_cast<uint32_t>(std::min<uint64_t>(PreferredSlots(program, preferred_ring_bytes),
                                                  std::max<uint64_t>(most, least)));
}

std::vector<bool> ChooseEvenly(const std::vector<uint64_t>& prices, uint64_t budget) {
  const uint64_t total = std::accumulate(prices.begin(), prices.end(), uint64_t{0});
  const double share = total == 0 ? 0.0 : static_cast<double>(budget) / static_cast<double>(total);
  std::vector<bool> taken(prices.size(), false);
  double credit = 0;
  uint64_t spent = 0;
  for (size_t i = 0; i < prices.size(); ++i) {
    const auto price = static_cast<double>(prices[i]);
    credit += share * price;
    if (credit < price || prices[i] > budget - spent) continue;
    credit -= price;
    taken[i] = true;
    spent += prices[i];
  }
  for (size_t i = 0; i < prices.size(); ++i) {
    if (taken[i] || prices[i] > budget - spent) continue;
    taken[i] = true;
    spent += prices[i];
  }
  return taken;
}

void SettleEvenly(const Program& program, const std::vector<BlockId>& blocks, uint64_t budget_bytes,
                  Tier home, Plan* plan) {
  std::vector<uint64_t> prices;
  prices.reserve(blocks.size());
  for (BlockId block : blocks) prices.push_back(ArenaBytes(program.blocks[block]));
  const std::vector<bool> taken = ChooseEvenly(prices, budget_bytes);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (taken[i]) plan->placements[blocks[i]].home = home;
  }
}

uint64_t LayOutArena(const Program& program, Tier home, Plan* plan) {
  uint64_t arena_bytes = 0;
  for (BlockId id = 0; id < program.blocks.size(); ++id) {
    if (plan->placements[id].home != home) continue;
    plan->placements[id].arena_offset_bytes = arena_bytes;
    arena_bytes += ArenaBytes(program.blocks[id]);
  }
  return arena_bytes;
}

}  // namespace weir
