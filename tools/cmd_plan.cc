#include "tools/cmd_plan.h"

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "io/base.h"
#include "tools/exit_codes.h"
#include "tools/model_options.h"
#include "tools/output_file.h"

namespace weir {
namespace {

constexpr uint32_t kTypicalPosition = 128;  // of the token that is predicted

void PrintRow(const std::string& what, uint64_t bytes, const std::string& note) {
  std::printf("  %-34s %12s  %s\n", what.c_str(), FormatBytes(bytes).c_str(), note.c_str());
}

void PrintDram(const Plan& plan, const PlanSummary& summary) {
  std::printf("DRAM: %s of a budget of %s\n", FormatBytes(plan.dram_bytes()).c_str(),
              FormatBytes(plan.dram_budget_bytes).c_str());
  PrintRow("resident weights", plan.resident_arena_bytes,
           absl::StrFormat("%.1f %% of the weights", 100 * summary.resident_share()));
  PrintRow("ring for streamed weights", plan.slots * plan.slot_bytes,
           absl::StrFormat("%d slots of %s", plan.slots, FormatBytes(plan.slot_bytes)));
  PrintRow("KV pages", plan.overhead.kv,
           absl::StrFormat("context of %d tokens", plan.shape.context_tokens));
  PrintRow("activations, logits, scratch", plan.overhead.activations,
           absl::StrFormat("%d tokens a pass", plan.shape.chunk_tokens));
  PrintRow("norms and biases", plan.overhead.small_tensors, "always resident");
  PrintRow("embedding rows in flight", plan.overhead.rows, "");
}

void PrintPrediction(const Plan& plan, const Ceilings& ceilings, const std::string& note) {
  const Prediction& p = plan.prediction;
  if (ceilings.disk_bytes_per_s > 0) {
    std::printf("Ceilings measured here: disk %.2f GB/s (%s), compute %.2f GB/s of weights\n",
                ceilings.disk_bytes_per_s * 1e-9, note.c_str(),
                ceilings.compute_bytes_per_s * 1e-9);
  }
  if (p.decode_tokens_per_s <= 0) {
    std::printf("Prediction: none (a ceiling could not be measured)\n");
    return;
  }
  std::printf(
      "Prediction: %.2f tok/s while generating, bound by %s (per token: disk %.1f ms, compute %.1f "
      "ms)\n",
      p.decode_tokens_per_s, p.bottleneck.c_str(), p.disk_s * 1e3, p.compute_s * 1e3);
}

absl::Status PlanCommand(const ModelOptions& options) {
  WEIR_ASSIGN_OR_RETURN(OutputFile json, OutputFile::Open(options.json_path));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(options));
  WEIR_ASSIGN_OR_RETURN(ModelPlan made, PlanFromOptions(*model, options, ContextNeeds()));
  WEIR_ASSIGN_OR_RETURN(const MeasuredCeilings measured,
                        MeasureCeilings(*model, options, kTypicalPosition, &made));
  const Plan& plan = made.plan;
  const Program& program = made.transformer->program();
  const PlanSummary summary = Summarise(program, plan);
  if (options.json_path != "-") {
    std::printf("%s: %s of weights in %zu blocks of up to %s\n", model->path.c_str(),
                FormatBytes(program.payload_bytes()).c_str(), program.blocks.size() - 1,
                FormatBytes(program.max_memory_bytes()).c_str());
    PrintDram(plan, summary);
    std::printf("Disk: %s read at every pass\n", FormatBytes(summary.streamed_read_bytes).c_str());
    PrintPrediction(plan, measured.ceilings, measured.disk_note);
  }
  WEIR_RETURN_IF_ERROR(json.Write(PlanToJson(program, plan) + "\n"));
  return json.Close();
}

}  // namespace

void AddPlanCommand(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<ModelOptions>();
  CLI::App* command =
      app.add_subcommand("plan", "show where a model's bytes would live, and the speed to expect");
  AddPlanOptions(*command, options.get());
  command->callback([options, exit_code] { *exit_code = ReportStatus(PlanCommand(*options)); });
}

}  // namespace weir
