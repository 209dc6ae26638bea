// What a planned run measures before it begins.

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "engine/accelerator.h"
#include "engine/compute_probe.h"
#include "engine/device_probe.h"
#include "engine/link_probe.h"
#include "io/base.h"
#include "kernels/cpu_device.h"
#include "tools/disk_ceiling.h"
#include "tools/exit_codes.h"
#include "tools/planned_run.h"

namespace weir {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLeastLinkBytes = 1 * kMiB;
constexpr uint64_t kMostLinkBytes = 16 * kMiB;  // larger than caches that a copy engine sees

double BytesPerS(uint64_t bytes, const std::vector<int64_t>& step_ns) {
  const int64_t pass_ns = std::accumulate(step_ns.begin(), step_ns.end(), int64_t{1});
  return static_cast<double>(bytes) * 1e9 / static_cast<double>(pass_ns);
}

// A device that is not there or fails is told apart from an --isa that this CPU lacks.
absl::Status WithProbeCode(const AcceleratorOptions& accelerator, const absl::Status& status) {
  if (absl::IsResourceExhausted(status)) return WithExitCode(ExitCode::kBudget, status);
  const bool is_cuda = accelerator.kind == AcceleratorKind::kCuda;
  return WithExitCode(is_cuda ? ExitCode::kDevice : ExitCode::kUsage, status);
}

absl::StatusOr<std::vector<int64_t>> StepsOn(const AcceleratorOptions& accelerator,
                                             const Model& model, const ModelOptions& options,
                                             const PlannedRun& run) {
  const Plan& plan = run.made.plan;
  ComputeProbeOptions probe;
  probe.threads = ThreadsFrom(options);
  probe.isa = options.isa;
  probe.position = std::min(run.needs.position, plan.shape.context_tokens - 1);
  const uint64_t budget_bytes =
      accelerator.is_used() ? plan.accelerator->hbm_bytes() : plan.dram_bytes();
  probe.memory_bytes = std::min<uint64_t>(probe.memory_bytes, budget_bytes / 2);
  probe.accelerator = accelerator;
  absl::StatusOr<std::vector<int64_t>> steps = ProbeSteps(model, *run.made.transformer, probe);
  if (!steps.ok()) return WithProbeCode(accelerator, steps.status());
  return steps;
}

// The link before there is an engine: for plans that depend on it.
absl::StatusOr<LinkFigures> LinkOf(const AcceleratorOptions& accelerator,
                                   const ModelOptions& options, const Plan& plan) {
  const uint64_t least_budget = std::min(plan.dram_bytes(), plan.accelerator->hbm_bytes());
  const uint64_t bytes =
      std::clamp(AlignUp(least_budget / 4, kPage), kLeastLinkBytes, kMostLinkBytes);
  const uint64_t device_bytes = bytes + kLeastLinkBytes;
  WEIR_ASSIGN_OR_RETURN(
      const std::unique_ptr<Device> device,
      MakeAccelerator(accelerator,
                      device_bytes + AcceleratorScratchBytes(accelerator, device_bytes),
                      {.threads = 1, .isa = options.isa}));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Device> cpu,
                        MakeCpuDevice({.threads = 1, .isa = options.isa}));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> host,
                        cpu->Allocate(bytes, kPage, Touch::kNow));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> there,
                        device->Allocate(bytes, kPage, Touch::kNow));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<PinnedRange> pinned,
                        device->Pin(host->data(), bytes));
  const std::unique_ptr<Stream> stream = device->NewCopyStream();
  return ProbeLink(*stream, {.host = {host->data(), bytes}, .device = {there->data(), bytes}},
                   plan.accelerator->slot_bytes);
}

}  // namespace

absl::Status MeasureCompute(const Model& model, const ModelOptions& options, PlannedRun* run) {
  Ceilings& ceilings = run->ceilings;
  if (!ceilings.step_ns.empty()) return absl::OkStatus();
  // One that is elsewhere is not measured; the CPU takes its part.
  const AcceleratorOptions accelerator =
      options.is_elsewhere ? AcceleratorOptions() : run->device.accelerator;
  const uint64_t weight_bytes = run->made.transformer->program().payload_bytes();
  WEIR_ASSIGN_OR_RETURN(ceilings.step_ns, StepsOn(accelerator, model, options, *run));
  ceilings.compute_bytes_per_s = BytesPerS(weight_bytes, ceilings.step_ns);
  if (!run->has_accelerator()) return absl::OkStatus();
  if (!accelerator.is_used()) {
    ceilings.host_step_ns = ceilings.step_ns;
    ceilings.host_compute_bytes_per_s = ceilings.compute_bytes_per_s;
    return absl::OkStatus();
  }
  WEIR_ASSIGN_OR_RETURN(ceilings.host_step_ns, StepsOn(AcceleratorOptions(), model, options, *run));
  ceilings.host_compute_bytes_per_s = BytesPerS(weight_bytes, ceilings.host_step_ns);
  const absl::StatusOr<LinkFigures> link = LinkOf(accelerator, options, run->made.plan);
  if (!link.ok()) return WithProbeCode(accelerator, link.status());
  ceilings.link_bytes_per_s = link->bytes_per_s;
  ceilings.link_latency_ns = link->latency_ns;
  return absl::OkStatus();
}

absl::StatusOr<std::string> MeasureCeilings(const Model& model, const ModelOptions& options,
                                            PlannedRun* run) {
  WEIR_RETURN_IF_ERROR(MeasureCompute(model, options, run));
  WEIR_ASSIGN_OR_RETURN(const DiskReading reading, ReadingFrom(model, options));
  const DiskFigures disk = MeasureDisk(*model.files[0], reading);
  run->ceilings.disk_bytes_per_s = disk.bytes_per_s;
  run->ceilings.disk_latency_ns = disk.latency_ns;
  Plan& plan = run->made.plan;
  plan.prediction = PredictPlan(run->made.transformer->program(), plan, run->ceilings);
  return disk.note;
}

absl::StatusOr<DiskFigures> MeasureDiskOf(Engine& engine, const Model& model,
                                          const ModelOptions& options) {
  WEIR_ASSIGN_OR_RETURN(const DiskReading reading, ReadingFrom(model, options));
  return MeasureDisk(*model.files[0], reading, engine.IdleRing());
}

absl::Status MeasureLinksOf(Engine& engine, const Model& model, const ModelOptions& options,
                            Ceilings* ceilings) {
  WEIR_ASSIGN_OR_RETURN(const DiskFigures disk, MeasureDiskOf(engine, model, options));
  ceilings->disk_bytes_per_s = disk.bytes_per_s;
  ceilings->disk_latency_ns = disk.latency_ns;
  if (!engine.plan().accelerator.has_value()) return absl::OkStatus();
  const absl::StatusOr<LinkFigures> link = engine.MeasureLink();
  if (!link.ok()) return WithExitCode(ExitCode::kDevice, link.status());
  ceilings->link_bytes_per_s = link->bytes_per_s;
  ceilings->link_latency_ns = link->latency_ns;
  return absl::OkStatus();
}

}  // namespace weir
