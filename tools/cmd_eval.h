// weir eval: perplexity of a text, and on request the probability of every token or all logits.
#ifndef WEIR_TOOLS_CMD_EVAL_H_
#define WEIR_TOOLS_CMD_EVAL_H_

#include "tools/cli_app.h"

namespace weir {

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's exit code.
void AddEvalCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_EVAL_H_
