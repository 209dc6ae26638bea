#include "kernels/host_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/memory_limits.h"

namespace weir {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2 * kMiB;
constexpr uint64_t kHugePagesFromBytes = 4 * kMiB;

class MappedBuffer final : public Buffer {
 public:
  MappedBuffer(uint8_t* data, uint64_t size_bytes, uint64_t mapped_bytes)
      : data_(data), size_bytes_(size_bytes), mapped_bytes_(mapped_bytes) {}
  ~MappedBuffer() override { WEIR_CHECK(munmap(data_, mapped_bytes_) == 0); }
  uint8_t* data() const override { return data_; }
  uint64_t size_bytes() const override { return size_bytes_; }

 private:
  uint8_t* const data_;
  const uint64_t size_bytes_;    // as asked for
  const uint64_t mapped_bytes_;  // whole pages
};

}  // namespace

std::optional<uint64_t> AvailableHostBytes() {
  const absl::StatusOr<MemoryLimits> limits = ReadMemoryLimits();
  if (!limits.ok()) return std::nullopt;
  return limits->usable_bytes;
}

absl::StatusOr<std::unique_ptr<Buffer>> MapHostMemory(uint64_t bytes, uint64_t alignment_bytes) {
  WEIR_CHECK(alignment_bytes != 0 && (alignment_bytes & (alignment_bytes - 1)) == 0);
  const std::optional<uint64_t> available_bytes = AvailableHostBytes();
  const auto refusal = [&](absl::string_view why) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", FormatBytes(bytes), " (", bytes, " bytes) of memory: ",
                     available_bytes ? FormatBytes(*available_bytes) : "an unknown amount",
                     " are free", why, ". Ask for a smaller budget or context."));
  };
  // Linux overcommits: without this the process would be killed at the first touch instead.
  if (available_bytes && bytes > *available_bytes) return refusal("");
  const bool huge = bytes >= kHugePagesFromBytes;
  const uint64_t alignment = std::max(alignment_bytes, huge ? kHugePageBytes : kPageBytes);
  const uint64_t mapped = AlignUp(std::max<uint64_t>(bytes, 1), kPageBytes);
  uint64_t reserved;
  if (!CheckedAdd(mapped, alignment - kPageBytes, &reserved)) return refusal("");
  void* const map =
      mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return refusal(absl::StrCat(" but mmap failed with errno ", errno));
  const uint64_t base = reinterpret_cast<uint64_t>(map);
  const uint64_t begin = AlignUp(base, alignment);
  const uint64_t end = begin + mapped;
  if (begin > base) WEIR_CHECK(munmap(map, begin - base) == 0);
  if (base + reserved > end) {
    WEIR_CHECK(munmap(reinterpret_cast<void*>(end), base + reserved - end) == 0);
  }
  uint8_t* const data = reinterpret_cast<uint8_t*>(begin);
  // A hint: where the kernel has no huge pages it fails and small pages serve.
  if (huge) (void)madvise(data, mapped, MADV_HUGEPAGE);
  return std::make_unique<MappedBuffer>(data, bytes, mapped);
}

void TouchZeroPages(uint8_t* begin, uint64_t bytes) {
  for (uint64_t i = 0; i < bytes; i += kPageBytes) {
    *const_cast<volatile uint8_t*>(begin + i) = 0;
  }
}

}  // namespace weir
