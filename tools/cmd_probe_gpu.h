// `weir probe gpu`: what an accelerator's links deliver: copies by size, direction and mode, both
// ways at once, host memory, the accelerator's own memory, and what pinning costs.
#ifndef WEIR_TOOLS_CMD_PROBE_GPU_H_
#define WEIR_TOOLS_CMD_PROBE_GPU_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/device_probe.h"
#include "kernels/device.h"
#include "nlohmann/json.hpp"
#include "tools/cli_app.h"
#include "tools/device_options.h"

namespace weir {

// As given; texts are parsed by RunProbeGpu, which names the option in errors.
struct ProbeGpuOptions {
  DeviceFlags device;               // its memory and placement are left out
  std::string max_copy = "256MiB";  // the largest copy that is measured
  std::string json;                 // file; "-": standard output instead of the table
  double seconds = 10;              // for the copies and DRAM, about
  int rounds = 3;
};

// What the options ask for, with every value checked.
absl::StatusOr<DeviceProbeOptions> MakeDeviceProbe(const ProbeGpuOptions& options);

// What is measured, and of what.
struct GpuProbe {
  std::string device;  // Device::name()
  bool is_emulated = false;
  DeviceMemory memory;
  DeviceProbeOptions options;
  DeviceProbeResult result;
};

// Makes the device and measures. The status carries its exit code, Cancelled included.
absl::StatusOr<GpuProbe> MeasureGpu(const DeviceFlags& flags, const DeviceProbeOptions& options,
                                    const DeviceProbeProgress& progress);

// What --json writes:
//   {"device", "emulated", "memory": {"total_bytes", "free_bytes"},
//    "hbm_read": null or {"launch_us", RATE}; "launch_us": from one idle kernel to the next
//    "copies": [{"direction", "mode", "pinned", "bytes", RATE}],
//    "both_ways": {"bytes", RATE}, "dram_read": {"threads", RATE},
//    "pinning": [{"touched", "threads", "bytes", "touch_s", "pin_s"}]}
// where RATE is "gb_per_s", "low_gb_per_s", "high_gb_per_s": the median round's and the extremes,
// in 10^9 bytes.
nlohmann::json GpuProbeToJson(const GpuProbe& probe);
// The same as a table of lines.
std::string GpuProbeToText(const GpuProbe& probe);

// Runs the command; the status carries its exit code.
absl::Status RunProbeGpu(const ProbeGpuOptions& options);

// Adds `gpu` to `weir probe`; when it is chosen, `*exit_code` becomes the process's exit code.
void AddProbeGpuCommand(CLI::App& probe, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_PROBE_GPU_H_
