// How to read from a file's disk and what it delivers then: as `weir probe disk` saved it for this
// disk, file system and reader, or defaults and a measurement of a moment.
#ifndef WEIR_TOOLS_DISK_CEILING_H_
#define WEIR_TOOLS_DISK_CEILING_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "io/file.h"

namespace weir {

// The file that `weir probe disk` keeps ceilings in; empty when there is no cache folder.
std::string CeilingsPath();

struct DiskReading {
  std::string reader = "auto";  // as MakeReader takes it
  uint64_t read_bytes = 1 << 20;
  uint32_t depth = 32;           // reads in flight
  double saved_bytes_per_s = 0;  // 0: nothing saved
  bool is_fresh = false;         // saved less than an hour ago: good for a prediction
};
DiskReading ReadingFor(const File& file, const std::string& reader);

struct DiskFigures {
  double bytes_per_s = 0;  // 0 when it could not be measured
  int64_t latency_ns = 0;  // of a single read
  std::string note;        // where the rate comes from
};
// About a fifth of a second. `ring`: the memory that an engine will read into; without it the probe
// takes its own, or a figure that is fresh. Which memory it is can halve the rate on a virtual
// machine.
DiskFigures MeasureDisk(const File& file, const DiskReading& reading,
                        absl::Span<uint8_t> ring = {});

}  // namespace weir

#endif  // WEIR_TOOLS_DISK_CEILING_H_
