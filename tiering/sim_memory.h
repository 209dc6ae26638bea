// SimMemory: what lies where in one tier's memory of a simulated machine: places of blocks, what
// the slots hold, and a number for the bytes at every place, so that a change is seen.
#ifndef WEIR_TIERING_SIM_MEMORY_H_
#define WEIR_TIERING_SIM_MEMORY_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "tiering/pool.h"
#include "tiering/program.h"

namespace weir {

class SimMemory {
 public:
  static constexpr SlotId kOwnMemory = UINT32_MAX;
  enum class Presence : uint8_t { kAbsent, kArriving, kPresent };
  // A block's copy in this memory.
  struct Place {
    Presence presence = Presence::kAbsent;
    SlotId slot = kOwnMemory;
    uint32_t pins = 0;     // by steps run and not told done
    bool copying = false;  // to another tier, and not told done
    bool used = false;     // by a step or a copy, since it arrived
    uint64_t arrivals = 0;
  };

  // `base_bytes` are held beside the blocks. The program must outlive this.
  SimMemory(const Program& program, uint32_t slots, uint64_t slot_bytes, uint64_t base_bytes);

  const Place& at(BlockId block) const { return places_[block]; }
  Place& at(BlockId block) { return places_[block]; }
  uint32_t slots() const { return static_cast<uint32_t>(occupants_.size()); }
  uint64_t slot_bytes() const { return slot_bytes_; }
  const std::optional<BlockId>& occupant(SlotId slot) const { return occupants_[slot]; }
  // Number of the bytes that lie there: of the arrival that brought them; 0 while they change.
  uint64_t& content(BlockId block, SlotId slot) {
    return slot < slots() ? slot_contents_[slot] : own_contents_[block];
  }

  // The block begins to arrive; what was in the slot is gone.
  void Occupy(BlockId block, SlotId slot);
  void Vacate(BlockId block);
  // A slot is free, or its block used up.
  bool HasRoom() const;
  bool IsUsedUp(BlockId block) const {
    const Place& place = places_[block];
    return place.presence == Presence::kPresent && place.used && place.pins == 0 && !place.copying;
  }

  uint64_t held_bytes() const { return held_bytes_; }
  uint64_t peak_held_bytes() const { return peak_held_bytes_; }
  uint64_t unused() const { return unused_; }  // arrivals that left without having been used

 private:
  bool IsRows(BlockId block) const { return program_.blocks[block].kind == BlockKind::kRows; }
  void Hold(uint64_t bytes);

  const Program& program_;
  const uint64_t slot_bytes_;
  std::vector<Place> places_;                      // by block
  std::vector<std::optional<BlockId>> occupants_;  // by slot
  std::vector<uint64_t> slot_contents_;            // by slot
  std::vector<uint64_t> own_contents_;             // by block, of those with memory of their own
  uint64_t held_bytes_ = 0;
  uint64_t peak_held_bytes_ = 0;
  uint64_t unused_ = 0;
};

}  // namespace weir

#endif  // WEIR_TIERING_SIM_MEMORY_H_
