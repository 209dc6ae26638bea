// Any text as a size ("1.5GiB") and as fault settings ("seed=7,short=5%").
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "io/base.h"
#include "io/fault_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<uint64_t> bytes = weir::ParseBytes(text);
  if (bytes.ok()) {
    // What FormatBytes writes can be read, and is about the same.
    const absl::StatusOr<uint64_t> again =
        weir::ParseBytes(weir::FormatBytes(*bytes < (uint64_t{1} << 50) ? *bytes : 0));
    WEIR_CHECK(again.ok());
  }
  const absl::StatusOr<weir::FaultOptions> faults = weir::ParseFaultOptions(text);
  if (faults.ok()) {
    for (const double share : {faults->short_share, faults->spike_share, faults->eio_share,
                               faults->eio_forever_share, faults->reorder_share}) {
      WEIR_CHECK(share >= 0 && share <= 1);
    }
    WEIR_CHECK(faults->spike_ns >= 0);
  }
  return 0;
}
