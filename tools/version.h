// What `weir --version` prints.
#ifndef WEIR_TOOLS_VERSION_H_
#define WEIR_TOOLS_VERSION_H_

#include <string>

namespace weir {

// Version, and the instruction set that kernels would use here.
std::string VersionText();

}  // namespace weir

#endif  // WEIR_TOOLS_VERSION_H_
