// What it costs to bring a pass's weights by page faults: the files are mapped, and threads touch
// every page of every block in the program's order, as threads do that multiply weights where a
// mapping has them. The page cache is emptied of the files before, so that every page comes from
// disk, as it does in each pass over weights that are larger than the memory there is.
#ifndef WEIR_ENGINE_MAPPED_PROBE_H_
#define WEIR_ENGINE_MAPPED_PROBE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "tiering/program.h"

namespace weir {

struct MappedProbeResult {
  uint64_t bytes = 0;  // of the blocks, padding included
  double seconds = 0;
  // Of the files' pages, those that were in the page cache when it began, although it was emptied:
  // on a file system that has no other place for them all of them, and nothing was measured.
  double cached_share = 0;
};

// Blocks for as long as the pass takes; not interruptible meanwhile. `program` is of the model.
// Errors: a file that was changed or cannot be
// mapped.
absl::StatusOr<MappedProbeResult> ProbeMapped(const Model& model, const Program& program,
                                              uint32_t threads);

}  // namespace weir

#endif  // WEIR_ENGINE_MAPPED_PROBE_H_
