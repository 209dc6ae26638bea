// CLI11's command by name only, for headers: the library itself takes seconds to read, so that only
// the files that declare options include it.
#ifndef WEIR_TOOLS_CLI_APP_H_
#define WEIR_TOOLS_CLI_APP_H_

namespace CLI {  // NOLINT(readability-identifier-naming): the library's name
class App;
}  // namespace CLI

#endif  // WEIR_TOOLS_CLI_APP_H_
