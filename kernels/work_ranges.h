// WorkRanges: the items of one kernel, shared between the workers of a team while it runs. Each
// begins with an equal range of its own, from whose front it takes portion by portion; whoever runs
// out takes the rear half of what a colleague has left. A worker that is slower than the others
// (a core that another thread interrupts, or that memory serves less well) then costs what one
// portion takes, not its whole share, while neighbouring items stay together.
//
// Which worker does an item is not determined: results must not depend on it.
#ifndef WEIR_KERNELS_WORK_RANGES_H_
#define WEIR_KERNELS_WORK_RANGES_H_

#include <atomic>
#include <cstdint>
#include <vector>

namespace weir {

struct WorkRange {  // items [begin, end)
  uint32_t begin = 0;
  uint32_t end = 0;
};

// How much is taken at once: a quarter of what is left of the range, within these bounds. Both at
// least 1.
struct WorkPortion {
  uint32_t least = 1;
  uint32_t most = UINT32_MAX;
};

// No locks; nothing is allocated after construction.
class WorkRanges {
 public:
  static constexpr uint32_t kMaxItems = (1u << 28) - 1;

  explicit WorkRanges(uint32_t workers) : shares_(workers) {}

  // Every worker of a kernel calls Begin once, with the same number of items (at most kMaxItems),
  // then Take until it is false. Another kernel begins when all have left this one.
  void Begin(uint32_t worker, uint32_t items);
  bool Take(uint32_t worker, const WorkPortion& portion, WorkRange* range);

 private:
  // Shares are told apart by kernel, so that a worker which has not begun yet, and still has the
  // empty share of the kernel before, can be relieved, too. One bit would do: no share is older
  // than that.
  struct alignas(64) Share {
    std::atomic<uint64_t> range{0};  // packed: kernel, end, begin
    // The worker's own:
    uint32_t kernel = 0;
    uint32_t items = 0;
  };

  uint64_t Current(uint32_t owner, uint32_t kernel, uint32_t items);
  bool TakeOver(uint32_t worker, const WorkPortion& portion);

  std::vector<Share> shares_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_WORK_RANGES_H_
