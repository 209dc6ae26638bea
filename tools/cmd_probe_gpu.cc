#include "tools/cmd_probe_gpu.h"

#include <algorithm>
#include <cstdio>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"
#include "io/quantities.h"
#include "kernels/emulated_device.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/output_file.h"
#include "tools/progress.h"

namespace weir {
namespace {

constexpr double kGb = 1e9;
constexpr double kMaxSeconds = 3600;
constexpr int kMaxRounds = 1000;
constexpr uint64_t kMostCopyBytes = 4 * kGiB;
constexpr uint64_t kMostPinBytes = 1 * kGiB;

absl::Status OptionError(const char* option, const absl::Status& status) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", status.message()));
}

// Room for what the probe allocates there, with alignment.
uint64_t EmulatedMemoryBytes(const DeviceProbeOptions& probe) {
  return 2 * probe.memory_bytes + 16 * kMiB;
}

absl::StatusOr<std::unique_ptr<Device>> OpenEmulated(const ProbeGpuOptions& options,
                                                     const DeviceProbeOptions& probe) {
  EmulatedDeviceOptions emulated;
  const absl::StatusOr<double> rate = ParseRate(options.link_h2d);
  if (!rate.ok()) return OptionError("--link-h2d", rate.status());
  const absl::StatusOr<int64_t> latency_ns = ParseDuration(options.link_latency);
  if (!latency_ns.ok()) return OptionError("--link-latency", latency_ns.status());
  emulated.threads = 1;
  emulated.h2d_bytes_per_s = *rate;
  emulated.latency_ns = *latency_ns;
  emulated.memory_bytes = EmulatedMemoryBytes(probe);
  return MakeEmulatedDevice(emulated);
}

// With the exit code of what went wrong.
absl::StatusOr<std::unique_ptr<Device>> Open(const ProbeGpuOptions& options,
                                             const DeviceProbeOptions& probe) {
  if (options.device == "emulated") {
    absl::StatusOr<std::unique_ptr<Device>> device = OpenEmulated(options, probe);
    if (!device.ok()) return WithExitCode(ExitCode::kUsage, device.status());
    return device;
  }
  return WithExitCode(ExitCode::kUsage, absl::InvalidArgumentError(absl::StrCat(
                                            "--device '", options.device,
                                            "' is none of cuda:N (such as cuda:0) and emulated")));
}

nlohmann::json WithRate(nlohmann::json fields, const RateSpread& rate) {
  fields["gb_per_s"] = rate.median_bytes_per_s / kGb;
  fields["low_gb_per_s"] = rate.low_bytes_per_s / kGb;
  fields["high_gb_per_s"] = rate.high_bytes_per_s / kGb;
  return fields;
}

std::string RateText(const RateSpread& rate) {
  return absl::StrFormat("%8.2f  (%.2f to %.2f)", rate.median_bytes_per_s / kGb,
                         rate.low_bytes_per_s / kGb, rate.high_bytes_per_s / kGb);
}

absl::Status WriteText(OutputFile* output, const std::string& text) {
  absl::Status written = output->Write(text);
  written.Update(output->Close());
  return WithExitCode(ExitCode::kOutput, written);
}

absl::StatusOr<DeviceProbeResult> MeasureWithProgress(Device& device,
                                                      const DeviceProbeOptions& options) {
  ProgressLine line("probing");
  absl::StatusOr<DeviceProbeResult> result = ProbeDevice(device, options, [&](double share) {
    line.Update(share, 0);
    return !Interrupted();
  });
  line.Finish();
  if (result.ok()) return result;
  if (absl::IsCancelled(result.status())) {
    return WithExitCode(InterruptExitCode(), result.status());
  }
  const bool is_memory = absl::IsResourceExhausted(result.status());
  return WithExitCode(is_memory ? ExitCode::kBudget : ExitCode::kDevice, result.status());
}

}  // namespace

absl::StatusOr<DeviceProbeOptions> MakeDeviceProbe(const ProbeGpuOptions& options) {
  DeviceProbeOptions probe;
  const absl::StatusOr<uint64_t> most = ParseBytes(options.max_copy);
  if (!most.ok()) return OptionError("--max-copy", most.status());
  if (*most < probe.copy_bytes.front() || *most > kMostCopyBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-copy ", options.max_copy, " is not possible: 64KiB to 4GiB"));
  }
  if (!(options.seconds > 0 && options.seconds <= kMaxSeconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--seconds ", options.seconds, " is not possible: above 0, at most 3600"));
  }
  if (options.rounds < 1 || options.rounds > kMaxRounds) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rounds ", options.rounds, " is not possible: 1 to 1000"));
  }
  const auto is_larger = [&](uint64_t bytes) { return bytes > *most; };
  std::erase_if(probe.copy_bytes, is_larger);
  std::erase_if(probe.pageable_bytes, is_larger);
  probe.both_ways_bytes = std::min(probe.both_ways_bytes, *most);
  probe.memory_bytes = 2 * *most;
  probe.pin_bytes = std::min(kMostPinBytes, 4 * *most);
  probe.threads = std::max(1u, std::thread::hardware_concurrency());
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
  return {
      {"device", probe.device},
      {"emulated", probe.is_emulated},
      {"memory",
       {{"total_bytes", probe.memory.total_bytes}, {"free_bytes", probe.memory.free_bytes}}},
      {"copies", std::move(copies)},
      {"both_ways", WithRate({{"bytes", probe.options.both_ways_bytes}}, probe.result.both_ways)},
      {"dram_read", WithRate({{"threads", probe.options.threads}}, probe.result.dram_read)},
      {"pinning", std::move(pinning)}};
}

std::string GpuProbeToText(const GpuProbe& probe) {
  std::string text =
      absl::StrFormat("%s%s: %s of memory, %s free\n", probe.device,
                      probe.is_emulated ? ", emulated: nothing here tells of a GPU" : "",
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
  GpuProbe probe;
  absl::StatusOr<DeviceProbeOptions> made = MakeDeviceProbe(options);
  if (!made.ok()) return WithExitCode(ExitCode::kUsage, made.status());
  probe.options = *std::move(made);
  absl::StatusOr<OutputFile> json = OutputFile::Open(options.json);
  if (!json.ok()) return WithExitCode(ExitCode::kOutput, json.status());
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, Open(options, probe.options));
  probe.device = device->name();
  probe.is_emulated = device->kind() == DeviceKind::kEmulated;
  probe.memory = device->memory();
  WEIR_ASSIGN_OR_RETURN(probe.result, MeasureWithProgress(*device, probe.options));
  if (options.json != "-") {
    absl::StatusOr<OutputFile> table = OutputFile::Open("-");
    if (!table.ok()) return WithExitCode(ExitCode::kOutput, table.status());
    WEIR_RETURN_IF_ERROR(WriteText(&*table, GpuProbeToText(probe)));
  }
  if (!json->is_open()) return absl::OkStatus();
  return WriteText(&*json, GpuProbeToJson(probe).dump(2) + "\n");
}

void AddProbeGpuCommand(CLI::App& probe, int* exit_code) {
  const auto options = std::make_shared<ProbeGpuOptions>();
  CLI::App* const gpu = probe.add_subcommand(
      "gpu", "Copies to and from an accelerator, its memory, host memory, and pinning");
  gpu->add_option("--device", options->device,
                  "cuda:N, or emulated: the CPU behind a modelled link")
      ->capture_default_str();
  gpu->add_option("--link-h2d", options->link_h2d, "Rate of the emulated link")
      ->capture_default_str();
  gpu->add_option("--link-latency", options->link_latency, "Latency of the emulated link")
      ->capture_default_str();
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
