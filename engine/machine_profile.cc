#include "engine/machine_profile.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/json_members.h"
#include "engine/numa_nodes.h"
#include "engine/replace_file.h"
#include "io/base.h"
#include "io/system_files.h"
#include "tiering/json_depth.h"

namespace weir {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;
constexpr int kMaxDepth = 4;  // of objects and arrays in such a file
constexpr size_t kMostRows = 256;
constexpr uint64_t kMemoryStepBytes = 64 * kMiB;
constexpr uint64_t kMostThreads = 1 << 20;

// The text after `name` and a colon, of the first line that begins with it.
std::string LineValue(const std::string& text, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::StartsWith(line, name)) continue;
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) continue;
    return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return "";
}

uint32_t CountLines(const std::string& text, absl::string_view name) {
  uint32_t count = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) count += absl::StartsWith(line, name);
  return count;
}

json DiskToJson(const DiskIdentity& disk) {
  return {{"device", disk.device},
          {"name", disk.name},
          {"model", disk.model},
          {"file_system", disk.file_system}};
}

bool IdentityFromJson(const json& object, MachineIdentity* machine) {
  if (!object.is_object()) return false;
  uint64_t threads = 0, nodes = 0;
  const auto disk = object.find("disk");
  const bool is_good =
      GetMember(object, "cpu", &machine->cpu) && GetMember(object, "threads", &threads) &&
      GetMember(object, "memory_bytes", &machine->memory_bytes) &&
      GetMember(object, "numa_nodes", &nodes) && GetMember(object, "kernel", &machine->kernel) &&
      GetMember(object, "devices", &machine->devices) && disk != object.end() &&
      disk->is_object() && GetMember(*disk, "device", &machine->disk.device) &&
      GetMember(*disk, "name", &machine->disk.name) &&
      GetMember(*disk, "model", &machine->disk.model) &&
      GetMember(*disk, "file_system", &machine->disk.file_system);
  if (!is_good || threads > kMostThreads || nodes > kMostThreads) return false;
  machine->threads = static_cast<uint32_t>(threads);
  machine->numa_nodes = static_cast<uint32_t>(nodes);
  return true;
}

bool ProfileFromJson(const json& document, MachineProfile* profile) {
  std::string format;
  uint64_t version = 0, measured_unix_s = 0;
  if (!document.is_object() || !GetMember(document, "format", &format) ||
      format != "weir-profile" || !GetMember(document, "version", &version) ||
      version != kVersion || !GetMember(document, "measured_unix_s", &measured_unix_s) ||
      measured_unix_s > uint64_t{1} << 62) {
    return false;
  }
  const auto machine = document.find("machine");
  const auto table = document.find("table");
  if (machine == document.end() || !IdentityFromJson(*machine, &profile->machine) ||
      table == document.end() || !table->is_array() || table->size() > kMostRows) {
    return false;
  }
  for (const json& row : *table) {
    profile->rows.emplace_back();
    if (!RowFromJson(row, &profile->rows.back())) return false;
  }
  profile->measured_unix_s = static_cast<int64_t>(measured_unix_s);
  return true;
}

std::string DiskText(const DiskIdentity& disk) {
  if (disk == DiskIdentity()) return "no disk";
  const std::string name = disk.name.empty() ? disk.device : disk.name;
  return absl::StrCat(name, disk.model.empty() ? "" : ", ", disk.model,
                      disk.file_system.empty() ? "" : absl::StrCat(" (", disk.file_system, ")"));
}

std::string Known(const std::string& text, const char* otherwise) {
  return text.empty() ? otherwise : text;
}

}  // namespace

MachineIdentity IdentifyMachine(const std::string& root) {
  MachineIdentity machine;
  const std::string cpus = ReadSystemFile(root + "/proc/cpuinfo").value_or("");
  machine.cpu = LineValue(cpus, "model name");
  machine.threads = CountLines(cpus, "processor");
  const std::string memory = ReadSystemFile(root + "/proc/meminfo").value_or("");
  const uint64_t bytes = FindSystemNumber(memory, "MemTotal").value_or(0);
  machine.memory_bytes = AlignDown(bytes + kMemoryStepBytes / 2, kMemoryStepBytes);
  machine.numa_nodes = static_cast<uint32_t>(NodesWithMemory(root).size());
  machine.kernel = ReadSystemFile(root + "/proc/sys/kernel/osrelease").value_or("");
  absl::StripAsciiWhitespace(&machine.kernel);
  return machine;
}

std::string DescribeGpus(const std::vector<CudaDeviceInfo>& gpus, const std::string& root) {
  if (gpus.empty()) return "";
  std::vector<std::string> parts;
  parts.reserve(gpus.size() + 2);
  for (const CudaDeviceInfo& gpu : gpus) {
    parts.push_back(absl::StrCat(gpu.name, " with ", FormatBytes(gpu.total_bytes)));
  }
  parts.push_back(absl::StrCat("CUDA ", gpus[0].driver_version / 1000, ".",
                               gpus[0].driver_version % 1000 / 10));
  const std::string driver = ReadSystemFile(root + "/proc/driver/nvidia/version").value_or("");
  const std::string version = LineValue(driver, "NVRM version");
  if (!version.empty()) parts.push_back(version);
  return absl::StrJoin(parts, ", ");
}

std::string IdentityToText(const MachineIdentity& machine) {
  return absl::StrCat(Known(machine.cpu, "CPU of unknown model"), ", ", machine.threads,
                      " threads, ", FormatBytes(machine.memory_bytes), ", ", machine.numa_nodes,
                      machine.numa_nodes == 1 ? " NUMA node" : " NUMA nodes", ", Linux ",
                      machine.kernel, ", ", Known(machine.devices, "no GPU"), ", ",
                      DiskText(machine.disk));
}

json IdentityToJson(const MachineIdentity& machine) {
  return {{"cpu", machine.cpu},
          {"threads", machine.threads},
          {"memory_bytes", machine.memory_bytes},
          {"numa_nodes", machine.numa_nodes},
          {"kernel", machine.kernel},
          {"devices", machine.devices},
          {"disk", DiskToJson(machine.disk)}};
}

std::string DescribeChanges(const MachineIdentity& then, const MachineIdentity& now) {
  std::vector<std::string> changes;
  const auto compare = [&](const char* what, const std::string& before, const std::string& after) {
    if (before != after)
      changes.push_back(absl::StrCat(what, ": ", before, " then, ", after, " now"));
  };
  compare("CPU", Known(then.cpu, "unknown"), Known(now.cpu, "unknown"));
  compare("threads", absl::StrCat(then.threads), absl::StrCat(now.threads));
  if (then.memory_bytes != now.memory_bytes) {
    changes.push_back(absl::StrCat("memory: ", FormatBytes(then.memory_bytes), " then, ",
                                   FormatBytes(now.memory_bytes), " now"));
  }
  compare("NUMA nodes", absl::StrCat(then.numa_nodes), absl::StrCat(now.numa_nodes));
  compare("kernel", then.kernel, now.kernel);
  compare("GPU or driver", Known(then.devices, "none"), Known(now.devices, "none"));
  if (then.disk != now.disk) {
    changes.push_back(absl::StrCat("disk or file system: ", DiskText(then.disk), " at ",
                                   then.disk.device, " then, ", DiskText(now.disk), " at ",
                                   now.disk.device, " now"));
  }
  return absl::StrJoin(changes, "; ");
}

SavedProfile ParseProfile(const std::string& text, const std::string& path) {
  const json document = IsJsonWithinDepth(text, kMaxDepth)
                            ? json::parse(text, nullptr, /*allow_exceptions=*/false)
                            : json(json::value_t::discarded);
  SavedProfile saved;
  MachineProfile profile;
  if (ProfileFromJson(document, &profile)) {
    saved.profile = std::move(profile);
  } else {
    saved.note = absl::StrCat(path, " is not a machine's profile of version ", kVersion,
                              ", so it is ignored.");
  }
  return saved;
}

std::string ProfileToJson(const MachineProfile& profile) {
  json table = json::array();
  for (const HierarchyRow& row : profile.rows) table.push_back(RowToJson(row));
  const json document = {
      {"format", "weir-profile"},
      {"version", kVersion},
      {"measured_unix_s", static_cast<uint64_t>(std::max<int64_t>(profile.measured_unix_s, 0))},
      {"machine", IdentityToJson(profile.machine)},
      {"table", std::move(table)}};
  // A device may call itself by bytes that are not UTF-8.
  return document.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

SavedProfile LoadProfile(const std::string& path, const MachineIdentity& now) {
  if (access(path.c_str(), F_OK) != 0) return {};
  SavedProfile saved = ParseProfile(ReadSystemFile(path).value_or(""), path);
  if (!saved.profile) return saved;
  MachineIdentity compared = now;
  if (compared.disk == DiskIdentity()) compared.disk = saved.profile->machine.disk;
  const std::string changes = DescribeChanges(saved.profile->machine, compared);
  if (!changes.empty()) {
    saved.profile.reset();
    saved.note = absl::StrCat("The profile in ", path, " is of another machine (", changes,
                              "), so it is ignored.");
  }
  return saved;
}

absl::Status StoreProfile(const std::string& path, const MachineProfile& profile) {
  return ReplaceFile(path, ProfileToJson(profile));
}

}  // namespace weir
