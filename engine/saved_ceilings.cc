#include "engine/saved_ceilings.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
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

// Typed access without exceptions: false when the member is missing or of another type.
bool Get(const json& object, const char* name, std::string* value) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_string()) return false;
  *value = member->get<std::string>();
  return true;
}
bool Get(const json& object, const char* name, uint64_t* value) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_number_unsigned()) return false;
  *value = member->get<uint64_t>();
  return true;
}
bool Get(const json& object, const char* name, double* value) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_number()) return false;
  *value = member->get<double>();
  return true;
}

bool FromJson(const json& object, DiskCeiling* ceiling) {
  if (!object.is_object()) return false;
  uint64_t depth = 0;
  uint64_t measured_unix_s = 0;
  const bool is_complete =
      Get(object, "device", &ceiling->disk.device) && Get(object, "name", &ceiling->disk.name) &&
      Get(object, "model", &ceiling->disk.model) &&
      Get(object, "file_system", &ceiling->disk.file_system) &&
      Get(object, "reader", &ceiling->reader) &&
      Get(object, "block_bytes", &ceiling->block_bytes) && Get(object, "depth", &depth) &&
      Get(object, "bytes_per_s", &ceiling->bytes_per_s) &&
      Get(object, "measured_unix_s", &measured_unix_s);
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

absl::Status WriteAll(int descriptor, const std::string& text, const std::string& path) {
  size_t written_bytes = 0;
  while (written_bytes < text.size()) {
    const ssize_t count =
        write(descriptor, text.data() + written_bytes, text.size() - written_bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path, ": wanted ",
                                                     text.size(), " bytes, got ", written_bytes));
    }
    written_bytes += static_cast<size_t>(count);
  }
  if (fsync(descriptor) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot sync ", path));
  return absl::OkStatus();
}

absl::Status ReplaceFile(const std::string& path, const std::string& text) {
  const std::string beside = absl::StrCat(path, ".", getpid(), ".new");
  const int descriptor = open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", beside));
  absl::Status status = WriteAll(descriptor, text, beside);
  close(descriptor);
  if (status.ok() && rename(beside.c_str(), path.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, absl::StrCat("cannot replace ", path));
  }
  if (!status.ok()) unlink(beside.c_str());
  return status;
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
  is_good = is_good && Get(document, "version", &version) && version == kVersion;
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
