// `weir inspect MODEL`: what a model file holds: metadata, tensors, bytes per layer and per format.
#ifndef WEIR_TOOLS_CMD_INSPECT_H_
#define WEIR_TOOLS_CMD_INSPECT_H_

#include <string>

#include "absl/status/status.h"
#include "models/tensor_index.h"
#include "tools/cli_app.h"

namespace weir {

struct InspectOptions {
  std::string model;
  std::string json;  // a file, or "-": standard output, in place of the text
  bool tensors = false;
};

// The text for a person. Works for any GGUF, also for one whose architecture cannot be run: the
// text says why.
std::string DescribeModel(const TensorIndex& index, bool with_tensors);
// The same as JSON: format, files, metadata (long arrays by length and first elements), tensors,
// layers, formats, totals, and "error" where the model cannot be run.
std::string ModelAsJson(const TensorIndex& index);

// Runs the command; the status carries its exit code.
absl::Status RunInspect(const InspectOptions& options);

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's exit code.
void AddInspectCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_INSPECT_H_
