#include "tiering/sim_memory.h"

#include <algorithm>

namespace weir {

SimMemory::SimMemory(const Program& program, uint32_t slots, uint64_t slot_bytes,
                     uint64_t base_bytes)
    : program_(program),
      slot_bytes_(slot_bytes),
      places_(program.blocks.size()),
      occupants_(slots),
      slot_contents_(slots, 0),
      own_contents_(program.blocks.size(), 0) {
  Hold(base_bytes);
}

void SimMemory::Hold(uint64_t bytes) {
  held_bytes_ += bytes;
  peak_held_bytes_ = std::max(peak_held_bytes_, held_bytes_);
}

// Bytes count while a copy is in memory or on its way there; rows are part of the overhead.
void SimMemory::Occupy(BlockId block, SlotId slot) {
  Vacate(block);
  if (slot < slots()) {
    if (occupants_[slot].has_value()) Vacate(*occupants_[slot]);
    occupants_[slot] = block;
    Hold(slot_bytes_);
  } else if (!IsRows(block)) {
    Hold(program_.blocks[block].memory_bytes);
  }
  places_[block].presence = Presence::kArriving;
  places_[block].slot = slot;
  content(block, slot) = 0;
}

void SimMemory::Vacate(BlockId block) {
  Place& place = places_[block];
  if (place.presence == Presence::kAbsent) return;
  if (place.presence == Presence::kPresent && !place.used) ++unused_;
  if (place.slot < slots()) {
    if (occupants_[place.slot] == block) {
      occupants_[place.slot].reset();
      held_bytes_ -= slot_bytes_;
    }
  } else if (!IsRows(block)) {
    held_bytes_ -= program_.blocks[block].memory_bytes;
  }
  place.presence = Presence::kAbsent;
  place.slot = kOwnMemory;
  place.used = false;
}

bool SimMemory::HasRoom() const {
  return std::any_of(occupants_.begin(), occupants_.end(),
                     [this](const auto& block) { return !block.has_value() || IsUsedUp(*block); });
}

}  // namespace weir
