// From a planned run to an engine that can run it.
#ifndef WEIR_TOOLS_OPEN_ENGINE_H_
#define WEIR_TOOLS_OPEN_ENGINE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "tools/model_options.h"
#include "tools/planned_run.h"

namespace weir {

// The plan moves in. Prints what differs from what was asked to stderr: buffered reads, threads
// instead of io_uring, the CPU instead of a GPU; and that an accelerator is an emulated one. While
// the engine runs, long work reports progress there.
absl::StatusOr<std::unique_ptr<Engine>> OpenEngine(const Model& model, PlannedRun* run,
                                                   const ModelOptions& options);

}  // namespace weir

#endif  // WEIR_TOOLS_OPEN_ENGINE_H_
