#include "tools/cmd_tokenize.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "models/gguf.h"
#include "tools/exit_codes.h"
#include "tools/model_path.h"
#include "tools/output_file.h"

namespace weir {
namespace {

std::string EncodeOne(const Tokenizer& tokenizer, const TokenizeOptions& options,
                      std::string_view text) {
  const std::vector<TokenId> ids = tokenizer.Encode(
      text, {.add_special = !options.no_special, .parse_special = !options.no_parse_special});
  std::string json = "[";
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) json += ',';
    json += std::to_string(ids[i]);
  }
  json += ']';
  return json;
}

absl::StatusOr<std::string> DecodeOne(const Tokenizer& tokenizer, std::string_view text,
                                      uint64_t line) {
  const auto bad = [&](std::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("line ", line, " of the ids to decode ", AbslView(what),
                     "; expected a JSON array of ids such as [1, 2, 3]"));
  };
  const nlohmann::json array = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (array.is_discarded()) return bad("is not JSON");
  if (!array.is_array()) return bad("is not an array");
  std::vector<TokenId> ids;
  for (const nlohmann::json& item : array) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() >= tokenizer.size()) {
      return bad(absl::StrCat("has the item ", item.dump(), ", which is no id of this model (0 to ",
                              tokenizer.size() - 1, ")"));
    }
    ids.push_back(static_cast<TokenId>(item.get<uint64_t>()));
  }
  return tokenizer.Decode(ids, /*show_special=*/true);
}

}  // namespace

absl::StatusOr<std::string> TokenizeInput(const Tokenizer& tokenizer,
                                          const TokenizeOptions& options, std::string_view input) {
  if (!options.lines) {
    if (options.decode) return DecodeOne(tokenizer, input, 1);
    return EncodeOne(tokenizer, options, input) + "\n";
  }
  std::string output;
  for (uint64_t line = 1; !input.empty(); ++line) {
    const size_t end = std::min(input.find('\n'), input.size());
    const std::string_view text = input.substr(0, end);
    if (options.decode) {
      WEIR_ASSIGN_OR_RETURN(const std::string decoded, DecodeOne(tokenizer, text, line));
      output += decoded;
    } else {
      output += EncodeOne(tokenizer, options, text);
    }
    output += '\n';
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  return output;
}

absl::Status RunTokenize(const TokenizeOptions& options) {
  absl::StatusOr<std::string> path = ResolveModel(options.model);
  if (!path.ok()) return WithExitCode(ExitCode::kBadModel, path.status());
  absl::StatusOr<TensorIndex> index = OpenGguf(*path);
  if (!index.ok()) return WithExitCode(ExitCode::kBadModel, index.status());
  const absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Make(index->metadata);
  if (!tokenizer.ok()) return WithExitCode(ExitCode::kBadModel, tokenizer.status());

  std::string input = options.text;
  if (!options.has_text) {
    absl::StatusOr<std::string> read = ReadTextFile(options.file.empty() ? "-" : options.file);
    if (!read.ok()) return WithExitCode(ExitCode::kUsage, read.status());
    input = *std::move(read);
  }
  const absl::StatusOr<std::string> output = TokenizeInput(**tokenizer, options, input);
  if (!output.ok()) return WithExitCode(ExitCode::kUsage, output.status());
  return PrintText(*output);
}

void AddTokenizeCommand(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = app.add_subcommand("tokenize", "Turn text into token ids (JSON), or back");
  command->add_option("model", options->model, "A GGUF file, or the name of a fetched model")
      ->required();
  CLI::Option* text = command->add_option(
      "text", options->text, "The text; without it and without -f, standard input is read");
  command
      ->add_option("-f,--file", options->file, "Read the text from this file (-: standard input)")
      ->excludes(text);
  command->add_flag("--decode", options->decode, "Turn a JSON array of ids into text");
  command->add_flag("--lines", options->lines, "Treat each line of the input by itself");
  command->add_flag("--no-special", options->no_special,
                    "Add no begin and end tokens, whatever the model's flags say");
  command->add_flag("--no-parse-special", options->no_parse_special,
                    "Take the texts of control tokens, such as <|im_end|>, as plain text");
  command->callback([options, text, exit_code] {
    options->has_text = text->count() > 0;
    *exit_code = ReportStatus(RunTokenize(*options));
  });
}

}  // namespace weir
