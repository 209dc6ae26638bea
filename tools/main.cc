// weir: one binary, a file for each subcommand (tools/cmd_*.cc).

#include <cstdio>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "kernels/isa.h"
#include "tools/cmd_bench.h"
#include "tools/cmd_chat.h"
#include "tools/cmd_eval.h"
#include "tools/cmd_inspect.h"
#include "tools/cmd_plan.h"
#include "tools/cmd_probe.h"
#include "tools/cmd_quantize.h"
#include "tools/cmd_run.h"
#include "tools/cmd_simulate.h"
#include "tools/cmd_synth.h"
#include "tools/cmd_tokenize.h"
#include "tools/cmd_wall.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/version.h"

int main(int argc, char** argv) {
  weir::CatchInterrupts();
  CLI::App app("weir: runs transformers that do not fit, from stock GGUF files read in place");
  app.set_version_flag("--version", [] { return weir::VersionText(); });
  app.require_subcommand(1);
  int exit_code = static_cast<int>(weir::ExitCode::kOk);
  weir::AddRunCommand(app, &exit_code);
  weir::AddChatCommand(app, &exit_code);
  weir::AddInspectCommand(app, &exit_code);
  weir::AddPlanCommand(app, &exit_code);
  weir::AddSimulateCommand(app, &exit_code);
  weir::AddTokenizeCommand(app, &exit_code);
  weir::AddEvalCommand(app, &exit_code);
  weir::AddProbeCommand(app, &exit_code);
  weir::AddBenchCommand(app, &exit_code);
  weir::AddWallCommand(app, &exit_code);
  weir::AddQuantizeCommand(app, &exit_code);
  weir::AddSynthCommand(app, &exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version come this way too, with code 0.
    if (error.get_exit_code() == 0) return app.exit(error);
    const std::vector<CLI::App*> chosen = app.get_subcommands();
    const std::string command = chosen.empty() ? "" : " " + chosen.front()->get_name();
    std::fprintf(stderr, "weir: %s. `weir%s --help` lists what there is\n", error.what(),
                 command.c_str());
    return static_cast<int>(weir::ExitCode::kUsage);
  }
  return exit_code;
}
