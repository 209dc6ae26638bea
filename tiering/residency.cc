#include "tiering/residency.h"

#include "io/base.h"

namespace weir {

Residency::Residency(size_t blocks, uint32_t slots) : places_(blocks), pool_(slots) {}

SlotId Residency::Begin(BlockId block, bool in_slot) {
  Place& place = places_[block];
  WEIR_CHECK(place.state == State::kAbsent && place.pins == 0);
  place.slot = kOwnMemory;
  if (in_slot) {
    const std::optional<SlotId> slot = pool_.Acquire();
    WEIR_CHECK(slot.has_value());
    place.slot = *slot;
  }
  place.state = State::kArriving;
  return place.slot;
}

void Residency::Arrive(BlockId block) {
  WEIR_CHECK(places_[block].state == State::kArriving);
  places_[block].state = State::kReady;
  FreeIfLeft(block);
}

void Residency::Fail(BlockId block) {
  WEIR_CHECK(places_[block].state == State::kArriving);
  Free(block);
}

void Residency::Leave(BlockId block) {
  WEIR_CHECK(places_[block].state != State::kAbsent);
  places_[block].leaving = true;
  FreeIfLeft(block);
}

void Residency::Unpin(BlockId block) {
  WEIR_CHECK(places_[block].pins > 0);
  --places_[block].pins;
  FreeIfLeft(block);
}

void Residency::FreeIfLeft(BlockId block) {
  const Place& place = places_[block];
  if (place.leaving && place.state == State::kReady && place.pins == 0) Free(block);
}

void Residency::Free(BlockId block) {
  WEIR_CHECK(places_[block].pins == 0);
  if (places_[block].slot != kOwnMemory) pool_.Release(places_[block].slot);
  places_[block] = Place();
}

}  // namespace weir
