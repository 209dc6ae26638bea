#include "tools/bench_profile.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "engine/hardware_probe.h"
#include "io/base.h"
#include "kernels/cpu_device.h"
#include "kernels/host_memory.h"
#include "kernels/isa.h"
#include "tools/exit_codes.h"

namespace weir {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLeastProbeBytes = 256 * kMiB;
constexpr uint64_t kMostProbeBytes = 1024 * kMiB;

}  // namespace

absl::Status CheckProfiled(const PlannedRun& run) {
  if (!run.has_accelerator()) return absl::OkStatus();
  return WithExitCode(
      ExitCode::kUsage,
      absl::InvalidArgumentError(
          run.device.is_emulated()
              ? "--profile: the ops of an emulated accelerator are not timed. Use --device cpu"
              : "--profile: the ops of a GPU are not timed. Use --device cpu to profile the CPU's "
                "kernels, or run `nsys profile weir bench ... --cuda-graph off` for the GPU's"));
}

BenchProfile::BenchProfile(uint32_t threads, std::string isa) {
  ceilings_.threads = threads;
  ceilings_.isa = std::move(isa);
  ceilings_.cache_bytes = LastLevelCacheBytes();
  prompts_.unit = "prompt";
  tokens_.unit = "token";
}

absl::StatusOr<double> BenchProfile::MeasureDram() {
  const uint64_t wanted = std::clamp(2 * ceilings_.cache_bytes, kLeastProbeBytes, kMostProbeBytes);
  const uint64_t most = AvailableHostBytes().value_or(kLeastProbeBytes) / 2;
  const uint64_t bytes = AlignDown(std::min(wanted, most), kPage);
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device,
                        MakeCpuDevice({.threads = ceilings_.threads, .isa = ceilings_.isa}));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> memory,
                        device->Allocate(bytes, kPage, Touch::kNow));
  ceilings_.probe_bytes = bytes;
  WEIR_ASSIGN_OR_RETURN(
      const MemoryProbeResult result,
      ProbeMemoryRead(absl::MakeConstSpan(memory->data(), bytes), ceilings_.threads, 150'000'000));
  return result.bytes_per_s;
}

absl::Status BenchProfile::MeasureBefore() {
  WEIR_ASSIGN_OR_RETURN(ceilings_.dram_before_bytes_per_s, MeasureDram());
  const auto peak = [this](Arithmetic arithmetic) {
    return ProbeArithmetic(arithmetic, ceilings_.threads, ceilings_.isa);
  };
  WEIR_ASSIGN_OR_RETURN(ceilings_.byte_operations_per_s, peak(Arithmetic::kBytes));
  WEIR_ASSIGN_OR_RETURN(ceilings_.float_operations_per_s, peak(Arithmetic::kFloats));
  return absl::OkStatus();
}

absl::Status BenchProfile::MeasureAfter() {
  WEIR_ASSIGN_OR_RETURN(ceilings_.dram_after_bytes_per_s, MeasureDram());
  ceilings_.isa = SelectedIsa();
  return absl::OkStatus();
}

void BenchProfile::Begin(Engine& engine) {
  has_token_ = false;
  engine.ReadProfile(&begin_);
}

void BenchProfile::OnToken(Engine& engine) {
  engine.ReadProfile(has_token_ ? &latest_ : &first_token_);
  if (!has_token_) latest_ = first_token_;
  has_token_ = true;
}

void BenchProfile::End(Engine& engine) {
  if (!has_token_) OnToken(engine);
}

void BenchProfile::Count(const Generation& generation) {
  prompts_.Add(begin_, first_token_);
  ++prompts_.units;
  prompts_.seconds += generation.prompt_s;
  tokens_.Add(first_token_, latest_);
  tokens_.units += generation.decode_passes;
  tokens_.seconds += generation.decode_s;
}

std::string BenchProfile::Text(ActivationFormat activations, bool with_prompt) const {
  std::string text = CeilingsText(ceilings_, activations);
  if (with_prompt) text += TableText(MakeProfileTable(prompts_, activations, ceilings_));
  if (tokens_.units > 0) text += TableText(MakeProfileTable(tokens_, activations, ceilings_));
  return text;
}

nlohmann::json BenchProfile::Json(ActivationFormat activations, bool with_prompt) const {
  nlohmann::json out = {{"ceilings", ToJson(ceilings_)}};
  if (with_prompt) out["prompt"] = ToJson(MakeProfileTable(prompts_, activations, ceilings_));
  if (tokens_.units > 0) {
    out["generation"] = ToJson(MakeProfileTable(tokens_, activations, ceilings_));
  }
  return out;
}

}  // namespace weir
