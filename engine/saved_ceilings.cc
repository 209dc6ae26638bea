#include "engine/saved_ceilings.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/json_members.h"
#include "engine/replace_file.h"
#include "io/base.h"
#include "io/system_files.h"
#include "tiering/json_depth.h"

namespace weir {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;
constexpr int kMaxDepth = 3;  // of objects and arrays in such a file
// Beyond any disk; what comes of a rate by arithmetic stays finite.
constexpr double kMaxBytesPerSecond = 1e15;
constexpr uint64_t kMaxBlockBytes = uint64_t{1} << 40;

bool FromJson(const json& object, DiskCeiling* ceiling) {
  if (!object.is_object()) return false;
  uint64_t depth = 0;
  uint64_t measured_unix_s = 0;
  const bool is_complete = GetMember(object, "device", &ceiling->disk.device) &&
                           GetMember(object, "name", &ceiling->disk.name) &&
                           GetMember(object, "model", &ceiling->disk.model) &&
                           GetMember(object, "file_system", &ceiling->disk.file_system) &&
                           GetMember(object, "reader", &ceiling->reader) &&
                           GetMember(object, "block_bytes", &ceiling->block_bytes) &&
                           GetMember(object, "depth", &depth) &&
                           GetMember(object, "bytes_per_s", &ceiling->bytes_per_s) &&
                           GetMember(object, "measured_unix_s", &measured_unix_s);
  if (!is_complete || depth > std::numeric_limits<uint32_t>::max() ||
      measured_unix_s > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return false;
  }
  ceiling->depth = static_cast<uint32_t>(depth);
  ceiling->measured_unix_s = static_cast<int64_t>(measured_unix_s);
  return ceiling->bytes_per_s > 0 && ceiling->bytes_per_s <= kMaxBytesPerSecond &&
         ceiling->block_bytes <= kMaxBlockBytes;
}

json ToJson(const DiskCeiling& ceiling) {
  return {
      {"device", ceiling.disk.device},
      {"name", ceiling.disk.name},
      {"model", ceiling.disk.model},
      {"file_system", ceiling.disk.file_system},
      {"reader", ceiling.reader},
      {"block_bytes", ceiling.block_bytes},
      {"depth", ceiling.depth},
      {"bytes_per_s", ceiling.bytes_per_s},
      {"measured_unix_s", static_cast<uint64_t>(std::max<int64_t>(ceiling.measured_unix_s, 0))}};
}

std::string FirstLine(const std::string& path) {
  const std::string text = ReadSystemFile(path).value_or("");
  return std::string(absl::StripAsciiWhitespace(text.substr(0, text.find('\n'))));
}

}  // namespace

DiskIdentity DescribeDevice(const std::string& device, const std::string& root) {
  DiskIdentity disk;
  disk.device = device;
  const std::string block = absl::StrCat(root, "/sys/dev/block/", device);
  std::array<char, 4096> target;
  const ssize_t length = readlink(block.c_str(), target.data(), target.size());
  if (length > 0) {
    const std::string path(target.data(), static_cast<size_t>(length));
    disk.name = path.substr(path.rfind('/') + 1);  // npos + 1 is 0
    disk.model = FirstLine(block + "/device/model");
    if (disk.model.empty()) disk.model = FirstLine(block + "/../device/model");  // a partition
  }
  for (const Mount& mount : ReadMounts(root)) {
    if (mount.device != device) continue;
    disk.file_system = mount.type;
    if (disk.name.empty()) disk.name = mount.source;
  }
  return disk;
}

absl::StatusOr<DiskIdentity> IdentifyDisk(const File& file) {
  struct stat info = {};
  if (fstat(file.descriptor(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot tell what ", file.path(), " lies on"));
  }
  return DescribeDevice(absl::StrCat(major(info.st_dev), ":", minor(info.st_dev)), "");
}

bool DiskCeiling::SameConditions(const DiskCeiling& other) const {
  return disk == other.disk && reader == other.reader;
}

SavedCeilings ParseCeilings(const std::string& text, const std::string& path) {
  SavedCeilings saved;
  const json document = IsJsonWithinDepth(text, kMaxDepth)
                            ? json::parse(text, nullptr, /*allow_exceptions=*/false)
                            : json(json::value_t::discarded);
  bool is_good = document.is_object();
  uint64_t version = 0;
  is_good = is_good && GetMember(document, "version", &version) && version == kVersion;
  const auto disks = is_good ? document.find("disks") : document.end();
  is_good = is_good && disks != document.end() && disks->is_array();
  if (is_good) {
    for (const json& entry : *disks) {
      DiskCeiling ceiling;
      is_good = is_good && FromJson(entry, &ceiling);
      if (is_good) saved.disks.push_back(ceiling);
    }
  }
  if (!is_good) {
    saved.disks.clear();
    saved.note = absl::StrCat(path, " is not a list of disk ceilings of version ", kVersion,
                              ", so it is ignored and written anew.");
  }
  return saved;
}

SavedCeilings LoadCeilings(const std::string& path) {
  if (access(path.c_str(), F_OK) != 0) return {};
  return ParseCeilings(ReadSystemFile(path).value_or(""), path);
}

std::string CeilingsToJson(const std::vector<DiskCeiling>& disks) {
  json list = json::array();
  for (const DiskCeiling& disk : disks) list.push_back(ToJson(disk));
  const json document = {{"version", kVersion}, {"disks", std::move(list)}};
  // A device may call itself by bytes that are not UTF-8.
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

absl::Status StoreCeiling(const std::string& path, const DiskCeiling& ceiling) {
  WEIR_CHECK(std::isfinite(ceiling.bytes_per_s) && ceiling.bytes_per_s > 0);
  std::vector<DiskCeiling> disks;
  for (const DiskCeiling& old : LoadCeilings(path).disks) {
    if (!old.SameConditions(ceiling)) disks.push_back(old);
  }
  disks.push_back(ceiling);
  return ReplaceFile(path, CeilingsToJson(disks));
}

std::optional<DiskCeiling> FindCeiling(const SavedCeilings& saved, const DiskCeiling& wanted) {
  for (const DiskCeiling& ceiling : saved.disks) {
    if (ceiling.SameConditions(wanted)) return ceiling;
  }
  return std::nullopt;
}

}  // namespace weir
