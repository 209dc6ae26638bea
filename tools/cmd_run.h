// weir run: a prompt in, generated text on stdout, the footer on stderr.
#ifndef WEIR_TOOLS_CMD_RUN_H_
#define WEIR_TOOLS_CMD_RUN_H_

#include "tools/cli_app.h"

namespace weir {

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's exit code.
void AddRunCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_RUN_H_
