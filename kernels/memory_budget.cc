#include "kernels/memory_budget.h"

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {

absl::Status MemoryBudget::Take(uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t free_bytes = total_bytes_ - taken_bytes_;
  if (bytes <= free_bytes) {
    taken_bytes_ += bytes;
    return absl::OkStatus();
  }
  uint64_t needed_bytes;
  const bool is_sane = CheckedAdd(taken_bytes_, bytes, &needed_bytes);
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
