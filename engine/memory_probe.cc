// LastLevelCacheBytes and ProbeMemoryRead of engine/hardware_probe.h.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/hardware_probe.h"
#include "io/base.h"
#include "io/clock.h"
#include "io/system_files.h"

namespace weir {
namespace {

// Between two looks at the clock: about 10 us of reading.
constexpr uint64_t kPieceBytes = 256 * kKiB;
constexpr uint32_t kMaxThreads = 1024;

// Asked for so far ahead that the processor's own prefetchers, which stop at every page and keep
// less under way than memory could deliver, are no longer the limit.
constexpr uint64_t kAheadBytes = 32 * kKiB;

// Reads every byte of whole 64-byte lines; past the end it only asks, which does no harm. Four sums
// of two words each, so that no addition waits for the one before it; a baseline vector is wide
// enough to be faster than any one core's DRAM.
uint64_t SumWords(const uint8_t* memory, uint64_t bytes) {
  using Words = uint64_t __attribute__((vector_size(16)));
  constexpr size_t kLanes = 4;
  Words sums[kLanes] = {};
  for (uint64_t at = 0; at + sizeof(sums) <= bytes; at += sizeof(sums)) {
    __builtin_prefetch(memory + at + kAheadBytes, /*write=*/0, /*locality=*/1);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      Words words;
      std::memcpy(&words, memory + at + lane * sizeof(words), sizeof(words));
      sums[lane] += words;
    }
  }
  const Words total = sums[0] + sums[1] + sums[2] + sums[3];
  return total[0] + total[1];
}

// What the threads share: how many are ready, and when they began and ended.
struct Race {
  std::atomic<uint32_t> ready = 0;
  std::atomic<int64_t> start_ns = 0;  // 0: not yet
  std::atomic<int64_t> last_end_ns = 0;
  std::atomic<uint64_t> read_bytes = 0;
  std::atomic<uint64_t> sink = 0;  // keeps the sums, and so the reads, from being optimised away
};

void ReadOwnPart(absl::Span<const uint8_t> part, int64_t limit_ns, Race* race) {
  const RealClock clock;
  race->ready.fetch_add(1);
  while (race->start_ns.load() == 0) std::this_thread::yield();
  const int64_t start_ns = race->start_ns.load();
  uint64_t read_bytes = 0;
  uint64_t sum = 0;
  uint64_t at = 0;
  int64_t now_ns;
  do {
    const uint64_t bytes = std::min<uint64_t>(kPieceBytes, part.size() - at);
    sum += SumWords(part.data() + at, bytes);
    read_bytes += bytes;
    at += bytes;
    if (at == part.size()) at = 0;
    now_ns = clock.NowNs();
  } while (now_ns - start_ns < limit_ns);
  race->read_bytes.fetch_add(read_bytes);
  race->sink.fetch_add(sum);
  int64_t last_ns = race->last_end_ns.load();
  while (last_ns < now_ns && !race->last_end_ns.compare_exchange_weak(last_ns, now_ns)) {
  }
}

}  // namespace

uint64_t LastLevelCacheBytes(const std::string& root) {
  const std::string folder = absl::StrCat(root, "/sys/devices/system/cpu/cpu0/cache/index");
  uint64_t last_bytes = 0;
  uint64_t last_level = 0;
  for (uint32_t index = 0;; ++index) {
    const std::string cache = absl::StrCat(folder, index);
    const std::optional<uint64_t> level = ReadSystemNumber(cache + "/level");
    if (!level) return last_bytes;
    std::optional<std::string> size = ReadSystemFile(cache + "/size");
    if (!size || *level < last_level) continue;
    absl::StripAsciiWhitespace(&*size);
    const auto bytes = ParseBytes(*size);
    if (!bytes.ok()) continue;
    last_level = *level;
    last_bytes = *bytes;
  }
}

absl::StatusOr<MemoryProbeResult> ProbeMemoryRead(absl::Span<const uint8_t> memory,
                                                  uint32_t threads, int64_t limit_ns) {
  if (threads == 0 || threads > kMaxThreads || limit_ns <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory probe: ", threads, " threads for ", limit_ns, " ns is not possible"));
  }
  const uint64_t part_bytes = AlignDown(memory.size() / threads, 64);
  if (part_bytes == 0) {
    return absl::InvalidArgumentError(absl::StrCat("memory probe: ", memory.size(),
                                                   " bytes are too few for ", threads, " threads"));
  }
  Race race;
  std::vector<std::thread> workers;
  workers.reserve(threads);
  for (uint32_t i = 0; i < threads; ++i) {
    const absl::Span<const uint8_t> part = memory.subspan(i * part_bytes, part_bytes);
    workers.emplace_back([part, limit_ns, &race] { ReadOwnPart(part, limit_ns, &race); });
  }
  while (race.ready.load() < threads) std::this_thread::yield();
  const int64_t start_ns = RealClock().NowNs();
  race.start_ns.store(start_ns);
  for (std::thread& worker : workers) worker.join();
  MemoryProbeResult result;
  result.threads = threads;
  result.read_bytes = race.read_bytes.load();
  result.seconds = static_cast<double>(race.last_end_ns.load() - start_ns) * 1e-9;
  result.bytes_per_s = static_cast<double>(result.read_bytes) / std::max(result.seconds, 1e-9);
  return result;
}

}  // namespace weir
