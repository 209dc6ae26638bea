// weir plan: where the bytes of a model would live under a budget, and what speed that predicts;
// nothing runs.
#ifndef WEIR_TOOLS_CMD_PLAN_H_
#define WEIR_TOOLS_CMD_PLAN_H_

#include "tools/cli_app.h"

namespace weir {

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's exit code.
void AddPlanCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_PLAN_H_
