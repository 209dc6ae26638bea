// --device and what belongs to it: where a run computes, with how much memory there, and behind
// which link.
//
// `auto` is the first GPU that can be used, else the CPU. Options that mean nothing on the device
// that was chosen are refused.
#ifndef WEIR_TOOLS_DEVICE_OPTIONS_H_
#define WEIR_TOOLS_DEVICE_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/accelerator.h"
#include "kernels/cuda_device.h"
#include "tiering/plan.h"
#include "tools/cli_app.h"

namespace weir {

// Of an emulated link, where the option is not given: a PCIe 4 x16 slot's.
inline constexpr double kDefaultLinkBytesPerS = 26e9;
inline constexpr int64_t kDefaultLinkLatencyNs = 10'000;

// As given. Empty: not given.
struct DeviceFlags {
  std::string device = {};        // auto (the default), cpu, cuda:N, emulated
  std::string hbm = {};           // SIZE
  std::string link_h2d = {};      // RATE
  std::string link_d2h = {};      // RATE
  std::string link_latency = {};  // TIME
  std::string in_place = {};      // auto (the default), on, off
  std::string cuda_graph = {};    // on (the default), off
};

void AddDeviceOptions(CLI::App& command, DeviceFlags* flags);

// Where a plan that was loaded wants to compute; kAny without one.
enum class PlanFor : uint8_t { kAny, kCpu, kAccelerator };

struct ChosenDevice {
  AcceleratorOptions accelerator;  // kind kNone: the CPU
  // What was asked for; else of a GPU what is free less kCudaMarginBytes. Absent on the CPU, and
  // where the budget of an emulated accelerator was left open.
  std::optional<uint64_t> hbm_bytes;
  uint64_t free_bytes = 0;  // of a GPU's memory
  InPlace in_place = InPlace::kAuto;
  std::string note;  // what the user should know of the choice; may be empty

  bool is_emulated() const { return accelerator.kind == AcceleratorKind::kEmulated; }
};

// ListCudaDevices, or what a test puts in its place. Called only where a GPU may be chosen.
using GpuList = std::function<absl::StatusOr<std::vector<CudaDeviceInfo>>()>;

// Errors carry their exit code: kUsage for what makes no sense, kDevice for a GPU that is not there
// or cannot be used, kBudget for more memory than it has free.
absl::StatusOr<ChosenDevice> ChooseDevice(const DeviceFlags& flags, PlanFor plan,
                                          const GpuList& list);

// "auto", "on" or "off"; empty: auto.
absl::StatusOr<InPlace> ParseInPlace(const std::string& text);

}  // namespace weir

#endif  // WEIR_TOOLS_DEVICE_OPTIONS_H_
