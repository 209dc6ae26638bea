// SimFaults: what goes wrong on a simulated disk, from a seed. The words are those of
// io/fault_reader.h where they mean the same; a simulated disk knows more of them.
//
// A transfer is one read here. Each is made in attempts, as io/retry_policy.h has it: a short one
// is resumed behind what arrived, one that met EIO is repeated kSimMaxEioRetries times at most.
// Every draw depends on the seed, the transfer's number in order of Start and the attempt alone.
#ifndef WEIR_TIERING_SIM_FAULTS_H_
#define WEIR_TIERING_SIM_FAULTS_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"

namespace weir {

inline constexpr uint32_t kSimMaxEioRetries = 4;  // as kMaxEioRetries of io/retry_policy.h

// Shares are probabilities in [0, 1]; numbers count from 0.
struct SimFaults {
  uint64_t seed = 0;
  double short_share = 0;         // of attempts that are cut short
  double again_share = 0;         // of attempts that meet EAGAIN first: counted, costs no time
  double spike_share = 0;         // of reads that take longer
  int64_t spike_ns = 20'000'000;  // by so much
  double eio_share = 0;           // of reads that meet EIO 1 to kSimMaxEioRetries times
  double eio_forever_share = 0;   // of reads that meet it every time, and so fail
  std::optional<uint64_t> eio_at = std::nullopt;  // the n-th read does
  double reorder_share = 0;  // of reads told only once another was told, if there is one
  double late_share = 0;     // of reads told after they ended, by up to `late_ns`
  int64_t late_ns = 1'000'000;
  double slow_share = 0;  // of reads that take `slow_factor` times as long
  double slow_factor = 10;
  double stuck_share = 0;                            // of reads that never end
  std::optional<uint64_t> stuck_at = std::nullopt;   // the n-th read does not
  std::optional<uint64_t> slow_from = std::nullopt;  // from this read on all bytes are
  double slow_from_factor = 10;                      // so many times slower
  std::optional<uint64_t> unplug_at = std::nullopt;  // from this read on all meet EIO every time
  double jitter_share = 0;  // every attempt's latency varies by up to so much, both ways
  std::optional<int64_t> throttle_at_ns =
      std::nullopt;  // from then on the disk is `throttle_factor` times slower
  double throttle_factor = 10;
  int64_t throttle_for_ns = 0;  // for so long; 0: for good
  std::optional<uint64_t> cancel_at_event =
      std::nullopt;  // the user cancels just before the n-th event
};

// Comma-separated settings, each at most once, in any order; empty text means no faults. P is a
// percentage "5%" or a share "0.05", TIME a number and ns, us, ms or s, N a whole number, F a
// factor of at least 1:
//   seed=N  short=P  again=P  spike=P[:TIME]  eio=P  eio_forever=P  eio_at=N  reorder=P
//   late=P[:TIME]  slow=P[:xF]  stuck=P  stuck_at=N  jitter=P  throttle=TIME[:xF[:TIME]]
//   slow_from=N[:xF]  unplug_at=N  cancel_at=N
// For example "seed=7,slow=5%:x10,stuck_at=300,throttle=2s:x10:500ms".
absl::StatusOr<SimFaults> ParseSimFaults(std::string_view text);

// What a draw is for; part of its key, so that each question has its own stream.
enum class SimDraw : uint64_t {
  kShort = 1,
  kCut,
  kAgain,
  kSpike,
  kEio,
  kEioCount,
  kEioForever,
  kReorder,
  kLate,
  kLateTime,
  kSlow,
  kStuck,
  kJitter,
};

// Uniform in [0, 1).
double DrawShare(const SimFaults& faults, uint64_t transfer, uint64_t attempt, SimDraw what);

}  // namespace weir

#endif  // WEIR_TIERING_SIM_FAULTS_H_
