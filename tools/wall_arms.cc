#include "tools/wall_arms.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json_members.h"
#include "engine/sampler.h"
#include "io/base.h"
#include "tiering/plan.h"
#include "tools/exit_codes.h"
#include "tools/generate.h"
#include "tools/interrupt.h"
#include "tools/open_engine.h"
#include "tools/report.h"

namespace weir {
namespace {

// Beside the least that a run takes: for rings, and so little that next to nothing stays in it.
uint64_t RingBytesOf(const Model& model) {
  return std::clamp(model.index.tensor_bytes() / 16, 64 * kKiB, 64 * kMiB);
}

void ReadLiterally(ModelOptions* options) {
  options->read_ahead = "off";
  options->read_depth = 1;
}

std::vector<WallArmSpec> CpuArms(const ModelOptions& base) {
  struct Share {
    const char* name;
    const char* resident;
  };
  constexpr Share kShares[] = {{kWallResident, "100%"},
                               {"half on disk", "50%"},
                               {"3/4 on disk", "25%"},
                               {kWallPipelined, "0%"},
                               {kWallLiteral, "0%"}};
  std::vector<WallArmSpec> arms;
  for (const Share& share : kShares) {
    arms.push_back({share.name, base});
    arms.back().options.resident = share.resident;
  }
  ReadLiterally(&arms.back().options);
  return arms;
}

// The least of both budgets, of a plan that streams.
struct LeastBytes {
  uint64_t weights = 0;
  uint64_t dram = 0;
  uint64_t hbm = 0;
};

absl::StatusOr<PlannedRun> PlanWithin(const Model& model, ModelOptions options,
                                      const ContextNeeds& needs, uint64_t budget_bytes) {
  options.dram = std::to_string(budget_bytes);
  options.device.hbm = options.dram;
  options.device.in_place = "off";
  return PlanFromOptions(model, options, needs);
}

absl::StatusOr<LeastBytes> LeastOf(const Model& model, const ModelOptions& options,
                                   const ContextNeeds& needs) {
  // A budget that streams, or the first that works: with more of it blocks are larger.
  uint64_t budget_bytes = model.index.tensor_bytes() / 8 + RingBytesOf(model);
  absl::StatusOr<PlannedRun> run = PlanWithin(model, options, needs, budget_bytes);
  while (absl::IsResourceExhausted(run.status()) && budget_bytes < model.index.tensor_bytes() * 8) {
    budget_bytes *= 2;
    run = PlanWithin(model, options, needs, budget_bytes);
  }
  if (!run.ok()) return run.status();
  const Program& program = run->made.transformer->program();
  return LeastBytes{program.payload_bytes(), AcceleratorDramFloorBytes(program, *run->made.options),
                    HbmFloorBytes(program, *run->made.options)};
}

absl::StatusOr<std::vector<WallArmSpec>> AcceleratorArms(const Model& model, ModelOptions base,
                                                         const ContextNeeds& needs) {
  // What is left open would be chosen by the budget.
  base.context_tokens = needs.min_context_tokens;
  if (base.chunk_tokens == 0) base.chunk_tokens = needs.prompt_tokens;
  WEIR_ASSIGN_OR_RETURN(const LeastBytes least, LeastOf(model, base, needs));
  struct Shares {
    const char* name;
    double hbm, dram;  // of the weights, beside the least
    const char* in_place;
  };
  constexpr double kAll = 1.2;  // with padding, and slots that are as large as the largest matrix
  constexpr Shares kShares[] = {
      {kWallResident, kAll, kAll, "off"},  {"half in DRAM, copied", 0.5, kAll, "off"},
      {"in DRAM, copied", 0, kAll, "off"}, {"in DRAM, multiplied", 0, kAll, "on"},
      {"half on disk", 0, 0.5, "off"},     {kWallPipelined, 0, 0, "off"},
      {kWallLiteral, 0, 0, "off"}};
  const auto budget = [&](uint64_t least_bytes, double share) {
    return std::to_string(least_bytes + RingBytesOf(model) +
                          static_cast<uint64_t>(share * static_cast<double>(least.weights)));
  };
  std::vector<WallArmSpec> arms;
  for (const Shares& shares : kShares) {
    arms.push_back({shares.name, base});
    ModelOptions& options = arms.back().options;
    options.device.hbm = budget(least.hbm, shares.hbm);
    options.dram = budget(least.dram, shares.dram);
    options.device.in_place = shares.in_place;
  }
  ReadLiterally(&arms.back().options);
  return arms;
}

// A disk that changes its pace does so within a run, too: its rate becomes the mean of what it gave
// just before and just after.
absl::Status MeasureDiskAgain(const Model& model, const ModelOptions& options, OpenedArm* opened) {
  WEIR_ASSIGN_OR_RETURN(const DiskFigures disk, MeasureDiskOf(*opened->engine, model, options));
  double& bytes_per_s = opened->run.ceilings.disk_bytes_per_s;
  if (disk.bytes_per_s > 0) bytes_per_s = (bytes_per_s + disk.bytes_per_s) / 2;
  return absl::OkStatus();
}

void FillRates(const Ceilings& ceilings, const Generation& made, WallSample* sample) {
  const auto passes = static_cast<double>(std::max<uint64_t>(1, made.decode_passes));
  sample->tokens_per_s = made.decode_tokens_per_s();
  sample->bytes_per_token = static_cast<double>(made.decode_read_bytes) / passes;
  sample->link_bytes_per_token = static_cast<double>(made.decode_copy_bytes) / passes;
  sample->disk_bytes_per_s = ceilings.disk_bytes_per_s;
  sample->link_bytes_per_s = ceilings.link_bytes_per_s;
  if (ceilings.disk_bytes_per_s > 0) {
    sample->disk_share = made.decode_read_bytes_per_s() / ceilings.disk_bytes_per_s;
  }
  if (ceilings.link_bytes_per_s > 0) {
    sample->link_share = made.decode_copy_bytes_per_s() / ceilings.link_bytes_per_s;
  }
}

void FillTimes(const SchedulerStats& before, const SchedulerStats& after, double seconds,
               WallSample* sample) {
  const double ns = 1e9 * std::max(seconds, 1e-9);
  sample->compute_share = static_cast<double>(after.compute_ns - before.compute_ns) / ns;
  sample->disk_stall_share = static_cast<double>(after.disk_stall_ns - before.disk_stall_ns) / ns;
  sample->copy_stall_share = static_cast<double>(after.copy_stall_ns - before.copy_stall_ns) / ns;
}

// The fields that are plain figures, and their names.
struct Field {
  const char* name;
  double WallSample::*value;
};
constexpr Field kFields[] = {{"weight_bytes", &WallSample::weight_bytes},
                             {"tokens_per_s", &WallSample::tokens_per_s},
                             {"predicted_tokens_per_s", &WallSample::predicted_tokens_per_s},
                             {"bytes_per_token", &WallSample::bytes_per_token},
                             {"link_bytes_per_token", &WallSample::link_bytes_per_token},
                             {"disk_share", &WallSample::disk_share},
                             {"link_share", &WallSample::link_share},
                             {"compute_share", &WallSample::compute_share},
                             {"disk_stall_share", &WallSample::disk_stall_share},
                             {"copy_stall_share", &WallSample::copy_stall_share},
                             {"disk_bytes_per_s", &WallSample::disk_bytes_per_s},
                             {"link_bytes_per_s", &WallSample::link_bytes_per_s},
                             {"compute_s", &WallSample::compute_s}};

}  // namespace

absl::StatusOr<std::vector<WallArmSpec>> WallArms(const Model& model, const ModelOptions& base,
                                                  const ContextNeeds& needs) {
  WEIR_ASSIGN_OR_RETURN(const ChosenDevice device,
                        ChooseDevice(base.device, PlanFor::kAny, &ListCudaDevices));
  if (!device.accelerator.is_used()) return CpuArms(base);
  return AcceleratorArms(model, base, needs);
}

ContextNeeds NeedsOf(absl::Span<const TokenId> prompt, uint32_t tokens) {
  const auto prompt_tokens = static_cast<uint32_t>(prompt.size());
  return {.min_context_tokens = prompt_tokens + tokens + 1,
          .prompt_tokens = prompt_tokens,
          .position = prompt_tokens + tokens / 2};
}

const WallArmSpec& FindArm(const std::vector<WallArmSpec>& arms, const std::string& name) {
  const auto found = std::find_if(arms.begin(), arms.end(),
                                  [&](const WallArmSpec& arm) { return arm.name == name; });
  WEIR_CHECK(found != arms.end());
  return *found;
}

absl::StatusOr<OpenedArm> OpenArm(const Model& model, const ModelOptions& options,
                                  const ContextNeeds& needs, bool measures) {
  WEIR_ASSIGN_OR_RETURN(PlannedRun run, PlanFromOptions(model, options, needs));
  if (measures) WEIR_RETURN_IF_ERROR(MeasureCompute(model, options, &run));
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, OpenEngine(model, &run, options));
  if (measures) WEIR_RETURN_IF_ERROR(MeasureLinksOf(*engine, model, options, &run.ceilings));
  return OpenedArm{std::move(run), std::move(engine)};
}

nlohmann::json ToJson(const WallSample& sample) {
  nlohmann::json json = {{"tokens", sample.tokens}, {"device", sample.device}};
  for (const Field& field : kFields) json[field.name] = sample.*field.value;
  return json;
}

absl::StatusOr<WallSample> WallSampleFrom(const nlohmann::json& json) {
  const absl::Status broken = absl::DataLossError("the journal has a sample that makes no sense");
  if (!json.is_object()) return broken;
  WallSample sample;
  const auto tokens = json.find("tokens");
  if (tokens == json.end() || !tokens->is_array() || !GetMember(json, "device", &sample.device)) {
    return broken;
  }
  for (const nlohmann::json& token : *tokens) {
    if (!token.is_number_integer()) return broken;
    sample.tokens.push_back(token.get<TokenId>());
  }
  for (const Field& field : kFields) {
    if (!GetMember(json, field.name, &(sample.*field.value))) return broken;
  }
  return sample;
}

absl::StatusOr<WallSample> MeasureArm(const Model& model, const WallArmSpec& arm,
                                      absl::Span<const TokenId> prompt, uint32_t tokens,
                                      std::string* trace) {
  const ContextNeeds needs = NeedsOf(prompt, tokens);
  WEIR_ASSIGN_OR_RETURN(OpenedArm opened, OpenArm(model, arm.options, needs, /*measures=*/true));
  Engine& engine = *opened.engine;
  const std::unique_ptr<Session> session = engine.NewSession();
  Sampler sampler({.temperature = 0}, model.config.vocabulary);
  std::optional<SchedulerStats> at_first;
  WEIR_ASSIGN_OR_RETURN(const Generation made,
                        Generate(engine, *session, sampler, *model.tokenizer, prompt,
                                 {.max_tokens = tokens + 1, .ignore_end = true}, [&](TokenId) {
                                   if (!at_first.has_value()) at_first = engine.stats().scheduler;
                                   return absl::OkStatus();
                                 }));
  if (made.stop == Generation::Stop::kInterrupted) {
    return WithExitCode(InterruptExitCode(), absl::CancelledError("interrupted"));
  }
  if (trace != nullptr && engine.trace() != nullptr) {
    *trace = engine.trace()->ToPerfettoJson(engine.program(),
                                            TraceProcess(opened.run.device.is_emulated()));
  }
  WallSample sample;
  sample.tokens = made.tokens;
  sample.device = engine.device_name();
  sample.weight_bytes = static_cast<double>(engine.program().payload_bytes());
  FillTimes(*at_first, engine.stats().scheduler, made.decode_s, &sample);
  WEIR_RETURN_IF_ERROR(MeasureDiskAgain(model, arm.options, &opened));
  FillRates(opened.run.ceilings, made, &sample);
  const Prediction predicted = PredictPlan(engine.program(), engine.plan(), opened.run.ceilings);
  sample.predicted_tokens_per_s = predicted.decode_tokens_per_s;
  sample.compute_s = predicted.compute_s;
  return sample;
}

}  // namespace weir
