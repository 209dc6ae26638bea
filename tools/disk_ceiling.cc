#include "tools/disk_ceiling.h"

#include <algorithm>
#include <ctime>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/hardware_probe.h"
#include "engine/planner.h"
#include "engine/saved_ceilings.h"
#include "io/base.h"
#include "tools/model_path.h"

namespace weir {
namespace {

constexpr int64_t kFreshSeconds = 3600;

}  // namespace

std::string CeilingsPath() {
  const std::string folder = UserCacheFolder();
  return folder.empty() ? "" : absl::StrCat(folder, "/ceilings.json");
}

DiskReading ReadingFor(const File& file, const std::string& reader) {
  DiskReading reading;
  reading.reader = reader;
  const absl::StatusOr<DiskIdentity> disk = IdentifyDisk(file);
  const std::string path = CeilingsPath();
  if (!disk.ok() || path.empty()) return reading;
  const SavedCeilings saved = LoadCeilings(path);
  DiskCeiling wanted;
  wanted.disk = *disk;
  wanted.reader = reader == "auto" ? "uring" : reader;
  const std::optional<DiskCeiling> found = FindCeiling(saved, wanted);
  if (!found.has_value()) return reading;
  reading.read_bytes = found->block_bytes;
  reading.depth = found->depth;
  reading.saved_bytes_per_s = found->bytes_per_s;
  const int64_t age_s = std::time(nullptr) - found->measured_unix_s;
  reading.is_fresh = age_s >= 0 && age_s < kFreshSeconds;
  return reading;
}

DiskFigures MeasureDisk(const File& file, const DiskReading& reading, absl::Span<uint8_t> ring) {
  DiskFigures figures;
  const absl::StatusOr<int64_t> latency_ns =
      ProbeDiskLatencyNs(file, reading.reader, file.alignment_bytes());
  if (!latency_ns.ok()) {
    figures.note = std::string(latency_ns.status().message());
    return figures;
  }
  figures.latency_ns = *latency_ns;
  if (reading.is_fresh && ring.empty()) {
    figures.bytes_per_s = reading.saved_bytes_per_s;
    figures.note = "saved by `weir probe disk` less than an hour ago";
    return figures;
  }
  DiskProbeOptions probe;
  probe.reader = reading.reader;
  probe.block_bytes = reading.read_bytes;
  probe.depth = reading.depth;
  probe.footprint_bytes = RingBytes(reading.saved_bytes_per_s);
  if (!ring.empty()) {
    // No more can be in flight than the ring holds.
    probe.block_bytes = std::min<uint64_t>(probe.block_bytes, ring.size());
    const uint64_t blocks = ring.size() / AlignUp(probe.block_bytes, file.alignment_bytes());
    probe.depth = static_cast<uint32_t>(std::min<uint64_t>(probe.depth, blocks));
    probe.footprint_bytes = 0;
    ring = ring.first(blocks * AlignUp(probe.block_bytes, file.alignment_bytes()));
  }
  const absl::StatusOr<DiskProbeResult> probed = ProbeDiskQuickly(file, probe, ring);
  if (!probed.ok()) {
    figures.note = std::string(probed.status().message());
    return figures;
  }
  figures.bytes_per_s = probed->bytes_per_s;
  figures.note = absl::StrCat("probed for ", static_cast<int>(probed->seconds * 1e3), " ms");
  return figures;
}

}  // namespace weir
