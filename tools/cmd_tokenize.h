// `weir tokenize MODEL`: text to token ids as JSON, and back.
#ifndef WEIR_TOOLS_CMD_TOKENIZE_H_
#define WEIR_TOOLS_CMD_TOKENIZE_H_

#include <string>

#include "absl/status/statusor.h"
#include "models/tokenizer.h"
#include "tools/cli_app.h"

namespace weir {

struct TokenizeOptions {
  std::string model;  // a path or the name of a fetched model
  std::string text;
  std::string file;  // "-": standard input
  bool has_text = false;
  bool decode = false;            // JSON arrays of ids to text
  bool lines = false;             // each line of the input by itself
  bool no_special = false;        // no begin and end tokens
  bool no_parse_special = false;  // "<|im_end|>" in the text is text
};

// What the command prints for `input`.
absl::StatusOr<std::string> TokenizeInput(const Tokenizer& tokenizer,
                                          const TokenizeOptions& options, std::string_view input);

// Runs the command; the status carries its exit code.
absl::Status RunTokenize(const TokenizeOptions& options);

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's exit code.
void AddTokenizeCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_TOKENIZE_H_
