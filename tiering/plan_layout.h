// Parts that the planners share: which blocks stay, evenly spread, and how rings and arenas are
// sized and laid out.
#ifndef WEIR_TIERING_PLAN_LAYOUT_H_
#define WEIR_TIERING_PLAN_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "tiering/plan.h"
#include "tiering/program.h"

namespace weir {

inline constexpr uint64_t kArenaAlignment = 4096;  // of blocks in an arena, and of slots

uint64_t ArenaBytes(const Block& block);            // room in an arena; 0 of rows
uint64_t WeightArenaBytes(const Program& program);  // of all blocks together
uint64_t SlotBytes(const Program& program);         // of a ring that any block passes through

// A step's blocks, and one more so that the next can arrive while the step computes.
uint32_t MinSlots(const Program& program);
// Slots that `blocks` of the program's need: never more than there are blocks to fill them.
uint32_t MinSlotsFor(const Program& program, uint32_t blocks);
// Of a ring of about so many bytes.
uint32_t PreferredSlots(const Program& program, uint64_t ring_bytes);
// Slots of a ring that shares `available_bytes` with what stays: the preferred number, but three
// quarters of the room at most while that is small, and `least` in any case. (Below the preferred
// size a byte of ring is worth more than a byte that stays: docs/performance.md.)
uint32_t RingSlots(const Program& program, uint64_t available_bytes, uint64_t preferred_ring_bytes,
                   uint32_t least);

// Takes some of a row of things while their prices stay within `budget`, spread evenly: each earns
// credit in proportion to its price and is taken when the credit pays for it; what rounding leaves
// over is then spent in order. By thing.
std::vector<bool> ChooseEvenly(const std::vector<uint64_t>& prices, uint64_t budget);

// Weight blocks of the program that satisfy `wanted`, in its order.
template <typename Wanted>
std::vector<BlockId> WeightBlocks(const Program& program, Wanted wanted) {
  std::vector<BlockId> blocks;
  for (BlockId id = 0; id < program.blocks.size(); ++id) {
    if (program.blocks[id].kind == BlockKind::kWeights && wanted(id)) blocks.push_back(id);
  }
  return blocks;
}

// Gives `home` to some of `blocks`, evenly, within a budget of arena bytes.
void SettleEvenly(const Program& program, const std::vector<BlockId>& blocks, uint64_t budget_bytes,
                  Tier home, Plan* plan);
// Gives every block whose home is `home` its place in that tier's arena; the arena's size.
uint64_t LayOutArena(const Program& program, Tier home, Plan* plan);

}  // namespace weir

#endif  // WEIR_TIERING_PLAN_LAYOUT_H_
