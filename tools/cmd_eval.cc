#include "tools/cmd_eval.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "nlohmann/json.hpp"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/model_options.h"
#include "tools/open_engine.h"
#include "tools/output_file.h"
#include "tools/perplexity.h"
#include "tools/planned_run.h"
#include "tools/progress.h"

namespace weir {
namespace {

struct EvalOptions {
  ModelOptions model;
  std::string text_file;
  std::string ids_file;
  std::string per_token_path;
  std::string logits_path;
};

struct EvalOutputs {
  OutputFile json;
  OutputFile per_token;
  OutputFile logits;
};

absl::Status UsageError(const std::string& message) {
  return WithExitCode(ExitCode::kUsage, absl::InvalidArgumentError(message));
}

absl::StatusOr<std::vector<TokenId>> ParseIds(const std::string& text, const std::string& source) {
  const nlohmann::json array = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!array.is_array()) return UsageError(source + ": expected a JSON array of token ids");
  std::vector<TokenId> ids;
  for (const nlohmann::json& item : array) {
    if (!item.is_number_integer() || item.get<int64_t>() < 0 || item.get<int64_t>() > INT32_MAX) {
      return UsageError(absl::StrCat(source, ": item ", ids.size(), ": expected a token id"));
    }
    ids.push_back(item.get<TokenId>());
  }
  return ids;
}

absl::StatusOr<std::vector<TokenId>> InputTokens(const Model& model, const EvalOptions& options) {
  if (options.text_file.empty() == options.ids_file.empty()) {
    return UsageError("give a text with -f FILE, or token ids with --tokens FILE");
  }
  std::vector<TokenId> tokens;
  if (!options.ids_file.empty()) {
    WEIR_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(options.ids_file));
    WEIR_ASSIGN_OR_RETURN(tokens, ParseIds(text, options.ids_file));
  } else {
    WEIR_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(options.text_file));
    tokens = model.tokenizer->Encode(text, {.add_special = true, .parse_special = false});
  }
  if (tokens.size() < 2) return UsageError("a text of at least two tokens is needed");
  const uint64_t trained = model.config.context_length;
  if (trained == 0 || tokens.size() <= trained) return tokens;
  return WithExitCode(ExitCode::kContext,
                      absl::OutOfRangeError(absl::StrCat(
                          "the text has ", tokens.size(), " tokens, and ", model.path,
                          " was trained for a context of ", trained, ". Evaluate it in parts")));
}

absl::Status WriteToken(TokenId id, std::optional<double> log_probability,
                        std::optional<TokenId> top1, OutputFile* file) {
  if (!file->is_open()) return absl::OkStatus();
  const nlohmann::json line = {
      {"id", id},
      {"logprob",
       log_probability.has_value() ? nlohmann::json(*log_probability) : nlohmann::json()},
      {"top1", top1.has_value() ? nlohmann::json(*top1) : nlohmann::json()}};
  return file->Write(line.dump() + "\n");
}

absl::StatusOr<TextScore> Score(Engine& engine, const std::vector<TokenId>& tokens,
                                EvalOutputs* outputs) {
  ProgressLine progress("eval");
  WEIR_RETURN_IF_ERROR(WriteToken(tokens[0], std::nullopt, std::nullopt, &outputs->per_token));
  return ScoreText(
      engine, tokens,
      [outputs](const ScoredRow& row) -> absl::Status {
        if (outputs->logits.is_open()) {
          WEIR_RETURN_IF_ERROR(outputs->logits.Write(
              std::string_view(reinterpret_cast<const char*>(row.logits.data()),
                               row.logits.size() * sizeof(float))));
        }
        if (!row.next.has_value()) return absl::OkStatus();
        return WriteToken(*row.next, row.log_probability, row.top1, &outputs->per_token);
      },
      &progress);
}

absl::StatusOr<EvalOutputs> OpenOutputs(const EvalOptions& options) {
  WEIR_ASSIGN_OR_RETURN(OutputFile json, OutputFile::Open(options.model.json_path));
  WEIR_ASSIGN_OR_RETURN(OutputFile per_token, OutputFile::Open(options.per_token_path));
  WEIR_ASSIGN_OR_RETURN(OutputFile logits, OutputFile::Open(options.logits_path));
  return EvalOutputs{std::move(json), std::move(per_token), std::move(logits)};
}

absl::Status Eval(EvalOptions options) {
  WEIR_ASSIGN_OR_RETURN(EvalOutputs outputs, OpenOutputs(options));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(options.model));
  WEIR_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens, InputTokens(*model, options));
  const auto count = static_cast<uint32_t>(std::min<size_t>(tokens.size(), UINT32_MAX));
  WEIR_ASSIGN_OR_RETURN(PlannedRun run, PlanScoring(*model, count, &options.model));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                        OpenEngine(*model, &run, options.model));
  WEIR_ASSIGN_OR_RETURN(const TextScore score, Score(*engine, tokens, &outputs));
  const double top1_share =
      static_cast<double>(score.top1_hits) / static_cast<double>(score.tokens);
  if (options.model.json_path != "-") {
    std::printf("%s%zu tokens, perplexity %.4f (%.4f nats a token), top-1 %.2f %%\n",
                run.device.is_emulated() ? "emulated: " : "", tokens.size(), score.perplexity(),
                score.nats_per_token(), 100 * top1_share);
  }
  const nlohmann::json json = {{"model", model->path},
                               {"device", engine->device_name()},
                               {"emulated", run.device.is_emulated()},
                               {"tokens", tokens.size()},
                               {"scored", score.tokens},
                               {"perplexity", score.perplexity()},
                               {"nats_per_token", score.nats_per_token()},
                               {"top1_share", top1_share},
                               {"activations", options.model.activations}};
  WEIR_RETURN_IF_ERROR(outputs.json.Write(json.dump(1) + "\n"));
  WEIR_RETURN_IF_ERROR(outputs.json.Close());
  WEIR_RETURN_IF_ERROR(outputs.per_token.Close());
  return outputs.logits.Close();
}

}  // namespace

void AddEvalCommand(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand("eval", "perplexity of a text");
  AddRunOptions(*command, &options->model);
  command->add_option("-f,--file", options->text_file, "the text");
  command->add_option("--tokens", options->ids_file, "instead: a JSON array of token ids");
  command->add_option("--per-token", options->per_token_path,
                      "write one JSON line a token here: id, logprob, top1");
  command->add_option("--logits", options->logits_path,
                      "write all logits here: float32, [tokens, vocabulary]");
  command->callback([options, exit_code] { *exit_code = ReportStatus(Eval(*options)); });
}

}  // namespace weir
