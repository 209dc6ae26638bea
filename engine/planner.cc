#include "engine/planner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/kv_pages.h"
#include "engine/small_tensors.h"
#include "engine/workspace.h"
#include "io/base.h"
#include "kernels/cpu_device.h"

namespace weir {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMaxBlockBytes = 2 * kMiB;
constexpr uint64_t kMinBlockBytes = 128 * kKiB;
constexpr uint64_t kMinRingBytes = 24 * kMiB;
constexpr uint64_t kMaxRingBytes = 128 * kMiB;
constexpr double kRingSeconds = 0.008;
constexpr uint32_t kMinChunkTokens = 16;

TransformerOptions CutFor(const Model& model, uint64_t block_bytes, ActivationFormat activations) {
  TransformerOptions options;
  options.cut.block_bytes = block_bytes;
  for (const auto& file : model.files) {
    options.cut.file_alignment_bytes.push_back(file->alignment_bytes());
  }
  options.activations = activations;
  return options;
}

OverheadBytes OverheadFor(const Model& model, const RunShape& shape, uint32_t threads) {
  const WorkspaceShape workspace = {.chunk_tokens = shape.chunk_tokens,
                                    .logit_rows = shape.logit_rows};
  OverheadBytes overhead;
  overhead.small_tensors = AlignUp(SmallTensors::Bytes(model), kPage);
  overhead.kv = AlignUp(KvBytes(model.config, shape.context_tokens), kPage);
  overhead.activations =
      AlignUp(WorkspaceBytes(model.config, workspace), kPage) + threads * CpuStream::kScratchBytes;
  overhead.rows = AlignUp(shape.chunk_tokens * RowStagingBytes(model), kPage);
  return overhead;
}

// A budget to judge proportions by, when a resident share was asked for instead.
uint64_t ReferenceBudget(const Model& model, const PlannerOptions& options) {
  if (options.dram_bytes.has_value()) return *options.dram_bytes;
  const auto weights = static_cast<double>(model.index.tensor_bytes());
  return static_cast<uint64_t>(weights * (options.resident_share.value_or(1.0) + 0.25)) + 64 * kMiB;
}

uint32_t ChooseContext(const Model& model, const PlannerOptions& options, uint64_t budget) {
  if (options.context_tokens != 0) return options.context_tokens;
  const uint32_t trained = std::max(1u, model.config.context_length);
  const uint32_t least = std::min(trained, std::max(options.min_context_tokens, 256u));
  uint32_t context = std::max(least, std::min(trained, kDefaultContextTokens));
  while (context > least && KvBytes(model.config, context) > budget / 4)
    context = std::max(least, context / 2);
  return context;
}

uint32_t ChooseChunk(const Model& model, const PlannerOptions& options, const RunShape& shape,
                     uint64_t budget) {
  if (options.chunk_tokens != 0) return options.chunk_tokens;
  uint32_t chunk = std::max(1u, std::min(options.max_chunk_tokens, shape.context_tokens));
  const uint64_t row_bytes = RowStagingBytes(model);
  auto bytes = [&](uint32_t tokens) {
    return WorkspaceBytes(model.config, {.chunk_tokens = tokens, .logit_rows = 0}) +
           tokens * row_bytes;
  };
  while (chunk > kMinChunkTokens && bytes(chunk) > budget / 8) chunk /= 2;
  return chunk;
}

PlanOptions OptionsFor(const Model& model, const PlannerOptions& options, const RunShape& shape) {
  PlanOptions plan_options;
  plan_options.shape = shape;
  plan_options.overhead = OverheadFor(model, shape, options.threads);
  plan_options.preferred_ring_bytes =
      std::min(RingBytes(options.disk_bytes_per_s), model.index.tensor_bytes() / 8);
  return plan_options;
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
  ModelPlan made;
  made.transformer =
      std::make_unique<Transformer>(model, CutFor(model, shape.block_bytes, options.activations));
  const Program& program = made.transformer->program();
  WEIR_RETURN_IF_ERROR(CheckPlanFits(program, plan, source));
  plan.shape.logit_rows = std::max(shape.logit_rows, options.logit_rows);
  plan.overhead = OverheadFor(model, plan.shape, options.threads);
  if (plan.dram_bytes() > plan.dram_budget_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(source, ": this run needs ", FormatBytes(plan.dram_bytes()),
                     " under the plan's placement (", DescribeOverhead(plan.overhead),
                     "), but the plan's budget is ", FormatBytes(plan.dram_budget_bytes),
                     ". Make a plan for this -t and -c"));
  }
  made.plan = std::move(plan);
  return made;
}

}  // namespace

uint64_t RingBytes(double disk_bytes_per_s) {
  const double wanted_bytes = std::min(disk_bytes_per_s * kRingSeconds, 1e9);
  return std::clamp(AlignUp(static_cast<uint64_t>(wanted_bytes), kMiB), kMinRingBytes,
                    kMaxRingBytes);
}

uint64_t RowStagingBytes(const Model& model) {
  const TensorInfo& table = *model.tensors.embedding;
  const uint64_t alignment = model.files[table.file]->alignment_bytes();
  // An unaligned row touches one aligned unit more than its length.
  return AlignUp(RowBytes(table.dtype, table.columns()), alignment) + alignment;
}

absl::StatusOr<ModelPlan> PlanModel(const Model& model, const PlannerOptions& options) {
  if (!options.saved_plan_json.empty()) return UseSavedPlan(model, options);
  WEIR_CHECK(options.dram_bytes.has_value() != options.resident_share.has_value());
  const uint64_t budget = ReferenceBudget(model, options);
  RunShape shape;
  shape.context_tokens = ChooseContext(model, options, budget);
  WEIR_RETURN_IF_ERROR(CheckContext(model, options, shape.context_tokens));
  shape.chunk_tokens = std::min(ChooseChunk(model, options, shape, budget), shape.context_tokens);
  shape.logit_rows = options.logit_rows;
  shape.block_bytes = std::clamp(model.index.tensor_bytes() / 64, kMinBlockBytes, kMaxBlockBytes);

  ModelPlan made;
  PlanOptions plan_options = OptionsFor(model, options, shape);
  while (true) {
    made.transformer =
        std::make_unique<Transformer>(model, CutFor(model, shape.block_bytes, options.activations));
    plan_options.shape = shape;
    const bool fits = !options.dram_bytes.has_value() ||
                      FloorBytes(made.transformer->program(), plan_options) <= *options.dram_bytes;
    if (fits || shape.block_bytes <= kMinBlockBytes) break;
    shape.block_bytes = std::max(kMinBlockBytes, shape.block_bytes / 2);
  }
  const Program& program = made.transformer->program();
  absl::StatusOr<Plan> plan =
      options.dram_bytes.has_value()
          ? MakePlan(program, *options.dram_bytes, plan_options)
          : MakePlanForResidentShare(program, *options.resident_share, plan_options);
  if (!plan.ok()) {
    return absl::Status(plan.status().code(),
                        absl::StrCat(model.path, ": ", plan.status().message()));
  }
  made.plan = *std::move(plan);
  return made;
}

}  // namespace weir
