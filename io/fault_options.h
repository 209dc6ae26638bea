// FaultOptions: which faults are injected into reads, in words that the real disk's FaultReader and
// the simulated disk share.
#ifndef WEIR_IO_FAULT_OPTIONS_H_
#define WEIR_IO_FAULT_OPTIONS_H_

#include <cstdint>
#include <limits>
#include <string_view>

#include "absl/status/statusor.h"

namespace weir {

// Shares are probabilities in [0, 1]. Ops are numbered from 0 in the order of Submit.
struct FaultOptions {
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  uint64_t seed = 1;
  double short_share = 0;         // of attempts that are cut short
  double again_share = 0;         // of attempts that meet EAGAIN or EINTR
  double spike_share = 0;         // of ops that are delayed
  int64_t spike_ns = 20'000'000;  // by so much
  double eio_share = 0;           // of ops that meet EIO 1 to kMaxEioRetries times, then succeed
  double eio_forever_share = 0;   // of ops that meet EIO every time, and so fail
  uint64_t eio_at = kNever;       // this op meets EIO every time
  double reorder_share = 0;       // of ops that at least one later op overtakes, if there is one
  double stuck_share = 0;         // of ops that never end
  uint64_t stuck_at = kNever;     // this op never ends
  double slow_share = 0;          // of ops that take slow_factor times as long
  double slow_factor = 10;
  uint64_t slow_from = kNever;  // from this op on the disk has a slow_from_factor-th of its rate
  double slow_from_factor = 10;
  uint64_t unplug_at = kNever;  // from this op on every read meets EIO every time
};

// Comma-separated settings, each at most once, in any order; empty text means no faults:
//   seed=N            0 to 2^64-1
//   short=P           short_share; P is a percentage "5%" or a share "0.05"
//   again=P           again_share
//   spike=P[:TIME]    spike_share and spike_ns; TIME is as in io/quantities.h: "20ms"
//   eio=P             eio_share
//   eio_forever=P     eio_forever_share
//   eio_at=N          N is the number of an op
//   reorder=P         reorder_share
//   stuck=P           stuck_share
//   stuck_at=N
//   slow=P[:xF]       slow_share and slow_factor, 1 to 1000
//   slow_from=N[:xF]  slow_from and slow_from_factor: "100:x10" is a tenth of the rate
//   unplug_at=N
// For example "seed=7,short=5%,spike=5%:20ms,eio=1%,unplug_at=500".
absl::StatusOr<FaultOptions> ParseFaultOptions(std::string_view text);

}  // namespace weir

#endif  // WEIR_IO_FAULT_OPTIONS_H_
