#include "engine/planner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/kv_pages.h"
#include "engine/pass_inputs.h"
#include "engine/run_memory.h"
#include "engine/workspace.h"
#include "io/base.h"
#include "kernels/ops.h"

namespace weir {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMaxBlockBytes = 2 * kMiB;
constexpr uint64_t kMaxCopiedBlockBytes = 8 * kMiB;      // 98 % of the rate of a huge copy
constexpr uint64_t kMaxResidentBlockBytes = 128 * kMiB;  // a whole matrix
constexpr uint64_t kMinBlockBytes = 128 * kKiB;
constexpr uint64_t kMinRingBytes = 24 * kMiB;
constexpr uint64_t kMaxRingBytes = 128 * kMiB;
constexpr double kRingSeconds = 0.008;
// Of the host ring beside an accelerator, for blocks that were read and are being copied.
constexpr uint64_t kCopiedSlots = 8;
constexpr uint64_t kMaxCopiedSlotBytes = 512 * kMiB;
// What the link delivers while the host learns that slots are free, and while steps between two
// copied ones run.
constexpr double kDeviceRingSeconds = 0.004;
constexpr uint64_t kUnknownDeviceRingBytes = 192 * kMiB;  // for PCIe 5.0 x16
constexpr uint64_t kMinDeviceRingBytes = 32 * kMiB;
constexpr uint64_t kMaxDeviceRingBytes = 256 * kMiB;
constexpr uint32_t kMinChunkTokens = 16;
// A CPU computes longer than the disk reads from some hundred tokens on. To a GPU more tokens mean
// fewer passes, each of which brings all weights that are not resident.
constexpr uint32_t kMaxCpuChunkTokens = 512;
constexpr uint32_t kMaxGpuChunkTokens = 4096;

TransformerOptions CutFor(const Model& model, const RunShape& shape, ActivationFormat activations) {
  TransformerOptions options;
  options.cut.block_bytes = shape.block_bytes;
  options.cut.separates_matrices = !shape.reads_ahead;
  for (const auto& file : model.files) {
    options.cut.file_alignment_bytes.push_back(file->alignment_bytes());
  }
  options.activations = activations;
  options.kv = shape.kv;
  return options;
}

// Workers with scratch memory on the host, at most.
uint32_t HostThreads(const PlannerOptions& options) {
  const bool emulated = options.accelerator.kind == AcceleratorKind::kEmulated;
  return emulated ? 2 * options.threads : options.threads;
}

uint32_t InPlaceTokensFor(const PlannerOptions& options, const RunShape& shape) {
  return options.in_place == InPlace::kOff ? 0 : std::min(kInPlaceTokens, shape.chunk_tokens);
}

OverheadBytes OverheadFor(const Model& model, const PlannerOptions& options, const RunShape& shape,
                          uint32_t in_place_tokens) {
  const uint32_t threads = HostThreads(options);
  if (!options.accelerator.is_used()) return HostOverhead(model, shape, threads);
  return HostOverheadBesideAccelerator(model, shape, threads, in_place_tokens);
}

DeviceOverheadBytes DeviceOverheadFor(const Model& model, const PlannerOptions& options,
                                      const RunShape& shape, uint32_t in_place_tokens,
                                      uint64_t hbm_bytes) {
  DeviceOverheadBytes overhead = DeviceOverhead(model, shape, in_place_tokens);
  overhead.scratch = AcceleratorScratchBytes(options.accelerator, hbm_bytes);
  return overhead;
}

// A budget to judge proportions by, when a resident share was asked for instead.
uint64_t ReferenceBudget(const Model& model, const PlannerOptions& options) {
  if (options.dram_bytes.has_value()) return *options.dram_bytes;
  const auto weights = static_cast<double>(model.index.tensor_bytes());
  return static_cast<uint64_t>(weights * (options.resident_share.value_or(1.0) + 0.25)) + 64 * kMiB;
}

// What KV pages and activations are taken from.
uint64_t WorkingBudget(const Model& model, const PlannerOptions& options) {
  return options.accelerator.is_used() ? options.hbm_bytes : ReferenceBudget(model, options);
}

uint32_t ChooseContext(const Model& model, const PlannerOptions& options, uint64_t budget) {
  if (options.context_tokens != 0) return options.context_tokens;
  const uint32_t trained = std::max(1u, model.config.context_length);
  const uint32_t least = std::min(trained, std::max(options.min_context_tokens, 256u));
  uint32_t context = std::max(least, std::min(trained, kDefaultContextTokens));
  while (context > least && KvBytes(model.config, options.kv, context) > budget / 4)
    context = std::max(least, context / 2);
  return context;
}

uint32_t ChooseChunk(const Model& model, const PlannerOptions& options, const RunShape& shape,
                     uint64_t budget) {
  if (options.chunk_tokens != 0) return options.chunk_tokens;
  const uint32_t most =
      options.accelerator.kind == AcceleratorKind::kCuda ? kMaxGpuChunkTokens : kMaxCpuChunkTokens;
  uint32_t chunk = std::max(1u, std::min({options.max_chunk_tokens, most, shape.context_tokens}));
  const uint64_t row_bytes = RowStagingBytes(model);
  auto fits = [&](uint32_t tokens) {
    const uint64_t workspace =
        WorkspaceBytes(model.config, {.chunk_tokens = tokens, .logit_rows = 0});
    // With an accelerator rows are staged on both sides.
    const bool on_host =
        !options.accelerator.is_used() || tokens * row_bytes <= *options.dram_bytes / 8;
    return workspace + tokens * row_bytes <= budget / 8 && on_host;
  };
  while (chunk > kMinChunkTokens && !fits(chunk)) chunk /= 2;
  return chunk;
}

// For weights of which some are brought at every pass, at least without an accelerator: with one
// they may all stay. Copies need size, and a pass that copies nothing few launches; but blocks are
// what rings have slots for: what is read from disk at every pass waits in a slot for its copy, so
// that many small ones keep the disk busier. Without an accelerator the disk alone decides.
uint64_t ChooseBlockBytes(const Model& model, const PlannerOptions& options) {
  if (options.block_bytes != 0) return options.block_bytes;
  const uint64_t weights = model.index.tensor_bytes();
  if (!options.accelerator.is_used())
    return std::clamp(weights / 64, kMinBlockBytes, kMaxBlockBytes);
  const uint64_t needed = weights + weights / 8;  // with slots and padding
  const bool all_resident = needed <= options.hbm_bytes;
  const bool streams = needed > options.hbm_bytes + *options.dram_bytes;
  const uint64_t parts = streams ? 32 : 16;  // of a budget, half of which may be the ring
  uint64_t wanted = std::min(weights / 64, *options.dram_bytes / parts);
  if (!all_resident) wanted = std::min(wanted, options.hbm_bytes / parts);
  const uint64_t most = all_resident ? kMaxResidentBlockBytes
                        : streams    ? kMaxBlockBytes
                                     : kMaxCopiedBlockBytes;
  return std::clamp(wanted, kMinBlockBytes, most);
}

// Blocks that go on to an accelerator are held while they are copied, too.
uint64_t PreferredRingBytes(const Model& model, const PlannerOptions& options,
                            const RunShape& shape) {
  uint64_t bytes = RingBytes(options.disk_bytes_per_s);
  if (options.accelerator.is_used()) {
    bytes += std::min(kCopiedSlots * shape.block_bytes, kMaxCopiedSlotBytes);
  }
  return std::min(bytes, model.index.tensor_bytes() / 8);
}

PlanOptions OptionsFor(const Model& model, const PlannerOptions& options, const RunShape& shape) {
  PlanOptions plan_options;
  plan_options.shape = shape;
  const uint32_t in_place_tokens = InPlaceTokensFor(options, shape);
  plan_options.overhead = OverheadFor(model, options, shape, in_place_tokens);
  plan_options.preferred_ring_bytes = PreferredRingBytes(model, options, shape);
  if (!options.accelerator.is_used()) return plan_options;
  plan_options.device_overhead =
      DeviceOverheadFor(model, options, shape, in_place_tokens, options.hbm_bytes);
  plan_options.preferred_device_ring_bytes =
      std::min(DeviceRingBytes(options.link_bytes_per_s), model.index.tensor_bytes() / 8);
  plan_options.in_place = options.in_place;
  plan_options.in_place_tokens = in_place_tokens;
  return plan_options;
}

bool Fits(const Program& program, const PlannerOptions& options, const PlanOptions& plan_options) {
  if (!options.dram_bytes.has_value()) return true;
  if (!options.accelerator.is_used()) {
    return FloorBytes(program, plan_options) <= *options.dram_bytes;
  }
  return AcceleratorDramFloorBytes(program, plan_options) <= *options.dram_bytes &&
         HbmFloorBytes(program, plan_options) <= options.hbm_bytes;
}

absl::StatusOr<Plan> MakePlanFor(const Program& program, const PlannerOptions& options,
                                 const PlanOptions& plan_options) {
  if (options.accelerator.is_used()) {
    return MakeAcceleratorPlan(program, *options.dram_bytes, options.hbm_bytes, plan_options);
  }
  return options.dram_bytes.has_value()
             ? MakePlan(program, *options.dram_bytes, plan_options)
             : MakePlanForResidentShare(program, *options.resident_share, plan_options);
}

// What kernels cannot do is said before anything is planned for it.
absl::Status CheckHeads(const Model& model, const PlannerOptions& options) {
  const uint32_t columns = std::max(model.config.key_columns, model.config.value_columns);
  if (options.accelerator.kind != AcceleratorKind::kCuda || columns <= kMostCudaHeadColumns) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(absl::StrCat(model.path, ": its attention heads have ", columns,
                                               " columns; the CUDA kernels take up to ",
                                               kMostCudaHeadColumns, ". Use --device cpu"));
}

absl::Status CheckContext(const Model& model, const PlannerOptions& options,
                          uint32_t context_tokens) {
  if (model.config.context_length != 0 && context_tokens > model.config.context_length) {
    return absl::InvalidArgumentError(
        absl::StrCat("a context of ", context_tokens, " tokens exceeds what ", model.path,
                     " was trained for (", model.config.context_length, "). Lower -c"));
  }
  if (options.min_context_tokens > context_tokens) {
    return absl::OutOfRangeError(absl::StrCat(
        "the prompt and the tokens to generate need a context of ", options.min_context_tokens,
        " tokens, but it has ", context_tokens, " (", model.path, " was trained for ",
        model.config.context_length,
        "). Shorten the prompt, or lower -n, or raise -c up to what the model was trained for"));
  }
  return absl::OkStatus();
}

absl::Status CheckKv(const Model& model, const PlannerOptions& options, const RunShape& shape) {
  if (shape.kv != KvFormats{} && options.accelerator.kind == AcceleratorKind::kCuda) {
    return absl::InvalidArgumentError(
        "a GPU keeps keys and values as f16; q8_0 is for the CPU (--device cpu)");
  }
  absl::Status status = CheckKvFormats(model.config, shape.kv);
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(model.path, ": ", status.message()));
}

absl::StatusOr<ModelPlan> UseSavedPlan(const Model& model, const PlannerOptions& options) {
  const std::string& source = options.saved_plan_source;
  WEIR_ASSIGN_OR_RETURN(Plan plan, ParsePlanJson(options.saved_plan_json, source));
  const RunShape& shape = plan.shape;
  const bool sane = shape.block_bytes >= kPage && shape.context_tokens > 0 &&
                    shape.chunk_tokens > 0 && shape.chunk_tokens <= shape.context_tokens;
  if (!sane) {
    return absl::InvalidArgumentError(absl::StrCat(
        source,
        ": shape: block_bytes of at least 4096 and 0 < chunk_tokens <= context_tokens expected"));
  }
  WEIR_RETURN_IF_ERROR(CheckContext(model, options, shape.context_tokens));
  WEIR_RETURN_IF_ERROR(CheckKv(model, options, shape));
  if (plan.accelerator.has_value() != options.accelerator.is_used()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, plan.accelerator.has_value()
                                 ? ": the plan is for an accelerator. Choose one with --device"
                                 : ": the plan is for the CPU alone. Run it with --device cpu"));
  }
  ModelPlan made;
  made.transformer =
      std::make_unique<Transformer>(model, CutFor(model, shape, options.activations));
  const Program& program = made.transformer->program();
  WEIR_RETURN_IF_ERROR(CheckPlanFits(program, plan, source));
  plan.shape.logit_rows = std::max(shape.logit_rows, options.logit_rows);
  const uint32_t in_place_tokens = plan.accelerator ? plan.accelerator->in_place_tokens : 0;
  plan.overhead = OverheadFor(model, options, plan.shape, in_place_tokens);
  if (plan.dram_bytes() > plan.dram_budget_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(source, ": this run needs ", FormatBytes(plan.dram_bytes()),
                     " under the plan's placement (", DescribeOverhead(plan.overhead),
                     "), but the plan's budget is ", FormatBytes(plan.dram_budget_bytes),
                     ". Make a plan for this -t and -c"));
  }
  if (plan.accelerator.has_value()) {
    AcceleratorPlan& part = *plan.accelerator;
    part.overhead =
        DeviceOverheadFor(model, options, plan.shape, in_place_tokens, part.hbm_budget_bytes);
    if (part.hbm_bytes() > part.hbm_budget_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(source, ": this run needs ", FormatBytes(part.hbm_bytes()),
                       " of the accelerator's memory under the plan's placement (",
                       DescribeOverhead(part.overhead), "), but the plan's budget is ",
                       FormatBytes(part.hbm_budget_bytes), ". Make a plan for this device and -c"));
    }
  }
  made.plan = std::move(plan);
  return made;
}

// Whether to try for a CPU that reads nothing once it has everything. Then larger blocks cost
// nothing, and fewer of them leave workers waiting for one another less often
// (docs/performance.md).
bool MayAllStay(const Model& model, const PlannerOptions& options) {
  if (options.block_bytes != 0 || options.accelerator.is_used()) return false;
  if (options.resident_share.has_value()) return *options.resident_share >= 1;
  return *options.dram_bytes >= model.index.tensor_bytes();
}

// In blocks of the shape's size, or of smaller ones where the smallest ring would not fit
// otherwise.
absl::StatusOr<ModelPlan> CutAndPlan(const Model& model, const PlannerOptions& options,
                                     RunShape shape) {
  ModelPlan made;
  PlanOptions plan_options = OptionsFor(model, options, shape);
  while (true) {
    made.transformer =
        std::make_unique<Transformer>(model, CutFor(model, shape, options.activations));
    plan_options.shape = shape;
    const bool fits = Fits(made.transformer->program(), options, plan_options);
    if (fits || shape.block_bytes <= kMinBlockBytes) break;
    shape.block_bytes = std::max(kMinBlockBytes, shape.block_bytes / 2);
  }
  absl::StatusOr<Plan> plan = MakePlanFor(made.transformer->program(), options, plan_options);
  if (!plan.ok()) {
    return absl::Status(plan.status().code(),
                        absl::StrCat(model.path, ": ", plan.status().message()));
  }
  made.plan = *std::move(plan);
  made.options = plan_options;
  return made;
}

}  // namespace

uint64_t RingBytes(double disk_bytes_per_s) {
  const double wanted_bytes = std::min(disk_bytes_per_s * kRingSeconds, 1e9);
  return std::clamp(AlignUp(static_cast<uint64_t>(wanted_bytes), kMiB), kMinRingBytes,
                    kMaxRingBytes);
}

uint64_t DeviceRingBytes(double link_bytes_per_s) {
  if (link_bytes_per_s <= 0) return kUnknownDeviceRingBytes;
  const double wanted_bytes = std::min(link_bytes_per_s * kDeviceRingSeconds, 1e9);
  return std::clamp(AlignUp(static_cast<uint64_t>(wanted_bytes), kMiB), kMinDeviceRingBytes,
                    kMaxDeviceRingBytes);
}

absl::StatusOr<ModelPlan> PlanModel(const Model& model, const PlannerOptions& options) {
  WEIR_RETURN_IF_ERROR(CheckHeads(model, options));
  if (!options.saved_plan_json.empty()) return UseSavedPlan(model, options);
  WEIR_CHECK(options.dram_bytes.has_value() != options.resident_share.has_value());
  WEIR_CHECK(!options.accelerator.is_used() || options.dram_bytes.has_value());
  const uint64_t budget = WorkingBudget(model, options);
  RunShape shape;
  shape.kv = options.kv;
  shape.reads_ahead = options.reads_ahead;
  WEIR_RETURN_IF_ERROR(CheckKv(model, options, shape));
  shape.context_tokens = ChooseContext(model, options, budget);
  WEIR_RETURN_IF_ERROR(CheckContext(model, options, shape.context_tokens));
  shape.chunk_tokens = std::min(ChooseChunk(model, options, shape, budget), shape.context_tokens);
  shape.logit_rows = options.logit_rows;
  shape.block_bytes = options.reads_ahead || options.block_bytes != 0
                          ? ChooseBlockBytes(model, options)
                          : kMaxResidentBlockBytes;

  if (MayAllStay(model, options)) {
    RunShape whole = shape;
    whole.block_bytes = kMaxResidentBlockBytes;
    absl::StatusOr<ModelPlan> made = CutAndPlan(model, options, whole);
    if (made.ok() && made->plan.slots == 0) return made;
  }
  return CutAndPlan(model, options, shape);
}

void ChooseInPlace(const Ceilings& ceilings, ModelPlan* plan) {
  const bool decides = plan->plan.accelerator.has_value() && plan->options.has_value() &&
                       plan->options->in_place == InPlace::kAuto;
  if (!decides) return;
  plan->options->ceilings = ceilings;
  absl::StatusOr<Plan> made =
      MakeAcceleratorPlan(plan->transformer->program(), plan->plan.dram_budget_bytes,
                          plan->plan.accelerator->hbm_budget_bytes, *plan->options);
  WEIR_CHECK(made.ok());  // it was with these budgets before
  plan->plan = *std::move(made);
}

}  // namespace weir
