// `weir quantize MODEL OUT.gguf --format FORMAT`: the same model with its
// matrices in another format.
#ifndef WEIR_TOOLS_CMD_QUANTIZE_H_
#define WEIR_TOOLS_CMD_QUANTIZE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "tools/cli_app.h"

namespace weir {

// As given.
struct QuantizeArguments {
  std::string model;
  std::string output;
  std::string format;
  std::string output_format;     // empty: as `format`
  std::string embedding_format;  // likewise
  std::string isa;
  uint32_t threads = 0;
  bool overwrite = false;
};

// Runs the command; the status carries its exit code.
absl::Status RunQuantize(const QuantizeArguments& arguments);

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's
// exit code.
void AddQuantizeCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_QUANTIZE_H_
