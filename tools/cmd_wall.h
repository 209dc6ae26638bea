// `weir wall MODEL`: the same tokens with all parameters resident, with parts and with all of them
// on disk, read ahead and literally; and passes of more and more tokens.
#ifndef WEIR_TOOLS_CMD_WALL_H_
#define WEIR_TOOLS_CMD_WALL_H_

#include "tools/cli_app.h"

namespace weir {

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's exit code.
void AddWallCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_WALL_H_
