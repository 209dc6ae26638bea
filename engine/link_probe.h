// What the link from host memory to an accelerator's delivers, in a moment before a run: with the
// memory that the run's copies will use.
#ifndef WEIR_ENGINE_LINK_PROBE_H_
#define WEIR_ENGINE_LINK_PROBE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/device_probe.h"
#include "kernels/device.h"

namespace weir {

struct LinkFigures {
  double bytes_per_s = 0;  // copies queued back to back
  int64_t latency_ns = 0;  // of one small copy alone
};

// `copy_bytes`: of each copy; no more than either memory holds. `stream` may copy; nothing else
// uses the link. Some 100 ms. Errors: of the stream.
absl::StatusOr<LinkFigures> ProbeLink(Stream& stream, const CopyMemory& memory,
                                      uint64_t copy_bytes);

}  // namespace weir

#endif  // WEIR_ENGINE_LINK_PROBE_H_
