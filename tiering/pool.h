// SlotPool: which of a fixed number of equal slots are free. Numbers only: the memory is the
// machine's. Running out is a value, never an allocation.
#ifndef WEIR_TIERING_POOL_H_
#define WEIR_TIERING_POOL_H_

#include <cstdint>
#include <optional>
#include <vector>

namespace weir {

using SlotId = uint32_t;

class SlotPool {
 public:
  explicit SlotPool(uint32_t slots);

  std::optional<SlotId> Acquire();  // lowest number free; nullopt when all are in use
  void Release(SlotId slot);        // one that is in use (checked)
  uint32_t size() const { return static_cast<uint32_t>(used_.size()); }
  uint32_t in_use() const { return in_use_; }

 private:
  std::vector<bool> used_;
  uint32_t in_use_ = 0;
};

}  // namespace weir

#endif  // WEIR_TIERING_POOL_H_
