#include "kernels/memory_limits.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "io/base.h"
#include "io/system_files.h"

namespace weir {
namespace {

// v1 writes "no limit" as the largest multiple of a page that fits 63 bits.
constexpr uint64_t kNoLimit = uint64_t{1} << 62;

// A cgroup's usage is counted in batches for each CPU and has the kernel's own part of a process
// (stacks, page tables) in it.
constexpr uint64_t kUsageSlackBytes = 10 * kMiB;

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

// The line "full avg10=0.12 avg60=0.03 avg300=0.00 total=392231".
std::optional<MemoryPressure> ParsePressure(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.empty() || words[0] != "full") continue;
    MemoryPressure pressure;
    bool has_average = false;
    bool has_total = false;
    for (absl::string_view word : words) {
      if (absl::ConsumePrefix(&word, "avg10=")) {
        has_average = absl::SimpleAtod(word, &pressure.full_avg10_percent);
      } else if (absl::ConsumePrefix(&word, "total=")) {
        has_total = absl::SimpleAtoi(word, &pressure.full_total_us);
      }
    }
    if (has_average && has_total) return pressure;
  }
  return std::nullopt;
}

// Of the process's own cgroup v2.
std::optional<MemoryPressure> CgroupPressure(const std::string& root) {
  const std::string table = ReadSystemFile(root + "/proc/self/cgroup").value_or("");
  for (const Mount& mount : ReadMounts(root)) {
    if (mount.type != "cgroup2") continue;
    const std::optional<std::string> cgroup = OwnCgroup(table, true);
    if (!cgroup) continue;
    const std::string folder = absl::StrCat(root, mount.mount_point, BelowMount(mount, *cgroup));
    if (const auto pressure = ParsePressure(ReadSystemFile(folder + "/memory.pressure"))) {
      return pressure;
    }
  }
  return std::nullopt;
}

std::string NoteOn(const MemoryLimits& limits) {
  std::string note;
  if (limits.cgroup && limits.cgroup->left_bytes() < limits.available_bytes) {
    absl::StrAppend(&note, ", limited by ", limits.cgroup->path);
  }
  if (limits.is_stalling()) {
    absl::StrAppend(&note, "; all tasks waited for memory for ",
                    limits.pressure->full_avg10_percent,
                    " % of the last 10 s, so page cache is not counted as free");
  }
  return note;
}

}  // namespace

std::optional<MemoryPressure> ReadMemoryPressure(const std::string& root) {
  const std::optional<MemoryPressure> machine =
      ParsePressure(ReadSystemFile(root + "/proc/pressure/memory"));
  std::optional<MemoryPressure> pressure = CgroupPressure(root);
  if (!pressure || !machine) return pressure ? pressure : machine;
  pressure->full_avg10_percent =
      std::max(pressure->full_avg10_percent, machine->full_avg10_percent);
  return pressure;
}

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
  limits.free_bytes = FindSystemNumber(*text, "MemFree").value_or(*available);
  limits.pressure = ReadMemoryPressure(root);
  const std::string table = ReadSystemFile(root + "/proc/self/cgroup").value_or("");
  for (const Mount& mount : ReadMounts(root)) {
    const bool is_v2 = mount.type == "cgroup2";
    if (!is_v2 && !(mount.type == "cgroup" && HasWord(mount.super_options, "memory"))) continue;
    const std::optional<std::string> cgroup = OwnCgroup(table, is_v2);
    if (cgroup) WalkUp(root, mount, *cgroup, is_v2, &limits.cgroup);
  }
  const bool is_stalling = limits.is_stalling();
  limits.usable_bytes = is_stalling ? limits.free_bytes : limits.available_bytes;
  if (limits.cgroup) {
    const uint64_t left = is_stalling ? limits.cgroup->free_bytes() : limits.cgroup->left_bytes();
    limits.usable_bytes = std::min(limits.usable_bytes, left);
  }
  return limits;
}

ProcessCounters ReadProcessCounters(const std::string& root) {
  ProcessCounters counters;
  if (const auto status = ReadSystemFile(root + "/proc/self/status")) {
    counters.rss_bytes = FindSystemNumber(*status, "VmRSS");
    counters.anonymous_bytes = FindSystemNumber(*status, "RssAnon");
    counters.peak_rss_bytes = FindSystemNumber(*status, "VmHWM");
  }
  if (const auto io = ReadSystemFile(root + "/proc/self/io")) {
    counters.disk_read_bytes = FindSystemNumber(*io, "read_bytes");
  }
  return counters;
}

absl::Status CheckBudget(uint64_t dram_bytes, const MemoryLimits& limits,
                         const ProcessCounters& process) {
  // Of what is in use already, this process's part is in the margin. Its program's pages count as
  // page cache, so they are in use only where that is not free.
  const std::optional<uint64_t> own =
      limits.is_stalling() ? process.rss_bytes : process.anonymous_bytes;
  const uint64_t own_bytes = std::min(own.value_or(0) + kUsageSlackBytes, kProcessMarginBytes);
  const uint64_t have_bytes = limits.usable_bytes + own_bytes;
  const uint64_t most_bytes = have_bytes - std::min(have_bytes, kProcessMarginBytes);
  if (dram_bytes <= most_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "a DRAM budget of ", FormatBytes(dram_bytes), " and ", FormatBytes(kProcessMarginBytes),
      " for the program itself are more than this process may take (",
      FormatBytes(limits.usable_bytes), NoteOn(limits),
      "): the system would page or kill it. A budget of ", FormatBytes(most_bytes), " fits"));
}

}  // namespace weir
