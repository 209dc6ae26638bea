#include "engine/link_probe.h"

#include <algorithm>

#include "io/base.h"

namespace weir {
namespace {

constexpr int64_t kRateNs = 80'000'000;
constexpr int64_t kLatencyNs = 5'000'000;
constexpr uint64_t kSmallBytes = 4096;

}  // namespace

absl::StatusOr<LinkFigures> ProbeLink(Stream& stream, const CopyMemory& memory,
                                      uint64_t copy_bytes) {
  const uint64_t most = std::min(memory.host.size(), memory.device.size());
  WEIR_ASSIGN_OR_RETURN(const CopyRate rate, ProbeCopies(stream, memory,
                                                         {.bytes = std::min(copy_bytes, most),
                                                          .mode = CopyMode::kQueued,
                                                          .limit_ns = kRateNs}));
  WEIR_ASSIGN_OR_RETURN(const CopyRate small, ProbeCopies(stream, memory,
                                                          {.bytes = std::min(kSmallBytes, most),
                                                           .mode = CopyMode::kOneAtATime,
                                                           .limit_ns = kLatencyNs}));
  return LinkFigures{
      .bytes_per_s = rate.bytes_per_s,
      .latency_ns = static_cast<int64_t>(small.seconds * 1e9 / static_cast<double>(small.copies))};
}

}  // namespace weir
