// The disk's rate to judge a run by: as `weir probe disk` saved it for this disk, or measured now
// in about a tenth of a second.
#ifndef WEIR_TOOLS_DISK_CEILING_H_
#define WEIR_TOOLS_DISK_CEILING_H_

#include <cstdint>
#include <string>

#include "io/file.h"

namespace weir {

// How the engine reads: the conditions under which a ceiling means something.
inline constexpr uint64_t kCeilingBlockBytes = 1 << 20;
inline constexpr uint32_t kCeilingDepth = 16;

// The file that `weir probe disk` keeps ceilings in; empty when there is no cache folder.
std::string CeilingsPath();

// Bytes per second; 0 when it could not be measured. `*note` tells where the figure comes from.
double DiskCeilingBytesPerS(const File& file, const std::string& reader, std::string* note);

}  // namespace weir

#endif  // WEIR_TOOLS_DISK_CEILING_H_
