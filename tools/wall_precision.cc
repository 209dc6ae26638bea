#include "tools/wall_precision.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/dtype.h"
#include "tools/exit_codes.h"
#include "tools/open_engine.h"
#include "tools/perplexity.h"
#include "tools/prompt.h"
#include "tools/quantize_model.h"
#include "tools/wall_arms.h"

namespace weir {
namespace {

// Plain English about what the project is named after; enough tokens to tell formats apart.
constexpr char kText[] =
    "A weir is a low wall across a river. It does not stop the water: it raises the level "
    "behind it and lets the rest flow over the top. Millers built weirs to have a steady "
    "stream for their wheels, and boatmen cursed them until someone added a lock. People who "
    "measure rivers like weirs for another reason. The height of the water above the edge "
    "tells how much of it passes, and a ruler on the bank is all they need to read it. When "
    "the snow melts in spring the river rises within hours, the sound of the falls can be "
    "heard from the village, and children come to watch branches and sometimes a whole tree "
    "slide over the edge. In a dry summer the wall stands bare, fish wait in the pool below, "
    "and anyone may cross on foot. A good weir serves both seasons. It keeps what is needed, "
    "passes on what is not, and never pretends that there is more water in the river than "
    "there is.";

absl::StatusOr<DType> DTypeNamed(const std::string& name) {
  const std::optional<DType> dtype = DTypeFromName(name);
  if (dtype.has_value()) return *dtype;
  return absl::InvalidArgumentError(absl::StrCat("no format is called ", name));
}

// What asks for more than there is, of disk or memory, is no failure of the wall.
absl::StatusOr<nlohmann::json> SkippedOr(const std::string& format, const absl::Status& status) {
  if (!absl::IsResourceExhausted(status)) return status;
  return nlohmann::json{{"format", format}, {"skipped", std::string(status.message())}};
}

absl::StatusOr<std::unique_ptr<Model>> ModelAs(const Model& model, const std::string& format,
                                               const PrecisionOptions& options) {
  WEIR_ASSIGN_OR_RETURN(const DType dtype, DTypeNamed(format));
  const std::string path =
      absl::StrCat(options.scratch_folder, "/weir-wall-", ::getpid(), "-", format, ".gguf");
  QuantizeOptions quantize;
  quantize.formats.matrices = dtype;
  quantize.overwrite = true;
  quantize.sync = true;  // what is still to be written would be read from memory
  quantize.threads = options.base.threads;
  quantize.isa = options.base.isa;
  WEIR_RETURN_IF_ERROR(QuantizeModel(model.path, path, quantize).status());
  absl::StatusOr<std::unique_ptr<Model>> made = LoadModel(path);
  std::remove(path.c_str());
  return made;
}

absl::StatusOr<double> Perplexity(const Model& model, ModelOptions options,
                                  const std::string& text) {
  std::vector<TokenId> tokens =
      model.tokenizer->Encode(text, {.add_special = true, .parse_special = false});
  const size_t most = model.config.context_length;
  if (most > 0 && tokens.size() > most) tokens.resize(most);
  if (tokens.size() < 2) {
    return WithExitCode(ExitCode::kUsage,
                        absl::InvalidArgumentError("--text: at least two tokens are needed"));
  }
  WEIR_ASSIGN_OR_RETURN(PlannedRun run,
                        PlanScoring(model, static_cast<uint32_t>(tokens.size()), &options));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(model, &run, options));
  WEIR_ASSIGN_OR_RETURN(const TextScore score, ScoreText(*engine, tokens, nullptr, nullptr));
  return score.perplexity();
}

absl::StatusOr<nlohmann::json> Measure(const Model& model, const std::string& format,
                                       const PrecisionOptions& options) {
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> made, ModelAs(model, format, options));
  WEIR_ASSIGN_OR_RETURN(const std::vector<TokenId> prompt,
                        EncodePrompt(*made, options.prompt, "", /*raw=*/true));
  WEIR_ASSIGN_OR_RETURN(const std::vector<WallArmSpec> arms,
                        WallArms(*made, options.base, NeedsOf(prompt, options.tokens)));
  WEIR_ASSIGN_OR_RETURN(const WallSample resident,
                        MeasureArm(*made, arms.front(), prompt, options.tokens));
  WEIR_ASSIGN_OR_RETURN(const WallSample on_disk,
                        MeasureArm(*made, FindArm(arms, kWallPipelined), prompt, options.tokens));
  WEIR_ASSIGN_OR_RETURN(
      const double perplexity,
      Perplexity(*made, options.base, options.text.empty() ? kText : options.text));
  return nlohmann::json{{"format", format},
                        {"bytes", resident.weight_bytes},
                        {"tokens_per_s", resident.tokens_per_s},
                        {"disk_tokens_per_s", on_disk.tokens_per_s},
                        {"perplexity", perplexity}};
}

}  // namespace

absl::StatusOr<nlohmann::json> MeasurePrecision(const Model& model, const std::string& format,
                                                const PrecisionOptions& options) {
  absl::StatusOr<nlohmann::json> row = Measure(model, format, options);
  if (row.ok()) return row;
  return SkippedOr(format, row.status());
}

std::vector<PrecisionLever> PrecisionRows(const std::vector<nlohmann::json>& rows,
                                          std::string* notes) {
  std::vector<PrecisionLever> levers;
  for (const nlohmann::json& row : rows) {
    if (!row.is_object()) continue;
    const std::string format = row.value("format", "?");
    if (row.contains("skipped")) {
      absl::StrAppend(notes, format, " was left out: ", row.value("skipped", ""), "\n");
      continue;
    }
    levers.push_back({.format = format,
                      .bytes = row.value("bytes", 0.0),
                      .tokens_per_s = row.value("tokens_per_s", 0.0),
                      .disk_tokens_per_s = row.value("disk_tokens_per_s", 0.0),
                      .perplexity = row.value("perplexity", 0.0)});
  }
  return levers;
}

}  // namespace weir
