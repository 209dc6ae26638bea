#include "tools/disk_ceiling.h"

#include "absl/strings/str_cat.h"
#include "engine/hardware_probe.h"
#include "engine/saved_ceilings.h"
#include "tools/model_path.h"

namespace weir {

std::string CeilingsPath() {
  const std::string folder = UserCacheFolder();
  return folder.empty() ? "" : absl::StrCat(folder, "/ceilings.json");
}

double DiskCeilingBytesPerS(const File& file, const std::string& reader, std::string* note) {
  const absl::StatusOr<DiskIdentity> disk = IdentifyDisk(file);
  const std::string path = CeilingsPath();
  if (disk.ok() && !path.empty()) {
    const SavedCeilings saved = LoadCeilings(path);
    DiskCeiling wanted;
    wanted.disk = *disk;
    wanted.reader = reader == "auto" ? "uring" : reader;
    wanted.block_bytes = kCeilingBlockBytes;
    wanted.depth = kCeilingDepth;
    const auto found = FindCeiling(saved, wanted);
    if (found.has_value()) {
      *note = "saved by `weir probe disk`";
      return found->bytes_per_s;
    }
  }
  const absl::StatusOr<DiskProbeResult> probed =
      ProbeDiskQuickly(file, kCeilingBlockBytes, kCeilingDepth, reader);
  if (!probed.ok()) {
    *note = std::string(probed.status().message());
    return 0;
  }
  *note = absl::StrCat("probed for ", static_cast<int>(probed->seconds * 1e3), " ms");
  return probed->bytes_per_s;
}

}  // namespace weir
