// weir simulate: how fast a model would generate text on given hardware, disk faults included: the
// shipped scheduler on a simulated machine. No weight is read.
#ifndef WEIR_TOOLS_CMD_SIMULATE_H_
#define WEIR_TOOLS_CMD_SIMULATE_H_

#include "tools/cli_app.h"

namespace weir {

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's exit code.
void AddSimulateCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_SIMULATE_H_
