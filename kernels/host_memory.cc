#include "kernels/host_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2 * kMiB;
constexpr uint64_t kHugePagesFromBytes = 4 * kMiB;
constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  uint64_t value;
  if (!(file >> word) || !absl::SimpleAtoi(word, &value)) return std::nullopt;
  return value;
}

// The number after `name` in a file of "name number" lines ("MemAvailable:   123 kB").
std::optional<uint64_t> ReadField(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    uint64_t value;
    if (word == name && file >> value) return value;
  }
  return std::nullopt;
}

// What is left in one cgroup directory; kNoLimit when it sets none. Its file pages are reclaimable.
uint64_t LeftInCgroup(const std::string& directory, bool v2) {
  const auto limit = ReadNumber(directory + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  const auto used = ReadNumber(directory + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!limit || !used) return kNoLimit;
  const std::string stat = directory + "/memory.stat";
  const std::string prefix = v2 ? "" : "total_";
  const uint64_t file_pages = ReadField(stat, prefix + "inactive_file").value_or(0) +
                              ReadField(stat, prefix + "active_file").value_or(0);
  const uint64_t kept = *used - std::min(*used, file_pages);
  return *limit - std::min(*limit, kept);
}

// The smallest of the cgroup at `path` below `mount` and all its parents. In a container the path
// in /proc/self/cgroup may not exist under the mount, which then is the cgroup itself.
uint64_t LeftUpTheTree(const std::string& mount, std::string path, bool v2) {
  uint64_t left = kNoLimit;
  for (;;) {
    left = std::min(left, LeftInCgroup(mount + path, v2));
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return left;
    path.resize(slash);
  }
}

uint64_t LeftInCgroups() {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  uint64_t left = kNoLimit;
  while (std::getline(file, line)) {  // "4:memory:/a/b" (v1) or "0::/a/b" (v2)
    const std::pair<std::string, std::string> rest = absl::StrSplit(line, absl::MaxSplits(':', 1));
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(rest.second, absl::MaxSplits(':', 1));
    const std::string path(absl::StripSuffix(parts.second, "/"));
    if (parts.first.empty()) {
      left = std::min(left, LeftUpTheTree("/sys/fs/cgroup", path, true));
      left = std::min(left, LeftUpTheTree("/sys/fs/cgroup/unified", path, true));
    }
    for (const absl::string_view controller : absl::StrSplit(parts.first, ',')) {
      if (controller == "memory") {
        left = std::min(left, LeftUpTheTree("/sys/fs/cgroup/memory", path, false));
      }
    }
  }
  return left;
}

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

uint64_t AvailableHostBytes() {
  const uint64_t machine = ReadField("/proc/meminfo", "MemAvailable:").value_or(0) * kKiB;
  return std::min(machine, LeftInCgroups());
}

absl::StatusOr<std::unique_ptr<Buffer>> MapHostMemory(uint64_t bytes, uint64_t alignment_bytes) {
  WEIR_CHECK(alignment_bytes != 0 && (alignment_bytes & (alignment_bytes - 1)) == 0);
  const uint64_t available_bytes = AvailableHostBytes();
  const auto refusal = [&](absl::string_view why) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot allocate ", FormatBytes(bytes), " (", bytes, " bytes) of memory: ",
        FormatBytes(available_bytes), " are free", why, ". Ask for a smaller budget or context."));
  };
  // Linux overcommits: without this the process would be killed at the first touch instead.
  if (bytes > available_bytes) return refusal("");
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
