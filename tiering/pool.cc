#include "tiering/pool.h"

#include "io/base.h"

namespace weir {

SlotPool::SlotPool(uint32_t slots) : used_(slots, false) {}

std::optional<SlotId> SlotPool::Acquire() {
  for (SlotId slot = 0; slot < used_.size(); ++slot) {
    if (used_[slot]) continue;
    used_[slot] = true;
    ++in_use_;
    return slot;
  }
  return std::nullopt;
}

void SlotPool::Release(SlotId slot) {
  WEIR_CHECK(slot < used_.size());
  WEIR_CHECK(used_[slot]);
  used_[slot] = false;
  --in_use_;
}

}  // namespace weir
