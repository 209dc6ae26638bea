// Residency: what lies in one tier's memory: the state, slot and pins of each block there. Numbers
// only; it starts nothing and knows nothing of other tiers.
//
//   absent -> arriving -> ready -> absent
//
// A block that is `leaving` is wanted no more: it becomes absent, and its slot free, as soon as it
// has arrived and nothing pins it.
#ifndef WEIR_TIERING_RESIDENCY_H_
#define WEIR_TIERING_RESIDENCY_H_

#include <cstdint>
#include <vector>

#include "tiering/block.h"
#include "tiering/pool.h"

namespace weir {

class Residency {
 public:
  // `slot` of a block that has memory of its own.
  static constexpr SlotId kOwnMemory = UINT32_MAX;

  Residency(size_t blocks, uint32_t slots);

  bool IsAbsent(BlockId block) const { return places_[block].state == State::kAbsent; }
  bool IsArriving(BlockId block) const { return places_[block].state == State::kArriving; }
  bool IsLeaving(BlockId block) const { return places_[block].leaving; }
  // Arriving or ready, and meant to stay.
  bool Holds(BlockId block) const { return !IsAbsent(block) && !IsLeaving(block); }
  bool IsReady(BlockId block) const {
    return places_[block].state == State::kReady && !IsLeaving(block);
  }
  SlotId slot(BlockId block) const { return places_[block].slot; }
  uint32_t free_slots() const { return pool_.size() - pool_.in_use(); }
  uint32_t slots_in_use() const { return pool_.in_use(); }

  // An absent block begins to arrive, in a slot that is free (checked) or in its own memory; where.
  SlotId Begin(BlockId block, bool in_slot);
  void Arrive(BlockId block);  // arriving -> ready, or absent when it was leaving
  void Fail(BlockId block);    // arriving -> absent
  void Leave(BlockId block);
  void Keep(BlockId block) { places_[block].leaving = false; }  // it is wanted after all

  // Users of bytes that are there, or arriving: steps, and copies to another tier.
  void Pin(BlockId block) { ++places_[block].pins; }
  void Unpin(BlockId block);

 private:
  enum class State : uint8_t { kAbsent, kArriving, kReady };
  struct Place {
    State state = State::kAbsent;
    bool leaving = false;
    SlotId slot = kOwnMemory;
    uint32_t pins = 0;
  };

  void FreeIfLeft(BlockId block);
  void Free(BlockId block);

  std::vector<Place> places_;  // by block
  SlotPool pool_;
};

}  // namespace weir

#endif  // WEIR_TIERING_RESIDENCY_H_
