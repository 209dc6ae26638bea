#include "tools/cmd_probe_gpu.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/accelerator.h"
#include "io/base.h"
#include "kernels/cpu_topology.h"
#include "kernels/cuda_device.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/output_file.h"
#include "tools/probe_parts.h"
#include "tools/progress.h"

namespace weir {
namespace {

constexpr double kGb = 1e9;
constexpr double kMaxSeconds = 3600;
constexpr uint64_t kMostCopyBytes = 4 * kGiB;
constexpr uint64_t kMostPinBytes = 1 * kGiB;

absl::Status OptionError(const char* option, const absl::Status& status) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", status.message()));
}

// Room for what the probe allocates there, with alignment.
uint64_t EmulatedMemoryBytes(const DeviceProbeOptions& probe) {
  return 2 * probe.memory_bytes + 16 * kMiB;
}

// With the exit code of what went wrong.
absl::StatusOr<std::unique_ptr<Device>> Open(const DeviceFlags& flags,
                                             const DeviceProbeOptions& probe) {
  WEIR_ASSIGN_OR_RETURN(const ChosenDevice chosen,
                        ChooseDevice(flags, PlanFor::kAny, ListCudaDevices));
  if (!chosen.accelerator.is_used()) {
    return WithExitCode(ExitCode::kUsage,
                        absl::InvalidArgumentError(absl::StrCat(
                            "--device ", flags.device,
                            ": only an accelerator has a link. Use cuda:N or emulated")));
  }
  absl::StatusOr<std::unique_ptr<Device>> device =
      MakeAccelerator(chosen.accelerator, chosen.hbm_bytes.value_or(EmulatedMemoryBytes(probe)),
                      AcceleratorThreads());
  if (!device.ok()) return WithExitCode(ExitCode::kDevice, device.status());
  return device;
}

std::string RateText(const RateSpread& rate) {
  return absl::StrFormat("%8.2f  (%.2f to %.2f)", rate.median_bytes_per_s / kGb,
                         rate.low_bytes_per_s / kGb, rate.high_bytes_per_s / kGb);
}

}  // namespace

absl::StatusOr<GpuProbe> MeasureGpu(const DeviceFlags& flags, const DeviceProbeOptions& options,
                                    const DeviceProbeProgress& progress) {
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, Open(flags, options));
  GpuProbe probe;
  probe.options = options;
  probe.device = device->name();
  probe.is_emulated = device->kind() == DeviceKind::kEmulated;
  probe.memory = device->memory();
  absl::StatusOr<DeviceProbeResult> result = ProbeDevice(*device, options, progress);
  if (!result.ok()) {
    const bool is_memory = absl::IsResourceExhausted(result.status());
    return WithProbeExitCode(is_memory ? ExitCode::kBudget : ExitCode::kDevice, result.status());
  }
  probe.result = *std::move(result);
  return probe;
}

absl::StatusOr<DeviceProbeOptions> MakeDeviceProbe(const ProbeGpuOptions& options) {
  DeviceProbeOptions probe;
  const absl::StatusOr<uint64_t> most = ParseBytes(options.max_copy);
  if (!most.ok()) return OptionError("--max-copy", most.status());
  if (*most < probe.copy_bytes.front() || *most > kMostCopyBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-copy ", options.max_copy, " is not possible: 64KiB to 4GiB"));
  }
  WEIR_RETURN_IF_ERROR(CheckProbeTimes(options.seconds, kMaxSeconds, options.rounds));
  const auto is_larger = [&](uint64_t bytes) { return bytes > *most; };
  std::erase_if(probe.copy_bytes, is_larger);
  std::erase_if(probe.pageable_bytes, is_larger);
  probe.both_ways_bytes = std::min(probe.both_ways_bytes, *most);
  probe.memory_bytes = 2 * *most;
  probe.pin_bytes = std::min(kMostPinBytes, 4 * *most);
  probe.threads = std::max(1u, CountCores(UsableThreads()));
  probe.limit_ns = static_cast<int64_t>(options.seconds * 1e9);
  probe.rounds = options.rounds;
  return probe;
}

nlohmann::json GpuProbeToJson(const GpuProbe& probe) {
  nlohmann::json copies = nlohmann::json::array();
  for (const CopyCell& cell : probe.result.copies) {
    copies.push_back(WithRate({{"direction", std::string(CopyDirectionName(cell.probe.direction))},
                               {"mode", std::string(CopyModeName(cell.probe.mode))},
                               {"pinned", cell.is_pinned},
                               {"bytes", cell.probe.bytes}},
                              cell.rate));
  }
  nlohmann::json pinning = nlohmann::json::array();
  for (const PinCost& cost : probe.result.pinning) {
    pinning.push_back({{"touched", cost.is_touched},
                       {"threads", cost.threads},
                       {"bytes", cost.bytes},
                       {"touch_s", cost.touch_s},
                       {"pin_s", cost.pin_s}});
  }
  nlohmann::json hbm = nullptr;
  if (probe.result.device_read) {
    hbm = WithRate({{"launch_us", probe.result.launch_s * 1e6}}, *probe.result.device_read);
  }
  return {
      {"device", probe.device},
      {"emulated", probe.is_emulated},
      {"memory",
       {{"total_bytes", probe.memory.total_bytes}, {"free_bytes", probe.memory.free_bytes}}},
      {"hbm_read", std::move(hbm)},
      {"copies", std::move(copies)},
      {"both_ways", WithRate({{"bytes", probe.options.both_ways_bytes}}, probe.result.both_ways)},
      {"dram_read", WithRate({{"threads", probe.options.threads}}, probe.result.dram_read)},
      {"pinning", std::move(pinning)}};
}

std::string GpuProbeToText(const GpuProbe& probe) {
  std::string text =
      absl::StrFormat("%s%s: %s of memory, %s free\n", probe.device,
                      probe.is_emulated ? " (nothing here tells of a GPU)" : "",
                      FormatBytes(probe.memory.total_bytes), FormatBytes(probe.memory.free_bytes));
  absl::StrAppendFormat(&text, "median of %d rounds (lowest to highest)\n", probe.options.rounds);
  absl::StrAppendFormat(&text, "%-10s %-9s %-8s %10s %8s\n", "copy", "memory", "mode", "size",
                        "GB/s");
  for (const CopyCell& cell : probe.result.copies) {
    absl::StrAppendFormat(
        &text, "%-10s %-9s %-8s %10s %s\n", std::string(CopyDirectionName(cell.probe.direction)),
        cell.is_pinned ? "pinned" : "pageable", std::string(CopyModeName(cell.probe.mode)),
        FormatBytes(cell.probe.bytes), RateText(cell.rate));
  }
  absl::StrAppendFormat(&text, "%-10s %-9s %-8s %10s %s\n", "both ways", "pinned", "queued",
                        FormatBytes(probe.options.both_ways_bytes),
                        RateText(probe.result.both_ways));
  if (probe.result.device_read) {
    absl::StrAppendFormat(&text, "HBM read %31s %s\n", "", RateText(*probe.result.device_read));
    absl::StrAppendFormat(&text, "a kernel that does nothing: %.2f us\n",
                          probe.result.launch_s * 1e6);
  }
  absl::StrAppendFormat(&text, "DRAM read, %d threads %20s %s\n", probe.options.threads, "",
                        RateText(probe.result.dram_read));
  for (const PinCost& cost : probe.result.pinning) {
    const std::string touched =
        cost.is_touched
            ? absl::StrFormat("%.3f s touching with %d threads, ", cost.touch_s, cost.threads)
            : "not touched before, ";
    absl::StrAppendFormat(&text, "pinning %s: %s%.3f s pinning\n", FormatBytes(cost.bytes), touched,
                          cost.pin_s);
  }
  return text;
}

absl::Status RunProbeGpu(const ProbeGpuOptions& options) {
  const absl::StatusOr<DeviceProbeOptions> made = MakeDeviceProbe(options);
  if (!made.ok()) return WithExitCode(ExitCode::kUsage, made.status());
  absl::StatusOr<OutputFile> json = OutputFile::Open(options.json);
  if (!json.ok()) return WithExitCode(ExitCode::kOutput, json.status());
  ProgressLine line("probing");
  const absl::StatusOr<GpuProbe> measured = MeasureGpu(options.device, *made, [&](double share) {
    line.Update(share, 0);
    return !Interrupted();
  });
  line.Finish();
  if (!measured.ok()) return measured.status();
  const GpuProbe& probe = *measured;
  if (options.json != "-") WEIR_RETURN_IF_ERROR(PrintText(GpuProbeToText(probe)));
  if (!json->is_open()) return absl::OkStatus();
  return WriteWhole(&*json, GpuProbeToJson(probe).dump(2) + "\n");
}

void AddProbeGpuCommand(CLI::App& probe, int* exit_code) {
  const auto options = std::make_shared<ProbeGpuOptions>();
  CLI::App* const gpu = probe.add_subcommand(
      "gpu", "Copies to and from an accelerator, its memory, host memory, and pinning");
  DeviceFlags* const device = &options->device;
  device->device = "cuda:0";
  gpu->add_option("--device", device->device, "cuda:N, or emulated: the CPU behind a modelled link")
      ->capture_default_str();
  gpu->add_option("--link-h2d", device->link_h2d, "Rate of an emulated link, such as 26GB/s");
  gpu->add_option("--link-d2h", device->link_d2h, "The same from the accelerator (default: equal)");
  gpu->add_option("--link-latency", device->link_latency, "Latency of an emulated link");
  gpu->add_option("--max-copy", options->max_copy, "The largest copy, from 64KiB on")
      ->capture_default_str();
  gpu->add_option("--seconds", options->seconds, "Time for all copies, about")
      ->capture_default_str();
  gpu->add_option("--rounds", options->rounds, "Visits of each measurement; the median is shown")
      ->capture_default_str();
  gpu->add_option("--json", options->json, "Write the results as JSON to this file (-: stdout)");
  gpu->callback([options, exit_code] { *exit_code = ReportStatus(RunProbeGpu(*options)); });
}

}  // namespace weir
