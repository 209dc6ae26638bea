// What was measured of this machine's hierarchy, kept in a small JSON file between runs, and
// whether the machine is still the one that was measured. The caller names the file. Format,
// version 1:
//   {"format": "weir-profile", "version": 1, "measured_unix_s": 1718000000,
//    "machine": {"cpu": "...", "threads": 16, "memory_bytes": ..., "numa_nodes": 1,
//      "kernel": "6.12.1", "devices": "NVIDIA ...; driver ...",
//      "disk": {"device": "259:2", "name": "nvme0n1p2", "model": "...", "file_system": "ext4"}},
//    "table": [rows as engine/hierarchy_row.h writes them]}
#ifndef WEIR_ENGINE_MACHINE_PROFILE_H_
#define WEIR_ENGINE_MACHINE_PROFILE_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/hierarchy_row.h"
#include "engine/saved_ceilings.h"
#include "kernels/cuda_device.h"

namespace weir {

// What figures depend on. Fields that the kernel does not tell are empty or 0.
struct MachineIdentity {
  std::string cpu;            // the model's name
  uint32_t threads = 0;       // hardware threads that are on line
  uint64_t memory_bytes = 0;  // DRAM, to 64 MiB: the kernel keeps a little, not always the same
  uint32_t numa_nodes = 0;    // with memory
  std::string kernel;         // release
  std::string devices;        // GPUs and their driver, in words; empty: none
  DiskIdentity disk;          // that was measured; empty: none was
  bool operator==(const MachineIdentity&) const = default;
};

// Without devices and disk. `root` as in io/system_files.h.
MachineIdentity IdentifyMachine(const std::string& root = "");

// For MachineIdentity::devices: names, memory, and the driver, whose own version is in
// /proc/driver/nvidia/version. Empty for no GPU.
std::string DescribeGpus(const std::vector<CudaDeviceInfo>& gpus, const std::string& root = "");

// One line: "AMD EPYC, 16 threads, 62.0 GiB, 1 NUMA node, Linux 6.12.1, no GPU, vda (ext4)".
std::string IdentityToText(const MachineIdentity& machine);
nlohmann::json IdentityToJson(const MachineIdentity& machine);

// What differs, in words: "memory: 16.0 GiB then, 32.0 GiB now"; empty when nothing does.
std::string DescribeChanges(const MachineIdentity& then, const MachineIdentity& now);

struct MachineProfile {
  MachineIdentity machine;
  std::vector<HierarchyRow> rows;
  int64_t measured_unix_s = 0;  // seconds since 1970
};

struct SavedProfile {
  std::optional<MachineProfile> profile;
  std::string note;  // why there is none although a file is there: one sentence; else empty
};

// A text that makes no sense (another version, a member missing or out of range, nested deeper, cut
// off) is no profile, with a note that names `path`.
SavedProfile ParseProfile(const std::string& text, const std::string& path);
std::string ProfileToJson(const MachineProfile& profile);

// Nothing where there is no file; nothing and a note when it makes no sense or is of another
// machine than `now`. The disk is not compared where `now` names none.
SavedProfile LoadProfile(const std::string& path, const MachineIdentity& now);

// Replaces the file as a whole.
absl::Status StoreProfile(const std::string& path, const MachineProfile& profile);

}  // namespace weir

#endif  // WEIR_ENGINE_MACHINE_PROFILE_H_
