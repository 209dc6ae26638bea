#include "kernels/pinned_ranges.h"

#include <iterator>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

class ListedRange final : public PinnedRange {
 public:
  ListedRange(PinnedRanges* ranges, const uint8_t* data) : ranges_(ranges), data_(data) {}
  ~ListedRange() override { ranges_->Remove(data_); }

 private:
  PinnedRanges* const ranges_;
  const uint8_t* const data_;
};

}  // namespace

absl::Status PinnedRanges::Add(const uint8_t* data, uint64_t bytes) {
  if (data == nullptr || bytes == 0) {
    return absl::InvalidArgumentError("there is no memory to pin: it has no bytes.");
  }
  const uint64_t begin = reinterpret_cast<uint64_t>(data);
  const uint64_t end = begin + bytes;
  WEIR_CHECK(end > begin);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto after = end_by_begin_.lower_bound(end);  // the first that begins behind the end
  if (after != end_by_begin_.begin() && std::prev(after)->second > begin) {
    const auto& [old_begin, old_end] = *std::prev(after);
    return absl::AlreadyExistsError(absl::StrCat(
        "cannot pin ", bytes, " bytes of memory at ", absl::Hex(begin), ": ", old_end - old_begin,
        " bytes at ", absl::Hex(old_begin), " are pinned already. Pin memory once, as a whole."));
  }
  end_by_begin_.emplace_hint(after, begin, end);
  return absl::OkStatus();
}

void PinnedRanges::Remove(const uint8_t* data) {
  const std::lock_guard<std::mutex> lock(mutex_);
  WEIR_CHECK(end_by_begin_.erase(reinterpret_cast<uint64_t>(data)) == 1);
}

absl::StatusOr<std::unique_ptr<PinnedRange>> PinnedRanges::Pin(const uint8_t* data,
                                                               uint64_t bytes) {
  WEIR_RETURN_IF_ERROR(Add(data, bytes));
  return std::make_unique<ListedRange>(this, data);
}

}  // namespace weir
