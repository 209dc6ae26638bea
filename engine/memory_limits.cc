#include "engine/memory_limits.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/system_files.h"
#include "io/base.h"

namespace weir {
namespace {

// v1 writes "no limit" as the largest multiple of a page that fits 63 bits.
constexpr uint64_t kNoLimit = uint64_t{1} << 62;

bool HasWord(absl::string_view list, absl::string_view wanted) {
  for (const absl::string_view word : absl::StrSplit(list, ',')) {
    if (word == wanted) return true;
  }
  return false;
}

// The path of this process's cgroup as /proc/self/cgroup gives it, "id:controllers:path".
std::optional<std::string> OwnCgroup(const std::string& table, bool is_v2) {
  for (const absl::string_view line : absl::StrSplit(table, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const bool matches =
        is_v2 ? fields[0] == "0" && fields[1].empty() : HasWord(fields[1], "memory");
    if (matches) return std::string(fields[2]);
  }
  return std::nullopt;
}

// The cgroup's path below the mount point. A container may see only its own part of the tree, by
// a mount of that part (its root is then a prefix of the path) or by a namespace.
std::string BelowMount(const Mount& mount, const std::string& cgroup) {
  if (absl::StrContains(cgroup, "/..")) return "";  // outside of what this namespace shows
  if (mount.root == "/") return cgroup == "/" ? "" : cgroup;
  if (cgroup == mount.root || !absl::StartsWith(cgroup, mount.root + "/")) return "";
  return cgroup.substr(mount.root.size());
}

uint64_t FilePages(const std::string& statistics, bool is_v2) {
  // v1 keeps the sums over a subtree under names of their own.
  const std::string prefix = is_v2 ? "" : "total_";
  return FindSystemNumber(statistics, prefix + "inactive_file").value_or(0) +
         FindSystemNumber(statistics, prefix + "active_file").value_or(0);
}

std::optional<CgroupLimit> ReadCgroup(const std::string& path, bool is_v2) {
  const std::string statistics = ReadSystemFile(path + "/memory.stat").value_or("");
  std::vector<std::optional<uint64_t>> limits;
  if (is_v2) {
    limits = {ReadSystemNumber(path + "/memory.max"), ReadSystemNumber(path + "/memory.high")};
  } else {
    // The second also knows of groups above that a container cannot see.
    limits = {ReadSystemNumber(path + "/memory.limit_in_bytes"),
              FindSystemNumber(statistics, "hierarchical_memory_limit")};
  }
  CgroupLimit cgroup;
  cgroup.limit_bytes = kNoLimit;
  for (const std::optional<uint64_t>& limit : limits) {
    if (limit) cgroup.limit_bytes = std::min(cgroup.limit_bytes, *limit);
  }
  if (cgroup.limit_bytes == kNoLimit) return std::nullopt;
  cgroup.path = path;
  const char* const usage_name = is_v2 ? "/memory.current" : "/memory.usage_in_bytes";
  cgroup.usage_bytes = ReadSystemNumber(path + usage_name).value_or(0);
  cgroup.reclaimable_bytes = std::min(FilePages(statistics, is_v2), cgroup.usage_bytes);
  return cgroup;
}

// Looks at the process's cgroup and all above it; keeps in `tightest` the one with the least left.
void WalkUp(const std::string& root, const Mount& mount, const std::string& cgroup, bool is_v2,
            std::optional<CgroupLimit>* tightest) {
  std::string below = BelowMount(mount, cgroup);
  while (true) {
    const std::optional<CgroupLimit> found =
        ReadCgroup(absl::StrCat(root, mount.mount_point, below), is_v2);
    if (found && (!*tightest || found->left_bytes() < (*tightest)->left_bytes())) {
      *tightest = found;
    }
    if (below.empty()) return;
    below.resize(below.rfind('/'));
  }
}

}  // namespace

uint64_t CgroupLimit::left_bytes() const {
  const uint64_t fixed_bytes = usage_bytes - reclaimable_bytes;
  return limit_bytes - std::min(limit_bytes, fixed_bytes);
}

absl::StatusOr<MemoryLimits> ReadMemoryLimits(const std::string& root) {
  const std::string path = root + "/proc/meminfo";
  const std::optional<std::string> text = ReadSystemFile(path);
  if (!text) return absl::UnavailableError(absl::StrCat("cannot read ", path));
  const std::optional<uint64_t> total = FindSystemNumber(*text, "MemTotal");
  const std::optional<uint64_t> available = FindSystemNumber(*text, "MemAvailable");
  if (!total || !available) {
    return absl::UnavailableError(absl::StrCat(path, " lacks MemTotal or MemAvailable"));
  }
  MemoryLimits limits;
  limits.total_bytes = *total;
  limits.available_bytes = *available;
  const std::string table = ReadSystemFile(root + "/proc/self/cgroup").value_or("");
  for (const Mount& mount : ReadMounts(root)) {
    const bool is_v2 = mount.type == "cgroup2";
    if (!is_v2 && !(mount.type == "cgroup" && HasWord(mount.super_options, "memory"))) continue;
    const std::optional<std::string> cgroup = OwnCgroup(table, is_v2);
    if (cgroup) WalkUp(root, mount, *cgroup, is_v2, &limits.cgroup);
  }
  limits.usable_bytes = limits.available_bytes;
  if (limits.cgroup) {
    limits.usable_bytes = std::min(limits.usable_bytes, limits.cgroup->left_bytes());
  }
  return limits;
}

ProcessCounters ReadProcessCounters(const std::string& root) {
  ProcessCounters counters;
  if (const auto status = ReadSystemFile(root + "/proc/self/status")) {
    counters.rss_bytes = FindSystemNumber(*status, "VmRSS");
    counters.peak_rss_bytes = FindSystemNumber(*status, "VmHWM");
  }
  if (const auto io = ReadSystemFile(root + "/proc/self/io")) {
    counters.disk_read_bytes = FindSystemNumber(*io, "read_bytes");
  }
  return counters;
}

}  // namespace weir
