#include "kernels/work_ranges.h"

#include <algorithm>

#include "io/base.h"

namespace weir {
namespace {

constexpr uint32_t kItemBits = 28;
constexpr uint64_t kItemMask = WorkRanges::kMaxItems;
static_assert((kItemMask >> kItemBits) == 0);
constexpr uint32_t kKernels = 1u << (64 - 2 * kItemBits);
// Looking at a colleague's share costs a cache line from another core; many would cost more than
// what is still to be had from the last of them.
constexpr uint32_t kMaxColleagues = 8;

uint64_t Pack(uint32_t kernel, WorkRange range) {
  return uint64_t{kernel} << (2 * kItemBits) | uint64_t{range.end} << kItemBits | range.begin;
}
uint32_t KernelOf(uint64_t packed) { return static_cast<uint32_t>(packed >> (2 * kItemBits)); }
WorkRange RangeOf(uint64_t packed) {
  return {static_cast<uint32_t>(packed & kItemMask),
          static_cast<uint32_t>(packed >> kItemBits & kItemMask)};
}

}  // namespace

void WorkRanges::Begin(uint32_t worker, uint32_t items) {
  WEIR_CHECK(items <= kMaxItems);
  Share& share = shares_[worker];
  share.kernel = (share.kernel + 1) % kKernels;
  share.items = items;
}

bool WorkRanges::Take(uint32_t worker, const WorkPortion& portion, WorkRange* range) {
  Share& own = shares_[worker];
  for (;;) {
    uint64_t packed = Current(worker, own.kernel, own.items);
    const WorkRange left = RangeOf(packed);
    const uint32_t count = left.end - left.begin;
    if (count == 0) {
      if (!TakeOver(worker, portion)) return false;
      continue;
    }
    const uint32_t wanted = std::clamp(count / 4, portion.least, portion.most);
    const uint32_t end = left.begin + std::min(wanted, count);
    if (own.range.compare_exchange_strong(packed, Pack(own.kernel, {end, left.end}))) {
      *range = {left.begin, end};
      return true;
    }
  }
}

// What `owner` has left in this kernel: all of its share if it has not begun.
uint64_t WorkRanges::Current(uint32_t owner, uint32_t kernel, uint32_t items) {
  std::atomic<uint64_t>& range = shares_[owner].range;
  uint64_t packed = range.load();
  if (KernelOf(packed) == kernel) return packed;
  const uint64_t workers = shares_.size();
  const uint64_t whole =
      Pack(kernel, {static_cast<uint32_t>(uint64_t{items} * owner / workers),
                    static_cast<uint32_t>(uint64_t{items} * (owner + 1) / workers)});
  return range.compare_exchange_strong(packed, whole) ? whole : packed;
}

// Makes the rear half of a colleague's range the worker's own, which is empty: nobody else writes
// to an empty one.
bool WorkRanges::TakeOver(uint32_t worker, const WorkPortion& portion) {
  Share& own = shares_[worker];
  const auto workers = static_cast<uint32_t>(shares_.size());
  const uint32_t colleagues = std::min(kMaxColleagues, workers - 1);
  for (uint32_t i = 1; i <= colleagues; ++i) {
    const uint32_t owner = (worker + i) % workers;
    for (;;) {
      uint64_t packed = Current(owner, own.kernel, own.items);
      const WorkRange left = RangeOf(packed);
      const uint32_t count = left.end - left.begin;
      if (count == 0) break;
      const uint32_t begin = left.end - std::min(count, std::max(portion.least, count / 2));
      if (shares_[owner].range.compare_exchange_strong(packed,
                                                       Pack(own.kernel, {left.begin, begin}))) {
        own.range.store(Pack(own.kernel, {begin, left.end}));
        return true;
      }
    }
  }
  return false;
}

}  // namespace weir
