// Measured disk ceilings, kept in a small JSON file between runs so that a prediction needs no
// probe. The caller names the file. Format, version 1:
//   {"version": 1, "disks": [{"device": "259:2", "name": "nvme0n1p2", "model": "...",
//     "file_system": "ext4", "reader": "uring", "block_bytes": 1048576, "depth": 8,
//     "bytes_per_s": 3.1e9, "measured_unix_s": 1718000000}]}
// One entry for each disk, file system and reader: the reads that suit it, and what they deliver.
#ifndef WEIR_ENGINE_SAVED_CEILINGS_H_
#define WEIR_ENGINE_SAVED_CEILINGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "io/file.h"

namespace weir {

// What a file lies on. Fields that the kernel does not tell are empty.
struct DiskIdentity {
  std::string device;       // major:minor of st_dev
  std::string name;         // block device, "nvme0n1p2"; the mount's source where there is none
  std::string model;        // of the disk
  std::string file_system;  // "ext4"
  bool operator==(const DiskIdentity&) const = default;
};

absl::StatusOr<DiskIdentity> IdentifyDisk(const File& file);
// `device` as in DiskIdentity; `root` as in io/system_files.h.
DiskIdentity DescribeDevice(const std::string& device, const std::string& root);

struct DiskCeiling {
  DiskIdentity disk;
  std::string reader;  // Reader::name()
  uint64_t block_bytes = 0;
  uint32_t depth = 0;
  double bytes_per_s = 0;
  int64_t measured_unix_s = 0;  // seconds since 1970

  // Whether both are of the same disk and reader.
  bool SameConditions(const DiskCeiling& other) const;
};

struct SavedCeilings {
  std::vector<DiskCeiling> disks;
  std::string note;  // one sentence when a file was there but could not be used; else empty
};

// A text that makes no sense (another version, a member missing or out of range, nested deeper, cut
// off) is no list, with a note that names `path`.
SavedCeilings ParseCeilings(const std::string& text, const std::string& path);
std::string CeilingsToJson(const std::vector<DiskCeiling>& disks);

// A missing file is an empty list. A file that makes no sense is ignored, with a note.
SavedCeilings LoadCeilings(const std::string& path);

// Adds the ceiling, or replaces the one of the same conditions. The file is replaced as a whole
// (written beside it, then renamed), so that a reader never sees half of it.
absl::Status StoreCeiling(const std::string& path, const DiskCeiling& ceiling);

// The entry of the same conditions as `wanted`, whose rate and time do not matter.
std::optional<DiskCeiling> FindCeiling(const SavedCeilings& saved, const DiskCeiling& wanted);

}  // namespace weir

#endif  // WEIR_ENGINE_SAVED_CEILINGS_H_
