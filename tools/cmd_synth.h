// `weir synth OUT.gguf`: writes a model of random weights, for benchmarks and tests.
#ifndef WEIR_TOOLS_CMD_SYNTH_H_
#define WEIR_TOOLS_CMD_SYNTH_H_

#include <string>

#include "absl/status/status.h"
#include "models/synthetic.h"
#include "tools/cli_app.h"

namespace weir {

struct SynthOptions {
  std::string output;
  SyntheticSpec spec;
  bool overwrite = false;
};

// Runs the command; the status carries its exit code.
absl::Status RunSynth(const SynthOptions& options);

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's exit code.
void AddSynthCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_SYNTH_H_
