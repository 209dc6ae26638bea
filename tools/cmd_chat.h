// weir chat: a conversation on the terminal; the KV pages of earlier turns are kept.
#ifndef WEIR_TOOLS_CMD_CHAT_H_
#define WEIR_TOOLS_CMD_CHAT_H_

#include "tools/cli_app.h"

namespace weir {

// Adds the subcommand; when it is chosen, `*exit_code` becomes the process's exit code.
void AddChatCommand(CLI::App& app, int* exit_code);

}  // namespace weir

#endif  // WEIR_TOOLS_CMD_CHAT_H_
