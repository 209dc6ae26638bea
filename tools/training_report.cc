#include "tools/training_report.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"

namespace weir {
namespace {

const char* LinkName(TrainingLink link) { return link == TrainingLink::kDisk ? "disk" : "dram"; }
const char* DirectionName(const TrainingFlow& flow) { return flow.is_write ? "write" : "read"; }
const char* PhaseName(TrainingPhase phase) {
  return phase == TrainingPhase::kForward ? "forward" : "backward";
}

std::string Bytes(double bytes) { return FormatBytes(static_cast<uint64_t>(bytes)); }

std::string FlowsToText(const TrainingReport& report) {
  std::string text =
      absl::StrFormat("%-28s %-9s %-5s %-6s %12s\n", "a step moves", "phase", "link", "", "bytes");
  double disk_bytes = 0;
  for (const TrainingFlow& flow : report.flows) {
    absl::StrAppendFormat(&text, "%-28s %-9s %-5s %-6s %12s\n", flow.what, PhaseName(flow.phase),
                          LinkName(flow.link), DirectionName(flow), Bytes(flow.bytes));
    if (flow.link == TrainingLink::kDisk) disk_bytes += flow.bytes;
  }
  absl::StrAppendFormat(&text,
                        "over the disk's link %s a step, whatever the tokens; activations %s a "
                        "token kept, %s recomputed\n",
                        Bytes(disk_bytes), Bytes(report.kept_bytes),
                        Bytes(report.recomputed_bytes));
  return text;
}

std::string MeasuredToText(const TrainingReport& report) {
  const TrainingProbeResult& measured = report.measured;
  std::string text = absl::StrFormat(
      "measured: a step of %d tokens with %.3g %% of the parameters, %s read, %s written\n"
      "%-10s %9s %9s %10s %10s %8s\n",
      measured.tokens, 100 * measured.scale, FormatBytes(measured.read_bytes),
      FormatBytes(measured.written_bytes), "", "disk, s", "compute, s", "predicted", "achieved",
      "error");
  const auto row = [&](const char* name, const PhaseTimes& predicted, double achieved_s) {
    absl::StrAppendFormat(&text, "%-10s %9.3f %9.3f %10.3f %10.3f %+6.1f %%\n", name,
                          predicted.disk_s, predicted.compute_s, predicted.total_s, achieved_s,
                          100 * (predicted.total_s / achieved_s - 1));
  };
  row("forward", measured.forward.predicted, measured.forward.achieved_s);
  row("backward", measured.backward.predicted, measured.backward.achieved_s);
  row("step", {measured.disk_s(), measured.compute_s(), measured.predicted_s()},
      measured.achieved_s());
  if (!measured.note.empty()) absl::StrAppend(&text, measured.note, "\n");
  return text;
}

nlohmann::json PhaseToJson(const MeasuredPhase& phase) {
  return {{"disk_s", phase.predicted.disk_s},
          {"compute_s", phase.predicted.compute_s},
          {"predicted_s", phase.predicted.total_s},
          {"achieved_s", phase.achieved_s}};
}

nlohmann::json MeasuredToJson(const TrainingProbeResult& measured) {
  return {{"scale", measured.scale},
          {"parameters", measured.parameters},
          {"tokens", measured.tokens},
          {"recomputes", measured.recomputes},
          {"scratch_bytes", measured.scratch_bytes},
          {"read_bytes", measured.read_bytes},
          {"written_bytes", measured.written_bytes},
          {"compute_s", measured.compute_s()},
          {"disk_s", measured.disk_s()},
          {"achieved_s", measured.achieved_s()},
          {"predicted_s", measured.predicted_s()},
          {"error", measured.error()},
          {"forward", PhaseToJson(measured.forward)},
          {"backward", PhaseToJson(measured.backward)},
          {"reader", measured.reader},
          {"direct", measured.is_direct},
          {"note", measured.note}};
}

nlohmann::json CeilingsToJson(const TrainingCeilings& ceilings) {
  return {{"read_bytes_per_s", ceilings.read_bytes_per_s},
          {"write_bytes_per_s", ceilings.write_bytes_per_s},
          {"mixed_bytes_per_s", ceilings.mixed_bytes_per_s},
          {"operations_per_s", ceilings.operations_per_s},
          {"update_parameters_per_s", ceilings.update_parameters_per_s},
          {"core_s_per_disk_byte", ceilings.core_s_per_disk_byte}};
}

}  // namespace

TrainingReport MakeTrainingReport(const TrainingShape& shape, TrainingProbeResult measured) {
  TrainingReport report;
  report.parameters = shape.parameters;
  report.flows = TrainingFlows(shape, measured.tokens, measured.recomputes);
  report.operations = OperationsOf(shape);
  report.kept_bytes = KeptActivationBytes(shape);
  report.recomputed_bytes = RecomputedActivationBytes(shape);
  report.prediction = PredictTraining(shape, measured.recomputes, measured.ceilings);
  const double units = measured.units / measured.scale;
  report.predicted_step_s =
      PredictStepSeconds(shape, measured.tokens, measured.recomputes, units, measured.ceilings);
  report.measured = std::move(measured);
  return report;
}

std::string TrainingSentence(const TrainingReport& report) {
  return absl::StrFormat(
      "A training step with everything on disk moves for %.3g s; arithmetic takes as long from "
      "%.0f "
      "tokens a step, and hides the disk in both directions from %.0f.\n",
      report.prediction.disk_s_per_step, report.prediction.break_even_tokens,
      report.prediction.hidden_tokens);
}

std::string TrainingToText(const TrainingReport& report) {
  const TrainingCeilings& ceilings = report.measured.ceilings;
  return absl::StrCat(
      absl::StrFormat("training %.3g parameters with Adam, all state on disk\n\n",
                      report.parameters),
      FlowsToText(report),
      absl::StrFormat("%.3g operations a token forward, %.3g backward, %.3g more where activations "
                      "are recomputed\n",
                      report.operations.forward, report.operations.backward,
                      report.operations.recompute),
      absl::StrFormat("measured ceilings: reading %.2f GB/s, writing %.2f, both at once %.2f "
                      "together; %.1f billion operations a second\n",
                      ceilings.read_bytes_per_s * 1e-9, ceilings.write_bytes_per_s * 1e-9,
                      ceilings.mixed_bytes_per_s * 1e-9, ceilings.operations_per_s * 1e-9),
      absl::StrFormat("a step of the whole model: %.3g s of disk, %.3g s of arithmetic a token; of "
                      "%d tokens %.3g s\n\n",
                      report.prediction.disk_s_per_step, report.prediction.compute_s_per_token,
                      report.measured.tokens, report.predicted_step_s),
      MeasuredToText(report), "\n", TrainingSentence(report));
}

nlohmann::json TrainingToJson(const TrainingReport& report) {
  nlohmann::json flows = nlohmann::json::array();
  for (const TrainingFlow& flow : report.flows) {
    flows.push_back({{"what", flow.what},
                     {"link", LinkName(flow.link)},
                     {"direction", DirectionName(flow)},
                     {"phase", PhaseName(flow.phase)},
                     {"bytes", flow.bytes}});
  }
  return {{"parameters", report.parameters},
          {"flows", std::move(flows)},
          {"operations_per_token", report.operations.forward + report.operations.backward},
          {"recompute_operations_per_token", report.operations.recompute},
          {"activations",
           {{"keep_bytes_per_token", report.kept_bytes},
            {"recompute_bytes_per_token", report.recomputed_bytes}}},
          {"ceilings", CeilingsToJson(report.measured.ceilings)},
          {"disk_s_per_step", report.prediction.disk_s_per_step},
          {"compute_s_per_token", report.prediction.compute_s_per_token},
          {"break_even_tokens", report.prediction.break_even_tokens},
          {"hidden_tokens", report.prediction.hidden_tokens},
          {"predicted_step_s", report.predicted_step_s},
          {"sentence", TrainingSentence(report)},
          {"measured", MeasuredToJson(report.measured)}};
}

}  // namespace weir
