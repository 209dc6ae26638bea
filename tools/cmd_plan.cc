#include "tools/cmd_plan.h"

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "io/base.h"
#include "nlohmann/json.hpp"
#include "tools/exit_codes.h"
#include "tools/model_options.h"
#include "tools/output_file.h"
#include "tools/planned_run.h"
#include "tools/report.h"

namespace weir {
namespace {

void PrintRow(const std::string& what, uint64_t bytes, const std::string& note) {
  if (bytes == 0) return;
  std::printf("  %-34s %12s  %s\n", what.c_str(), FormatBytes(bytes).c_str(), note.c_str());
}

void PrintBudget(const char* tier, uint64_t bytes, uint64_t budget_bytes,
                 const std::optional<uint64_t>& floor_bytes) {
  const std::string least =
      floor_bytes ? absl::StrFormat(" (the least is %s)", FormatBytes(*floor_bytes)) : "";
  std::printf("%s: %s of a budget of %s%s\n", tier, FormatBytes(bytes).c_str(),
              FormatBytes(budget_bytes).c_str(), least.c_str());
}

void PrintRing(const char* what, uint32_t slots, uint64_t slot_bytes) {
  PrintRow(what, slots * slot_bytes,
           absl::StrFormat("%d slots of %s", slots, FormatBytes(slot_bytes)));
}

std::string ShareText(double share) {
  return absl::StrFormat("%.1f %% of the weights", 100 * share);
}

// The least budgets of the plan's shape; unknown of a plan that was saved.
struct Floors {
  std::optional<uint64_t> dram_bytes;
  std::optional<uint64_t> hbm_bytes;
};

Floors FloorsOf(const ModelPlan& made) {
  Floors floors;
  if (!made.options) return floors;
  const Program& program = made.transformer->program();
  if (!made.plan.accelerator) {
    floors.dram_bytes = FloorBytes(program, *made.options);
    return floors;
  }
  floors.dram_bytes = AcceleratorDramFloorBytes(program, *made.options);
  floors.hbm_bytes = HbmFloorBytes(program, *made.options);
  return floors;
}

std::string ContextText(const RunShape& shape) {
  std::string text = absl::StrFormat("context of %d tokens", shape.context_tokens);
  if (shape.kv == KvFormats{}) return text;
  return absl::StrCat(text, ", keys ", std::string(KvFormatName(shape.kv.keys)), ", values ",
                      std::string(KvFormatName(shape.kv.values)));
}

void PrintHbm(const Plan& plan, const WeightShares& shares, const Floors& floors,
              bool is_emulated) {
  const AcceleratorPlan& accelerator = *plan.accelerator;
  const DeviceOverheadBytes& overhead = accelerator.overhead;
  PrintBudget(is_emulated ? "HBM, emulated" : "HBM", accelerator.hbm_bytes(),
              accelerator.hbm_budget_bytes, floors.hbm_bytes);
  PrintRow("resident weights", accelerator.arena_bytes, ShareText(shares.device));
  PrintRing("ring for copied weights", accelerator.slots, accelerator.slot_bytes);
  PrintRow("KV pages", overhead.kv, ContextText(plan.shape));
  PrintRow("activations, logits", overhead.activations,
           absl::StrFormat("%d tokens a pass", plan.shape.chunk_tokens));
  PrintRow("norms and biases", overhead.small_tensors, "always resident");
  PrintRow("embedding rows and page tables", overhead.inputs, "");
  PrintRow("scratch of kernels", overhead.scratch, "");
}

void PrintDram(const Plan& plan, const WeightShares& shares, const Floors& floors) {
  PrintBudget("DRAM", plan.dram_bytes(), plan.dram_budget_bytes, floors.dram_bytes);
  PrintRow("resident weights", plan.resident_arena_bytes, ShareText(shares.host));
  PrintRing("ring for streamed weights", plan.slots, plan.slot_bytes);
  PrintRow("KV pages", plan.overhead.kv, ContextText(plan.shape));
  PrintRow("activations, logits, scratch", plan.overhead.activations,
           absl::StrFormat("%d tokens a pass", plan.shape.chunk_tokens));
  PrintRow("norms and biases", plan.overhead.small_tensors, "always resident");
  PrintRow("embedding rows in flight", plan.overhead.rows, "");
}

// What happens in every pass that makes a token.
void PrintTraffic(const Plan& plan, const PlanSummary& summary) {
  std::printf("Disk: %s read at every pass\n", FormatBytes(summary.streamed_read_bytes).c_str());
  if (!plan.accelerator) return;
  std::printf("Link: %s copied at every pass\n", FormatBytes(summary.copied_bytes).c_str());
  std::printf("CPU: %s multiplied in place, in passes of up to %u tokens\n",
              FormatBytes(summary.in_place_payload_bytes).c_str(),
              plan.accelerator->in_place_tokens);
}

void PrintPrediction(const PlannedRun& run, const std::string& disk_note) {
  const Plan& plan = run.made.plan;
  const Ceilings& ceilings = run.ceilings;
  const char* const here = run.device.is_emulated() ? "here, emulated" : "here";
  if (ceilings.disk_bytes_per_s > 0) {
    std::printf("Ceilings measured %s: disk %.2f GB/s (%s), compute %.2f GB/s of weights", here,
                ceilings.disk_bytes_per_s * 1e-9, disk_note.c_str(),
                ceilings.compute_bytes_per_s * 1e-9);
    if (plan.accelerator) {
      std::printf(", link %.2f GB/s, CPU %.2f GB/s of weights", ceilings.link_bytes_per_s * 1e-9,
                  ceilings.host_compute_bytes_per_s * 1e-9);
    }
    std::printf("\n");
  }
  const Prediction& p = plan.prediction;
  if (p.decode_tokens_per_s <= 0) {
    std::printf("Prediction: none (a ceiling could not be measured)\n");
    return;
  }
  std::printf("Prediction%s: %.2f tok/s while generating, bound by %s (per token: disk %.1f ms, ",
              run.device.is_emulated() ? ", emulated" : "", p.decode_tokens_per_s,
              p.bottleneck.c_str(), p.disk_s * 1e3);
  if (!plan.accelerator) {
    std::printf("compute %.1f ms)\n", p.compute_s * 1e3);
    return;
  }
  std::printf("link %.1f ms, compute %.1f ms, CPU %.1f ms)\n", p.link_s * 1e3, p.compute_s * 1e3,
              p.host_compute_s * 1e3);
}

// The plan, and what is known of it beside: derived fields, which reading ignores.
std::string JsonOf(const PlannedRun& run, const Floors& floors) {
  const std::string text = PlanToJson(run.made.transformer->program(), run.made.plan);
  nlohmann::json json = nlohmann::json::parse(text);
  json["emulated"] = run.device.is_emulated();
  if (floors.dram_bytes) json["dram_floor_bytes"] = *floors.dram_bytes;
  if (floors.hbm_bytes) json["accelerator"]["hbm_floor_bytes"] = *floors.hbm_bytes;
  return json.dump(1) + "\n";
}

absl::Status PlanCommand(const ModelOptions& options) {
  WEIR_ASSIGN_OR_RETURN(OutputFile json, OutputFile::Open(options.json_path));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(options));
  WEIR_ASSIGN_OR_RETURN(PlannedRun run, PlanFromOptions(*model, options, ContextNeeds()));
  WEIR_ASSIGN_OR_RETURN(const std::string disk_note, MeasureCeilings(*model, options, &run));
  const Plan& plan = run.made.plan;
  const Program& program = run.made.transformer->program();
  const PlanSummary summary = Summarise(program, plan);
  const WeightShares shares = SharesOf(summary);
  const Floors floors = FloorsOf(run.made);
  if (!run.device.note.empty()) std::fprintf(stderr, "weir: %s\n", run.device.note.c_str());
  if (options.json_path != "-") {
    std::printf("%s: %s of weights in %zu blocks of up to %s\n", model->path.c_str(),
                FormatBytes(program.payload_bytes()).c_str(), program.blocks.size() - 1,
                FormatBytes(program.max_memory_bytes()).c_str());
    if (plan.accelerator) PrintHbm(plan, shares, floors, run.device.is_emulated());
    PrintDram(plan, shares, floors);
    PrintTraffic(plan, summary);
    PrintPrediction(run, disk_note);
  }
  WEIR_RETURN_IF_ERROR(json.Write(JsonOf(run, floors)));
  return json.Close();
}

}  // namespace

void AddPlanCommand(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<ModelOptions>();
  CLI::App* command =
      app.add_subcommand("plan", "show where a model's bytes would live, and the speed to expect");
  AddPlanOptions(*command, options.get());
  AddDeviceOptions(*command, &options->device);
  command->callback([options, exit_code] { *exit_code = ReportStatus(PlanCommand(*options)); });
}

}  // namespace weir
