#include "kernels/memory_budget.h"

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {

absl::Status MemoryBudget::Take(uint64_t bytes, uint64_t slack_bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t free_bytes = total_bytes_ - taken_bytes_;
  uint64_t needed_bytes;
  const bool is_sane = CheckedAdd(bytes, slack_bytes, &needed_bytes) &&
                       CheckedAdd(needed_bytes, taken_bytes_, &needed_bytes);
  if (is_sane && needed_bytes <= total_bytes_) {
    taken_bytes_ = needed_bytes;
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "cannot allocate ", FormatBytes(bytes), " (", bytes, " bytes) on ", device_, ": ",
      FormatBytes(free_bytes), " of its budget of ", FormatBytes(total_bytes_), " are free. ",
      is_sane ? absl::StrCat("Pass --hbm ", CeilDiv(needed_bytes, kMiB),
                             "MiB or more if the device has it, or ask for less: ")
              : "Ask for less: ",
      "a smaller context, or more weights left in DRAM."));
}

void MemoryBudget::Return(uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  WEIR_CHECK(bytes <= taken_bytes_);
  taken_bytes_ -= bytes;
}

DeviceMemory MemoryBudget::memory() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {.total_bytes = total_bytes_, .free_bytes = total_bytes_ - taken_bytes_};
}

}  // namespace weir
