// weir bench: speed of prompt and generation over repetitions, with what every link did.
#ifndef WEIR_TOOLS_CMD_BENCH_H_
#define WEIR_TOOLS_CMD_BENCH_H_

#include "tools/cli_app.h"

namespace weir {

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's exit code.
void AddBenchCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_BENCH_H_
