#include "tools/device_options.h"

#include <algorithm>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/quantities.h"
#include "tools/exit_codes.h"

namespace weir {
namespace {

constexpr uint32_t kMostOrdinal = 1023;
constexpr int64_t kMostLinkLatencyNs = 1'000'000'000;  // as EmulatedDeviceOptions

absl::Status UsageError(const std::string& message) {
  return WithExitCode(ExitCode::kUsage, absl::InvalidArgumentError(message));
}

absl::Status DeviceError(const std::string& message) {
  return WithExitCode(ExitCode::kDevice, absl::UnavailableError(message));
}

// --device as it was written.
struct Request {
  bool is_auto = false;
  AcceleratorKind kind = AcceleratorKind::kNone;
  uint32_t ordinal = 0;
};

absl::StatusOr<Request> ParseDevice(const std::string& text) {
  if (text.empty() || text == "auto") return Request{.is_auto = true};
  if (text == "cpu") return Request{};
  if (text == "emulated") return Request{.kind = AcceleratorKind::kEmulated};
  Request request{.kind = AcceleratorKind::kCuda};
  constexpr absl::string_view kPrefix = "cuda:";
  const bool is_cuda = absl::StartsWith(text, kPrefix) &&
                       text.find_first_not_of("0123456789", kPrefix.size()) == std::string::npos &&
                       absl::SimpleAtoi(text.substr(kPrefix.size()), &request.ordinal) &&
                       request.ordinal <= kMostOrdinal;
  if (is_cuda) return request;
  return UsageError(absl::StrCat("--device: '", text,
                                 "' is none of auto, cpu, cuda:N (such as cuda:0), emulated"));
}

// The names of the given options that only `what` has, or an empty text.
std::string GivenLinkOptions(const DeviceFlags& flags) {
  std::string names;
  const auto add = [&names](const std::string& value, const char* name) {
    if (!value.empty()) absl::StrAppend(&names, names.empty() ? "" : ", ", name);
  };
  add(flags.link_h2d, "--link-h2d");
  add(flags.link_d2h, "--link-d2h");
  add(flags.link_latency, "--link-latency");
  return names;
}

std::string GivenAcceleratorOptions(const DeviceFlags& flags) {
  std::string names = flags.hbm.empty() ? "" : "--hbm";
  if (!flags.in_place.empty()) absl::StrAppend(&names, names.empty() ? "" : ", ", "--in-place");
  return names;
}

absl::StatusOr<bool> ParseCudaGraph(const std::string& text) {
  if (text.empty() || text == "on") return true;
  if (text == "off") return false;
  return UsageError(absl::StrCat("--cuda-graph: '", text, "' is neither on nor off"));
}

absl::Status CheckFlags(const DeviceFlags& flags, const Request& request) {
  if (!flags.cuda_graph.empty() && !request.is_auto && request.kind != AcceleratorKind::kCuda) {
    return UsageError("--cuda-graph: only a GPU has graphs. Leave it out, or use --device cuda:N");
  }
  const std::string link = GivenLinkOptions(flags);
  if (request.kind != AcceleratorKind::kEmulated && !link.empty()) {
    return UsageError(absl::StrCat(
        link, ": only an emulated accelerator has a link of one's choice. Use --device emulated"));
  }
  const std::string accelerator = GivenAcceleratorOptions(flags);
  if (!request.is_auto && request.kind == AcceleratorKind::kNone && !accelerator.empty()) {
    return UsageError(absl::StrCat(accelerator,
                                   ": the CPU has no memory beside --dram. Leave it out, or use "
                                   "--device cuda:N or --device emulated"));
  }
  return absl::OkStatus();
}

absl::Status CheckPlan(const DeviceFlags& flags, const Request& request, PlanFor plan) {
  if (plan == PlanFor::kAny) return absl::OkStatus();
  const std::string given = GivenAcceleratorOptions(flags);
  if (!given.empty()) {
    return UsageError(absl::StrCat("--plan, ", given,
                                   ": the plan says what lives where. Leave it out, or make "
                                   "another plan with it: weir plan MODEL --json FILE"));
  }
  if (request.is_auto) return absl::OkStatus();
  const bool wants_accelerator = plan == PlanFor::kAccelerator;
  const bool has_accelerator = request.kind != AcceleratorKind::kNone;
  if (wants_accelerator == has_accelerator) return absl::OkStatus();
  return UsageError(
      wants_accelerator
          ? "--plan, --device: the plan is for an accelerator. Use --device cuda:N or --device "
            "emulated, or make a plan for the CPU: weir plan MODEL --device cpu --json FILE"
          : absl::StrCat("--plan, --device: the plan is for the CPU. Use --device cpu, or make "
                         "one for the accelerator: weir plan MODEL --device ",
                         flags.device, " --json FILE"));
}

absl::StatusOr<AcceleratorOptions> EmulatedFrom(const DeviceFlags& flags) {
  AcceleratorOptions options;
  options.kind = AcceleratorKind::kEmulated;
  options.h2d_bytes_per_s = kDefaultLinkBytesPerS;
  options.latency_ns = kDefaultLinkLatencyNs;
  const auto rate = [](const std::string& text, const char* name, double* value) -> absl::Status {
    if (text.empty()) return absl::OkStatus();
    const absl::StatusOr<double> parsed = ParseRate(text);
    if (!parsed.ok()) return UsageError(absl::StrCat(name, ": ", parsed.status().message()));
    *value = *parsed;
    return absl::OkStatus();
  };
  WEIR_RETURN_IF_ERROR(rate(flags.link_h2d, "--link-h2d", &options.h2d_bytes_per_s));
  options.d2h_bytes_per_s = options.h2d_bytes_per_s;
  WEIR_RETURN_IF_ERROR(rate(flags.link_d2h, "--link-d2h", &options.d2h_bytes_per_s));
  if (flags.link_latency.empty()) return options;
  const absl::StatusOr<int64_t> latency_ns = ParseDuration(flags.link_latency);
  if (!latency_ns.ok()) {
    return UsageError(absl::StrCat("--link-latency: ", latency_ns.status().message()));
  }
  if (*latency_ns > kMostLinkLatencyNs) {
    return UsageError(absl::StrCat("--link-latency: ", flags.link_latency,
                                   " is more than a link takes; at most ",
                                   FormatDuration(kMostLinkLatencyNs)));
  }
  options.latency_ns = *latency_ns;
  return options;
}

// Without the full stop that some messages end with.
std::string ReasonOf(const absl::Status& status) {
  std::string reason(status.message());
  while (!reason.empty() && reason.back() == '.') reason.pop_back();
  return reason;
}

std::string NamesOf(const std::vector<CudaDeviceInfo>& gpus) {
  std::string names;
  for (const CudaDeviceInfo& gpu : gpus) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", "cuda:", gpu.ordinal, " (", gpu.name, ")");
  }
  return names;
}

// Fills in what the GPU has.
absl::Status UseGpu(const CudaDeviceInfo& gpu, ChosenDevice* chosen) {
  chosen->accelerator.kind = AcceleratorKind::kCuda;
  chosen->accelerator.ordinal = gpu.ordinal;
  chosen->free_bytes = gpu.free_bytes;
  if (!chosen->hbm_bytes.has_value()) {
    chosen->hbm_bytes = gpu.free_bytes - std::min(gpu.free_bytes, kCudaMarginBytes);
    return absl::OkStatus();
  }
  if (*chosen->hbm_bytes <= gpu.free_bytes) return absl::OkStatus();
  return WithExitCode(
      ExitCode::kBudget,
      absl::ResourceExhaustedError(absl::StrCat(
          "--hbm: ", FormatBytes(*chosen->hbm_bytes), " are more than cuda:", gpu.ordinal, " (",
          gpu.name, ") has free (", FormatBytes(gpu.free_bytes), " of ",
          FormatBytes(gpu.total_bytes), "). Give it at most ",
          FormatBytes(gpu.free_bytes - std::min(gpu.free_bytes, kCudaMarginBytes)))));
}

absl::Status UseCuda(uint32_t ordinal, const GpuList& list, ChosenDevice* chosen) {
  const absl::StatusOr<std::vector<CudaDeviceInfo>> gpus = list();
  if (!gpus.ok()) {
    return DeviceError(absl::StrCat("--device cuda:", ordinal, ": ", ReasonOf(gpus.status())));
  }
  for (const CudaDeviceInfo& gpu : *gpus) {
    if (gpu.ordinal == ordinal) return UseGpu(gpu, chosen);
  }
  return DeviceError(absl::StrCat("--device cuda:", ordinal, ": there is no such GPU. Use one of ",
                                  NamesOf(*gpus)));
}

// The first GPU, or the CPU and why.
absl::Status UseBest(const DeviceFlags& flags, PlanFor plan, const GpuList& list,
                     ChosenDevice* chosen) {
  if (plan == PlanFor::kCpu) {
    return flags.cuda_graph.empty()
               ? absl::OkStatus()
               : UsageError("--plan, --cuda-graph: the plan is for the CPU. Leave the latter out");
  }
  const absl::StatusOr<std::vector<CudaDeviceInfo>> gpus = list();
  if (gpus.ok()) return UseGpu(gpus->front(), chosen);
  const std::string reason = ReasonOf(gpus.status());
  if (plan == PlanFor::kAccelerator) {
    return DeviceError(absl::StrCat("--plan: the plan is for an accelerator, and there is none: ",
                                    reason, ". With --device emulated the CPU poses as one"));
  }
  std::string given = GivenAcceleratorOptions(flags);
  if (!flags.cuda_graph.empty()) {
    absl::StrAppend(&given, given.empty() ? "" : ", ", "--cuda-graph");
  }
  if (!given.empty()) {
    return DeviceError(absl::StrCat(given, ": the CPU computes, since there is no accelerator: ",
                                    reason, ". Leave it out, or use --device emulated"));
  }
  // A build without CUDA never had a choice.
  const bool is_expected = absl::IsUnimplemented(gpus.status()) && flags.device.empty();
  if (!is_expected) chosen->note = absl::StrCat("the CPU computes: ", reason);
  return absl::OkStatus();
}

}  // namespace

void AddDeviceOptions(CLI::App& command, DeviceFlags* flags) {
  command.add_option("--device", flags->device,
                     "where to compute: auto (default: cuda:0 if there is one, else the CPU), cpu, "
                     "cuda:N, or emulated (the CPU poses as an accelerator)");
  command.add_option("--hbm", flags->hbm,
                     "budget of the accelerator's memory, such as 20GiB (default: what is free "
                     "there, less a margin; emulated: half of --dram)");
  command.add_option("--in-place", flags->in_place,
                     "whether the CPU multiplies weights in DRAM where they lie: auto (default: as "
                     "many as pay), on (all), off (they cross the link)");
  command.add_option("--cuda-graph", flags->cuda_graph,
                     "cuda:N: whether a token is enqueued as one graph where all weights stay on "
                     "the GPU: on (default), off");
  command.add_option("--link-h2d", flags->link_h2d,
                     "emulated: rate of the link to the accelerator (default 26GB/s)");
  command.add_option("--link-d2h", flags->link_d2h, "emulated: and back (default: as --link-h2d)");
  command.add_option("--link-latency", flags->link_latency,
                     "emulated: latency of the link, such as 10us (default)");
}

absl::StatusOr<InPlace> ParseInPlace(const std::string& text) {
  if (text.empty() || text == "auto") return InPlace::kAuto;
  if (text == "on") return InPlace::kOn;
  if (text == "off") return InPlace::kOff;
  return UsageError(absl::StrCat("--in-place: '", text, "' is none of auto, on, off"));
}

absl::StatusOr<ChosenDevice> ChooseDevice(const DeviceFlags& flags, PlanFor plan,
                                          const GpuList& list) {
  WEIR_ASSIGN_OR_RETURN(const Request request, ParseDevice(flags.device));
  WEIR_RETURN_IF_ERROR(CheckFlags(flags, request));
  WEIR_RETURN_IF_ERROR(CheckPlan(flags, request, plan));
  ChosenDevice chosen;
  WEIR_ASSIGN_OR_RETURN(chosen.in_place, ParseInPlace(flags.in_place));
  WEIR_ASSIGN_OR_RETURN(const bool graphs, ParseCudaGraph(flags.cuda_graph));
  if (!flags.hbm.empty()) {
    const absl::StatusOr<uint64_t> bytes = ParseBytes(flags.hbm);
    if (!bytes.ok()) return UsageError(absl::StrCat("--hbm: ", bytes.status().message()));
    chosen.hbm_bytes = *bytes;
  }
  if (request.kind == AcceleratorKind::kEmulated) {
    WEIR_ASSIGN_OR_RETURN(chosen.accelerator, EmulatedFrom(flags));
  } else if (request.kind == AcceleratorKind::kCuda) {
    WEIR_RETURN_IF_ERROR(UseCuda(request.ordinal, list, &chosen));
  } else if (request.is_auto) {
    WEIR_RETURN_IF_ERROR(UseBest(flags, plan, list, &chosen));
  }
  chosen.accelerator.graphs = graphs;
  return chosen;
}

}  // namespace weir
