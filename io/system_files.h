// Reading what the kernel says about this machine: small files of /proc and /sys, and the table of
// mounts. `root` is put before every absolute path, so that tests can supply a tree of their own;
// empty for the real one.
#ifndef WEIR_IO_SYSTEM_FILES_H_
#define WEIR_IO_SYSTEM_FILES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

// The file's text, at most 1 MiB of it; nothing when it cannot be read.
std::optional<std::string> ReadSystemFile(const std::string& path);

// The number that is all of a file ("max" and other text: nothing).
std::optional<uint64_t> ReadSystemNumber(const std::string& path);

// The number after `name` at the start of a line, as in "VmHWM:   1234 kB" or "inactive_file 99".
// A unit of kB multiplies by 1024.
std::optional<uint64_t> FindSystemNumber(std::string_view text, std::string_view name);

// One line of /proc/self/mountinfo (man 5 proc).
struct Mount {
  std::string device;  // "259:2", the st_dev of its files
  std::string root;    // which part of the file system is mounted
  std::string mount_point;
  std::string type;           // "ext4", "cgroup2"
  std::string source;         // "/dev/nvme0n1p2"
  std::string super_options;  // "rw,memory"
};
std::vector<Mount> ReadMounts(const std::string& root);

}  // namespace weir

#endif  // WEIR_IO_SYSTEM_FILES_H_
