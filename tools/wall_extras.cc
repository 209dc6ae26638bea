#include "tools/wall_extras.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "tools/cmd_probe_all.h"
#include "tools/exit_codes.h"
#include "tools/measure_levers.h"
#include "tools/measure_training.h"
#include "tools/wall_arms.h"
#include "tools/wall_precision.h"

namespace weir {
namespace {

using Json = nlohmann::json;

constexpr char kHierarchyKey[] = "hierarchy";
constexpr char kTrainingKey[] = "training";
constexpr char kLeversKey[] = "levers";
constexpr double kHierarchyS = 25;
constexpr double kGuessedTrainingS = 20;
constexpr double kGuessedLeversS = 30;
constexpr double kGuessedQuantizedBytesPerS = 0.15e9;

std::string PrecisionKey(const char* format) { return absl::StrCat("precision ", format); }

Json SectionJson(std::string text, Json json) {
  return {{"text", std::move(text)}, {"json", std::move(json)}};
}

absl::StatusOr<Json> Hierarchy(const Model& model, const WallExtras& extras) {
  ProbeAllOptions options;
  options.file = model.path;
  options.device = extras.base.device.device;
  options.seconds = kHierarchyS;
  options.is_quiet = true;
  WEIR_ASSIGN_OR_RETURN(const MachineProbe probe, MeasureMachine(options, nullptr, nullptr));
  return SectionJson(MachineProbeToText(probe), MachineProbeToJson(probe));
}

absl::StatusOr<Json> Training(const Model& model, const WallExtras& extras,
                              const std::string& scratch_folder) {
  TrainingMeasureOptions options;
  options.scratch_folder = scratch_folder;
  options.threads = ThreadsFrom(extras.base);
  options.isa = extras.base.isa;
  absl::StatusOr<TrainingReport> report = MeasureTraining(model, options, nullptr);
  // Room for a scratch file is not what the wall is about.
  if (absl::IsResourceExhausted(report.status())) {
    return SectionJson(absl::StrCat("training was left out: ", report.status().message(), "\n"),
                       Json());
  }
  if (!report.ok()) return report.status();
  return SectionJson(TrainingToText(*report), TrainingToJson(*report));
}

// What the link to the accelerator delivers, through the memory of a run; 0 on the CPU.
absl::StatusOr<double> LinkBytesPerS(const Model& model, const ModelOptions& base) {
  if (base.device.device == "cpu") return 0.0;
  const ContextNeeds needs = {.min_context_tokens = 2, .prompt_tokens = 1};
  WEIR_ASSIGN_OR_RETURN(const std::vector<WallArmSpec> arms, WallArms(model, base, needs));
  const WallArmSpec& arm = FindArm(arms, kWallPipelined);
  WEIR_ASSIGN_OR_RETURN(const OpenedArm opened,
                        OpenArm(model, arm.options, needs, /*measures=*/true));
  return opened.run.ceilings.link_bytes_per_s;
}

absl::StatusOr<Json> Levers(const Model& model, const WallExtras& extras) {
  LeverOptions options;
  options.threads = ThreadsFrom(extras.base);
  options.isa = extras.base.isa;
  WEIR_ASSIGN_OR_RETURN(options.link_bytes_per_s, LinkBytesPerS(model, extras.base));
  options.link = extras.base.device.device;
  WEIR_ASSIGN_OR_RETURN(const LeversReport report, MeasureLevers(model, options, nullptr));
  return SectionJson(LeversToText(report), LeversToJson(report));
}

WallSection Section(const char* name, const Json& value) {
  return {name, value.value("text", ""), value.value("json", Json())};
}

}  // namespace

bool IsSkipped(const WallExtras& extras, const char* part) {
  return std::find(extras.skipped.begin(), extras.skipped.end(), part) != extras.skipped.end();
}

absl::StatusOr<std::vector<WallStep>> ExtraSteps(const Model& model, const WallExtras& extras) {
  std::vector<WallStep> steps;
  if (!IsSkipped(extras, "hierarchy")) {
    steps.push_back({kHierarchyKey, kHierarchyKey, 1.5 * kHierarchyS,
                     [&] { return Hierarchy(model, extras); }});
  }
  if (!IsSkipped(extras, "levers")) {
    steps.push_back(
        {kLeversKey, kLeversKey, kGuessedLeversS, [&] { return Levers(model, extras); }});
  }
  if (IsSkipped(extras, "training") && IsSkipped(extras, "precision")) return steps;
  if (!extras.scratch.empty() && ::access(extras.scratch.c_str(), W_OK | X_OK) != 0) {
    return WithExitCode(
        ExitCode::kUsage,
        absl::FailedPreconditionError(absl::StrCat(
            "--scratch ", extras.scratch, ": no files can be made there: ", std::strerror(errno))));
  }
  const absl::StatusOr<std::string> folder = ChooseScratchFolder(extras.scratch, model);
  if (!folder.ok()) {
    if (!extras.scratch.empty()) return folder.status();
    std::fprintf(stderr, "weir: training and precision are left out: %s\n",
                 std::string(folder.status().message()).c_str());
    return steps;
  }
  if (!IsSkipped(extras, "training")) {
    steps.push_back(
        {kTrainingKey, kTrainingKey, kGuessedTrainingS,
         [&model, &extras, folder = *folder] { return Training(model, extras, folder); }});
  }
  if (IsSkipped(extras, "precision")) return steps;
  for (const char* format : kPrecisionFormats) {
    steps.push_back({PrecisionKey(format), PrecisionKey(format),
                     static_cast<double>(model.index.tensor_bytes()) / kGuessedQuantizedBytesPerS,
                     [&model, &extras, folder = *folder, format] {
                       return MeasurePrecision(model, format,
                                               {.base = extras.base,
                                                .scratch_folder = folder,
                                                .prompt = extras.prompt,
                                                .tokens = extras.tokens,
                                                .text = extras.text});
                     }});
  }
  return steps;
}

std::vector<WallSection> ExtraSections(const std::map<std::string, Json>& values) {
  std::vector<WallSection> sections;
  if (const auto found = values.find(kHierarchyKey); found != values.end()) {
    sections.push_back(Section("hierarchy", found->second));
  }
  if (const auto found = values.find(kTrainingKey); found != values.end()) {
    sections.push_back(Section("training", found->second));
  }
  WallSection levers = {.name = "levers", .text = "", .json = Json::object()};
  if (const auto found = values.find(kLeversKey); found != values.end()) {
    levers = Section("levers", found->second);
  }
  std::vector<Json> rows;
  for (const char* format : kPrecisionFormats) {
    if (const auto found = values.find(PrecisionKey(format)); found != values.end()) {
      rows.push_back(found->second);
    }
  }
  std::string notes;
  LeversReport ladder;
  ladder.precision = PrecisionRows(rows, &notes);
  if (!rows.empty()) {
    levers.text = absl::StrCat(LeversToText(ladder), notes, levers.text);
    const Json found = LeversToJson(ladder);
    if (found.contains("precision")) levers.json["precision"] = found["precision"];
    if (found.contains("claims")) {
      for (const Json& claim : found["claims"]) levers.json["claims"].push_back(claim);
    }
  }
  if (!levers.text.empty()) sections.push_back(std::move(levers));
  return sections;
}

}  // namespace weir
